import { CipherThreads, type CipherName, type Engine } from "../cipher/index.ts";
import type { KeyWrapper } from "../keywrap/index.ts";
import { isEncryptedLayer, isSealableMediaType } from "../layer/index.ts";
import { checkManifestSize, mediaTypes, type Descriptor, type ImageManifest, type Platform } from "../oci/index.ts";
import { bytesStream, readConfig, type CallOptions, type ContentStore, type CopyEvent } from "../store/index.ts";
import { digestOf, type Digest } from "../bytes/index.ts";
import { withoutBuildHistory } from "./build-history.ts";
import { carryLayer, isForeignLayer } from "./carry-layer.ts";
import { PipelineError } from "./errors.ts";
import { imagesOf, labelOf, readImageTree, type ManifestNode } from "./image-tree.ts";
import { LayerWork } from "./layer-work.ts";
import { foreseeProfile, requireProfile, type LintProfile } from "./lint-image.ts";
import { addressOf, type ImageReport, type LayerReport } from "./layer-report.ts";
import { finishImage, takingBackOnFailure, type Destination } from "./finish.ts";
import { rebuildImage } from "./rebuild.ts";
import { chosenInEach, type LayerChoice } from "./select-layers.ts";
import { transferSealed } from "./transfer-layer.ts";

export interface EncryptRequest {
  readonly from: ContentStore;
  readonly root: Descriptor;
  readonly to: Destination;
  readonly cipher: CipherName;
  /** At least one. */
  readonly wrappers: readonly KeyWrapper[];
  readonly layers?: LayerChoice | undefined;
  readonly platforms?: readonly Platform[] | undefined;
  readonly engine?: Engine | undefined;
  /** Convergent encryption under a tenant's secret of at least 32 bytes. */
  readonly convergentSecret?: Uint8Array | undefined;
  /** `padme` hides the exact sizes of layers, for at most 12 % more bytes; not with `convergentSecret`. */
  readonly padding?: "none" | "padme" | undefined;
  /** `strip` removes the build history from the configuration, which changes the image ID. */
  readonly history?: "keep" | "strip" | undefined;
  /** Refuses to move the name unless these readers would open the result. */
  readonly profile?: LintProfile | undefined;
  /** `plan` reads the source and decides, and writes nothing. */
  readonly mode?: "write" | "plan" | undefined;
  /** Layers at once; 3 unless told. */
  readonly concurrency?: number | undefined;
  readonly onProgress?: ((event: CopyEvent) => void) | undefined;
}

const defaultConcurrency = 4;
/** An RSA-4096 JWE of a layer's options in base64, rounded up; for the check before anything is uploaded. */
const bytesPerRecipient = 1400;

/**
 * Encrypts an image: the chosen layers of every platform, each under a key of its own, wrapped for all recipients. The
 * destination's name moves last, and what lies there is read back and compared.
 *
 * Throws `ERR_NO_RECIPIENT`, `ERR_ALREADY_ENCRYPTED`, `ERR_LAYER_CHOICE`, `ERR_LAYER_FOREIGN`, `ERR_LAYER_UNENCRYPTABLE`,
 * `ERR_PLATFORM_NOT_FOUND`, `ERR_MANIFEST_TOO_LARGE`, `ERR_POSTCONDITION`, and what the stores and wrappers throw.
 */
export async function encryptImage(request: EncryptRequest, options: CallOptions = {}): Promise<ImageReport> {
  const { from, root, to, wrappers, cipher, layers: choice = { kind: "all" } } = request;
  if (wrappers.length === 0)
    throw new PipelineError("ERR_NO_RECIPIENT", {
      message: "an image cannot be encrypted for nobody",
      hint: "name at least one recipient with -r",
    });
  const tree = await readImageTree({ store: from, root, platforms: request.platforms }, options);
  const images = imagesOf(tree);
  const chosen = chosenInEach(
    choice,
    images.map((node) => ({ layers: node.manifest.layers, where: nameOf(request, node) })),
  );
  const plans = new Map(
    await Promise.all(
      images.map(async (node, i) => [node.descriptor.digest, await planManifest(request, node, chosen[i] ?? new Set(), options)] as const),
    ),
  );
  if (![...plans.values()].some(({ positions }) => positions.size > 0)) {
    throw new PipelineError("ERR_LAYER_CHOICE", {
      message: `no layer of ${from.name} would be encrypted`,
      hint: "check --layer and --skip-base; an image that shall stay plain is copied with ociseal copy",
    });
  }
  const reports: LayerReport[] = [];

  if (request.mode === "plan") {
    for (const plan of plans.values()) reports.push(...plan.report(plan.node.manifest.layers, request));
    return { source: addressOf(root), result: addressOf(root), layers: reports, dryRun: true };
  }

  const abort = new AbortController();
  const signal = options.signal === undefined ? abort.signal : AbortSignal.any([options.signal, abort.signal]);
  const work = new LayerWork(request.concurrency ?? defaultConcurrency, () => abort.abort());
  const { engine, convergentSecret, onProgress, padding } = request;
  const transfer = { from, to: to.store, onProgress };
  const threads = new CipherThreads({ total: bytesToEncrypt([...plans.values()]) });

  /** By the digest of the ciphertext. */
  const plaintexts = new Map<Digest, Digest>();
  const rewrite = async (node: ManifestNode): Promise<ImageManifest | undefined> => {
    const plan = plans.get(node.descriptor.digest);
    if (plan === undefined) return undefined;
    if (plan.positions.size === 0 && request.history !== "strip") {
      reports.push(...plan.report(node.manifest.layers, request));
      return undefined;
    }
    const { manifest } = node;
    const config = await writeConfig(request, manifest.config, { signal });
    const layers = await work.map(manifest.layers, (layer, i) => {
      if (plan.positions.has(i)) {
        return work.run(async () => {
          const settings = { layer, cipher, wrappers, engine, convergentSecret, threads, padding };
          const { sealed, plaintext } = await transferSealed(transfer, settings, { signal });
          plaintexts.set(sealed.digest, plaintext);
          return sealed;
        });
      }
      return work.run(() => carryLayer({ from, to: to.store }, layer, { signal }));
    });
    reports.push(...plan.report(layers, request).map((report) => withPlaintext(report, plaintexts)));
    if (request.profile !== undefined) requireProfile(layers, request.profile, labelOf(node));
    return { ...manifest, config, layers };
  };

  try {
    return await takingBackOnFailure(to.store, async () => {
      const result = await rebuildImage({ from, to: to.store, tree, rewrite, onProgress }, { signal });
      await finishImage(to, result, reports, { signal });
      return { source: addressOf(root), result: addressOf(result), layers: reports, dryRun: false };
    });
  } finally {
    await threads.close();
  }
}

function withPlaintext(report: LayerReport, plaintexts: ReadonlyMap<Digest, Digest>): LayerReport {
  const plaintext = plaintexts.get(report.result.digest);
  return plaintext === undefined || plaintext === report.source.digest ? report : { ...report, plaintext };
}

/** Layers that stand in several manifests count once. */
function bytesToEncrypt(plans: readonly ManifestPlan[]): number {
  const layers = plans.flatMap(({ node, positions }) => node.manifest.layers.filter((_, i) => positions.has(i)));
  const sizes = new Map(layers.map(({ digest, size }) => [digest, size]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

interface ManifestPlan {
  readonly node: ManifestNode;
  /** Layers to encrypt. */
  readonly positions: ReadonlySet<number>;
  report(results: readonly Descriptor[], request: EncryptRequest): readonly LayerReport[];
}

function nameOf({ from }: EncryptRequest, node: ManifestNode): string {
  return `${from.name} (${labelOf(node)})`;
}

async function planManifest(
  request: EncryptRequest,
  node: ManifestNode,
  positions: ReadonlySet<number>,
  options: CallOptions,
): Promise<ManifestPlan> {
  const { manifest } = node;
  const where = nameOf(request, node);
  for (const i of positions) await checkEncryptable(request, manifest.layers[i], `layer ${i} of ${where}`, options);
  if (request.profile !== undefined) {
    const chosen = [...manifest.layers.entries()].filter(([i]) => positions.has(i));
    foreseeProfile(chosen, { profile: request.profile, wrappers: request.wrappers, image: labelOf(node) });
  }
  const annotationBytes = positions.size * request.wrappers.reduce((sum, { schemes }) => sum + schemes.length, 0) * bytesPerRecipient;
  checkManifestSize(
    { size: node.bytes.length + annotationBytes, layers: positions.size, recipients: request.wrappers.length, annotationBytes },
    `the encrypted manifest of ${where}`,
  );
  return {
    node,
    positions,
    report: (results, { cipher, wrappers }) =>
      manifest.layers.map((source, position) => {
        const common = { image: labelOf(node), position, source: addressOf(source), result: addressOf(results[position] ?? source) };
        return positions.has(position)
          ? { ...common, outcome: "encrypted", cipher, recipients: wrappers.map(({ name }) => name) }
          : { ...common, outcome: "kept", reason: reasonFor(request, source) };
      }),
  };
}

function reasonFor({ layers }: EncryptRequest, layer: Descriptor): string {
  const why = layers?.kind === "except" ? "of the base image" : "not chosen";
  return isForeignLayer(layer) ? `${why}, plain at its own URL` : why;
}

async function checkEncryptable(
  request: EncryptRequest,
  layer: Descriptor | undefined,
  where: string,
  options: CallOptions,
): Promise<void> {
  if (layer === undefined) return;
  if (isEncryptedLayer(layer)) {
    throw new PipelineError("ERR_ALREADY_ENCRYPTED", {
      message: `${where} is encrypted already`,
      hint: "add or change recipients with ociseal rewrap, or leave the layer out with --layer",
    });
  }
  if (!isSealableMediaType(layer.mediaType)) {
    throw new PipelineError("ERR_LAYER_UNENCRYPTABLE", {
      message: `${where} has media type ${layer.mediaType}, which has no encrypted counterpart`,
      hint: "only image layers can be encrypted; choose the others with --layer",
    });
  }
  if (isForeignLayer(layer) && !(await request.from.exists(layer, options))) {
    throw new PipelineError("ERR_LAYER_FOREIGN", {
      message: `${where} lives at a foreign URL and not in the source, so it cannot be encrypted`,
      hint: "it is public anyway; leave it out with --layer, so that it staying plain is your decision",
    });
  }
}

/** Docker configurations become OCI ones by type alone; the bytes, and so the image ID, stay. */
async function writeConfig(request: EncryptRequest, config: Descriptor, options: CallOptions): Promise<Descriptor> {
  const { from, to } = request;
  const mediaType = config.mediaType === mediaTypes.dockerConfig ? mediaTypes.config : config.mediaType;
  if (request.history !== "strip") {
    await to.store.push(config, () => from.fetch(config, options), options);
    return { ...config, mediaType };
  }
  const { bytes } = await readConfig(from, config, options);
  const stripped = withoutBuildHistory(bytes);
  const { data: _data, ...others } = config;
  const target = { ...others, mediaType, digest: digestOf(stripped), size: stripped.length };
  await to.store.push(target, async () => bytesStream(stripped), options);
  return target;
}
