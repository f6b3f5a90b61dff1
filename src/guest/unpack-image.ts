import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Digest } from "../bytes/index.ts";
import type { Descriptor, Platform } from "../oci/index.ts";
import { checkEncryptionMark } from "../layer/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { openRootfs, type Omissions, type Rootfs } from "./apply-layer.ts";
import { runtimeConfig } from "./bundle.ts";
import { compressionOf } from "./decompress.ts";
import { inflateLayer, inLayer, type PlainLayer } from "./inflate-layer.ts";
import { readImage, selectManifest, type OpenedImage } from "./open-image.ts";
import { Budget, limitsOf, type GivenLimits } from "./limits.ts";
import { OverlayLayers } from "./overlay-layers.ts";
import type { Ownership } from "./ownership.ts";
import type { SpecialsPolicy } from "./specials.ts";
import { withStaging } from "./staging.ts";
import { storing } from "./storage-error.ts";
import { TarReader, type TarSink } from "./tar-reader.ts";

/**
 * `rootfs`: the target is the root file system. `bundle`: the target has `rootfs` and `config.json`, for runc and crun.
 * `overlay`: the target has a folder per layer, `0` the lowest, for overlayfs, and `overlay.json` that says how to stack them.
 */
export type TreeOutput = "rootfs" | "bundle" | "overlay";

/** What happens while an image is unpacked. */
export type UnpackEvent =
  | { readonly kind: "layer-started"; readonly index: number; readonly layer: Descriptor }
  | { readonly kind: "layer-progress"; readonly index: number; readonly compressedBytes: number; readonly entries: number }
  | { readonly kind: "layer-done"; readonly index: number; readonly diffId: Digest };

export interface UnpackOptions extends CallOptions {
  readonly onEvent?: ((event: UnpackEvent) => void) | undefined;
}

/** What unpacking and pulling share. */
export interface TreeRequest {
  /** Path of the directory to make: absent or empty, its parent existing. */
  readonly target: string;
  readonly output: TreeOutput;
  readonly limits?: GivenLimits | undefined;
  /** `preserve` unless told. */
  readonly ownership?: Ownership | undefined;
  /** `require` unless told. */
  readonly specials?: SpecialsPolicy | undefined;
}

export interface UnpackRequest extends TreeRequest {
  readonly store: ContentReader;
  /** Of an image manifest, or of an index that has one for the platform. */
  readonly root: Descriptor;
  /** Chooses from an index, the host's unless told; when told, a single image must suit it too. */
  readonly platform?: Platform | undefined;
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

/** Opens a layer; whoever calls reads the stream to its end or destroys it. */
export type LayerSource = (layer: Descriptor, index: number) => Promise<PlainLayer>;

/**
 * Unpacks a plain image: everything is made in a private directory beside the target and put in place by one rename,
 * after every digest and diffID held. When it throws, nothing is left and the target is as it was.
 *
 * Throws the codes of this room, `ERR_MANIFEST_*`, `ERR_CONTENT_*` and those of the store.
 */
export async function unpackImage(request: UnpackRequest, options: UnpackOptions = {}): Promise<UnpackReport> {
  const { store } = request;
  const manifest = await selectManifest(store, request.root, request.platform, options);
  const image = await readImage(store, manifest, request.platform, options);
  for (const layer of image.manifest.layers) checkPlainLayer(layer);
  const source: LayerSource = async (layer) => {
    return { mediaType: layer.mediaType, stream: await store.fetch(layer, options), descriptor: () => layer };
  };
  return await unpackLayers({ ...request, image, source }, options);
}

/** Before anything is fetched: a layer that cannot be unpacked, or pretends to be plain. Throws `ERR_GUEST_LAYER_UNSUPPORTED`, `ERR_LAYER_MARK_MISSING`. */
export function checkPlainLayer(layer: Descriptor): void {
  checkEncryptionMark(layer);
  compressionOf(layer);
}

/** The part that plain and encrypted images share. */
export async function unpackLayers(
  request: TreeRequest & {
    readonly image: OpenedImage;
    readonly source: LayerSource;
    /** The last thing before the target is put in place. */
    readonly beforeCommit?: ((report: UnpackReport) => Promise<void>) | undefined;
  },
  options: UnpackOptions,
): Promise<UnpackReport> {
  const { image, output, target, ownership = { kind: "preserve" } } = request;
  const budget = new Budget(limitsOf(request.limits), { signal: options.signal });
  return await withStaging(target, async (staging) => {
    const top = join(staging.path, "image");
    const treePath = output === "bundle" ? join(top, "rootfs") : top;
    storing(`staging directory of ${target}`, () => mkdirSync(treePath, { recursive: true, mode: 0o700 }));
    const settings = { path: treePath, scratch: staging.path, budget, ownership, specials: request.specials ?? "require" };
    const omitted =
      output === "overlay"
        ? await unpackOverlay(new OverlayLayers(settings), top, request, budget, options)
        : await unpackFlat(openRootfs(settings), top, { ...request, ownership }, budget, options);
    const { entries, bytes } = budget;
    const report: UnpackReport = { target, output, layers: image.manifest.layers.length, entries, bytes, omitted };
    await request.beforeCommit?.(report);
    staging.commit("image");
    return report;
  });
}

type LayersRequest = Pick<TreeRequest, "output"> & { readonly image: OpenedImage; readonly source: LayerSource };

async function unpackFlat(
  rootfs: Rootfs,
  top: string,
  request: LayersRequest & { readonly ownership: Ownership },
  budget: Budget,
  options: UnpackOptions,
): Promise<Omissions> {
  const { image, source, output, ownership } = request;
  try {
    await applyLayers(rootfs, image, source, budget, options);
    if (output === "bundle") {
      const config = runtimeConfig({ config: image.config, tree: rootfs.tree, ownership, caller: callerIds() });
      // The bundle is 0700: files that are set-user-id must not be reachable by other users of the machine.
      writeJson(join(top, "config.json"), config);
    }
    storing("directories", () => rootfs.finish());
    return rootfs.omitted;
  } finally {
    rootfs.close();
  }
}

async function unpackOverlay(
  layers: OverlayLayers,
  top: string,
  request: LayersRequest,
  budget: Budget,
  options: UnpackOptions,
): Promise<Omissions> {
  const { image, source } = request;
  try {
    await applyLayers(layers, image, source, budget, options);
  } finally {
    layers.close();
  }
  const folders = image.config.rootfs.diff_ids.map((diffId, index) => ({ folder: String(index), diffId }));
  // overlayfs takes the highest first. Source: Linux, overlayfs.rst, "Multiple lower layers".
  writeJson(join(top, "overlay.json"), {
    version: 1,
    lowerdir: folders
      .map(({ folder }) => folder)
      .toReversed()
      .join(":"),
    layers: folders,
  });
  return layers.omitted;
}

function writeJson(path: string, value: unknown): void {
  storing("staging directory", () => writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`, { flag: "wx", mode: 0o600 }));
}

/** What layers are applied to, one after the other. */
type LayerSink = TarSink & { startLayer(): void; endLayer(): void };

async function applyLayers(
  sink: LayerSink,
  image: OpenedImage,
  source: LayerSource,
  budget: Budget,
  options: UnpackOptions,
): Promise<void> {
  for (const [index, layer] of image.manifest.layers.entries()) {
    options.onEvent?.({ kind: "layer-started", index, layer });
    const diffId = image.config.rootfs.diff_ids[index];
    if (diffId === undefined) continue;
    try {
      const plain = await source(layer, index);
      const reader = new TarReader(sink, budget.limits);
      sink.startLayer();
      await inflateLayer({
        plain,
        budget,
        diffId,
        progress: (compressedBytes) => options.onEvent?.({ kind: "layer-progress", index, compressedBytes, entries: budget.entries }),
        consume: (chunk) => reader.push(chunk),
      });
      reader.end();
      sink.endLayer();
      options.onEvent?.({ kind: "layer-done", index, diffId });
    } catch (error) {
      throw inLayer(error, index, layer);
    }
  }
}

function callerIds(): { uid: number; gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}
