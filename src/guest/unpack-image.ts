import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { collect, newHasher, type ByteStream, type Digest } from "../bytes/index.ts";
import { digestAlgorithmOf } from "../bytes/index.ts";
import { manifestLimits, parseImageConfig, parseManifest, type Descriptor, type ImageConfig, type ImageManifest } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { Rootfs, type Omissions } from "./apply-layer.ts";
import { runtimeConfig } from "./bundle.ts";
import { compressionOf, decompress } from "./decompress.ts";
import { GuestError } from "./errors.ts";
import { Budget, defaultUnpackLimits, type UnpackLimits } from "./limits.ts";
import type { Ownership } from "./ownership.ts";
import { Specials, type SpecialsPolicy } from "./specials.ts";
import { openStaging, storing } from "./staging.ts";
import { TarReader } from "./tar-reader.ts";

/** `rootfs`: the target is the root file system. `bundle`: the target has `rootfs` and `config.json`, for runc and crun. */
export type TreeOutput = "rootfs" | "bundle";

/** What happens while an image is unpacked. */
export type UnpackEvent =
  | { readonly kind: "layer-started"; readonly index: number; readonly layer: Descriptor }
  | { readonly kind: "layer-progress"; readonly index: number; readonly compressedBytes: number; readonly entries: number }
  | { readonly kind: "layer-done"; readonly index: number; readonly diffId: Digest };

export interface UnpackOptions extends CallOptions {
  readonly onEvent?: ((event: UnpackEvent) => void) | undefined;
}

export interface UnpackRequest {
  readonly store: ContentReader;
  /** Of an image manifest, not an index. */
  readonly root: Descriptor;
  /** Path of the directory to make: absent or empty, its parent existing. */
  readonly target: string;
  readonly output: TreeOutput;
  readonly limits?: Partial<UnpackLimits> | undefined;
  /** `preserve` unless told. */
  readonly ownership?: Ownership | undefined;
  /** `require` unless told. */
  readonly specials?: SpecialsPolicy | undefined;
}

/** What was made. */
export interface UnpackReport {
  readonly target: string;
  readonly output: TreeOutput;
  readonly layers: number;
  readonly entries: number;
  /** Logical bytes of all files of all layers. */
  readonly bytes: number;
  /** What the policy for special files left out; all zero unless it is `skip` or the unpack is rootless. */
  readonly omitted: Readonly<Omissions>;
}

/** Opens the stored, decrypted form of a layer: what its plain media type says. Reading it to its end verifies it. */
export interface PlainLayer {
  readonly mediaType: string;
  readonly stream: ByteStream;
}

export type LayerSource = (layer: Descriptor, index: number) => Promise<PlainLayer>;

/**
 * Unpacks a plain image: everything is made in a private directory beside the target and put in place by one rename,
 * after every digest and diffID held. When it throws, nothing is left and the target is as it was.
 *
 * Throws the codes of this room, `ERR_MANIFEST_*`, `ERR_CONTENT_*` and those of the store.
 */
export async function unpackImage(request: UnpackRequest, options: UnpackOptions = {}): Promise<UnpackReport> {
  const { store } = request;
  const image = await readImage(store, request.root, options);
  const source: LayerSource = async (layer) => {
    compressionOf(layer);
    return { mediaType: layer.mediaType, stream: await store.fetch(layer, options) };
  };
  return await unpackLayers({ ...request, image, source }, options);
}

/** A manifest and its configuration, both verified by their digests. */
export interface OpenedImage {
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
}

/** Fetches and parses manifest and configuration. Throws `ERR_MANIFEST_MALFORMED` also where layers and diffIDs do not pair. */
export async function readImage(store: ContentReader, root: Descriptor, options: CallOptions): Promise<OpenedImage> {
  const limits = { maxBytes: manifestLimits.maxBytes };
  const manifest = parseManifest(await collect(await store.fetch(root, options), { ...limits, subject: "manifest" }), root.mediaType);
  const config = parseImageConfig(
    await collect(await store.fetch(manifest.config, options), { ...limits, subject: "image configuration" }),
  );
  const layers = manifest.layers.length;
  const diffIds = config.rootfs.diff_ids.length;
  if (layers !== diffIds) {
    throw new GuestError("ERR_GUEST_CONFIG_REFUSED", {
      message: `the manifest has ${layers} layers, the image configuration ${diffIds} diff_ids`,
      hint: "the image was changed by something that does not follow the OCI image-spec; push it again",
    });
  }
  return { manifest, config };
}

/** The part that plain and encrypted images share. */
export async function unpackLayers(
  request: UnpackRequest & { readonly image: OpenedImage; readonly source: LayerSource },
  options: UnpackOptions,
): Promise<UnpackReport> {
  const { image, output, target, ownership = { kind: "preserve" } } = request;
  const budget = new Budget({ ...defaultUnpackLimits, ...definedOf(request.limits) }, { signal: options.signal });
  const staging = openStaging(target);
  try {
    const top = join(staging.path, "image");
    const rootfsPath = output === "bundle" ? join(top, "rootfs") : top;
    storing(`staging directory of ${target}`, () => mkdirSync(rootfsPath, { recursive: true, mode: 0o700 }));
    const helpers = new Specials(staging.path);
    try {
      const rootfs = new Rootfs({ path: rootfsPath, budget, ownership, specials: request.specials ?? "require", helpers });
      try {
        await applyLayers(rootfs, image, request.source, budget, options);
        if (output === "bundle") {
          const config = runtimeConfig({ config: image.config, tree: rootfs.tree, ownership, caller: callerIds() });
          // Mode 0700: files that are set-user-id must not be reachable by other users of the machine.
          storing("bundle", () =>
            writeFileSync(join(top, "config.json"), `${JSON.stringify(config, undefined, 2)}\n`, { flag: "wx", mode: 0o600 }),
          );
        }
        storing("directories", () => rootfs.finish());
        staging.commit("image");
        return {
          target,
          output,
          layers: image.manifest.layers.length,
          entries: budget.entries,
          bytes: budget.bytes,
          omitted: rootfs.omitted,
        };
      } finally {
        rootfs.close();
      }
    } finally {
      helpers.close();
    }
  } finally {
    staging.discard();
  }
}

async function applyLayers(rootfs: Rootfs, image: OpenedImage, source: LayerSource, budget: Budget, options: UnpackOptions): Promise<void> {
  for (const [index, layer] of image.manifest.layers.entries()) {
    options.onEvent?.({ kind: "layer-started", index, layer });
    const expected = image.config.rootfs.diff_ids[index];
    if (expected === undefined) continue;
    try {
      const plain = await source(layer, index);
      const diffId = await applyLayer(rootfs, plain, budget, expected, (compressedBytes) =>
        options.onEvent?.({ kind: "layer-progress", index, compressedBytes, entries: budget.entries }),
      );
      options.onEvent?.({ kind: "layer-done", index, diffId });
    } catch (error) {
      throw inLayer(error, index, layer);
    }
  }
}

/** Reads one layer to its end: inflates, hashes and applies. Throws `ERR_GUEST_DIFF_ID_MISMATCH`. */
async function applyLayer(
  rootfs: Rootfs,
  plain: PlainLayer,
  budget: Budget,
  expected: Digest,
  progress: (compressedBytes: number) => void,
): Promise<Digest> {
  const { stream } = plain;
  let compressed = 0;
  let uncompressed = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      compressed += chunk.length;
      progress(compressed);
      yield chunk;
    }
  }
  try {
    const hasher = newHasher(digestAlgorithmOf(expected));
    const reader = new TarReader(rootfs, budget.limits);
    rootfs.startLayer();
    for await (const chunk of decompress(compressionOf(plain), counted(), budget.limits)) {
      uncompressed += chunk.length;
      budget.checkTime();
      budget.checkRatio(compressed, uncompressed);
      hasher.update(chunk);
      reader.push(chunk);
    }
    reader.end();
    rootfs.endLayer();
    const got = hasher.digest();
    if (got !== expected) {
      throw new GuestError("ERR_GUEST_DIFF_ID_MISMATCH", {
        message: `the uncompressed layer does not match its diffID (expected ${expected}, got ${got})`,
        hint: "the configuration does not belong to these layers, or a layer was decrypted with another key; build or encrypt the image again",
      });
    }
    return got;
  } finally {
    stream.destroy();
  }
}

/** The members that are set: an absent limit means the default, never no limit. */
function definedOf(limits: Partial<UnpackLimits> | undefined): Partial<UnpackLimits> {
  return Object.fromEntries(Object.entries(limits ?? {}).filter(([, value]) => value !== undefined));
}

/** Adds to an error of this room in which layer it happened; others already say what they are about. */
function inLayer(error: unknown, index: number, layer: Descriptor): unknown {
  if (!(error instanceof GuestError)) return error;
  return new GuestError(error.code, {
    message: `layer ${index + 1}: ${error.message}`,
    hint: error.hint,
    details: { ...error.details, layer: index, digest: layer.digest },
    cause: error,
  });
}

function callerIds(): { uid: number; gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}
