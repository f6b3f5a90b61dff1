import type { Digest } from "../bytes/index.ts";
import { CipherThreads, type Engine } from "../cipher/index.ts";
import type { KeyUnwrapper } from "../keywrap/index.ts";
import {
  checkEncryptionMark,
  describeEncryption,
  isEncryptedLayer,
  isSealableMediaType,
  openLayer,
  type OpenedLayer,
  type OpenRequest,
} from "../layer/index.ts";
import { mediaTypes, type Descriptor, type ImageManifest, type Platform } from "../oci/index.ts";
import { readConfig, type CallOptions, type ContentStore, type CopyEvent } from "../store/index.ts";
import { carryLayer } from "./carry-layer.ts";
import { PipelineError } from "./errors.ts";
import { finishImage, takingBackOnFailure, type Destination } from "./finish.ts";
import { imagesOf, labelOf, readImageTree, type ManifestNode } from "./image-tree.ts";
import { LayerWork } from "./layer-work.ts";
import { addressOf, type ImageReport, type LayerReport } from "./layer-report.ts";
import { checkDiffId, compareDiffId } from "./diff-id.ts";
import { rebuildImage } from "./rebuild.ts";
import { transferOpened } from "./transfer-layer.ts";

export interface DecryptRequest {
  readonly from: ContentStore;
  readonly root: Descriptor;
  readonly to: Destination;
  readonly unwrappers: readonly KeyUnwrapper[];
  readonly platforms?: readonly Platform[] | undefined;
  readonly engine?: Engine | undefined;
  readonly mode?: "write" | "plan" | undefined;
  /** Layers at once; 3 unless told. */
  readonly concurrency?: number | undefined;
  readonly onProgress?: ((event: CopyEvent) => void) | undefined;
}

const defaultConcurrency = 4;

/**
 * Decrypts an image, every layer of it. Each is verified whole before it gets its name, and compared with the diffID of
 * the image configuration; the destination's name moves last.
 *
 * Throws `ERR_NOT_ENCRYPTED`, `ERR_DIFF_ID_MISMATCH`, what `openLayer` throws, and what the stores throw.
 */
export async function decryptImage(request: DecryptRequest, options: CallOptions = {}): Promise<ImageReport> {
  const { from, root, to, unwrappers, engine, onProgress } = request;
  const tree = await readImageTree({ store: from, root, platforms: request.platforms }, options);
  const images = imagesOf(tree);
  for (const { manifest } of images) for (const layer of manifest.layers) checkEncryptionMark(layer);
  if (!images.some(({ manifest }) => manifest.layers.some(isEncryptedLayer))) {
    throw new PipelineError("ERR_NOT_ENCRYPTED", { message: `no layer of ${from.name} is encrypted`, hint: "copy it with ociseal copy" });
  }
  const reports: LayerReport[] = [];
  if (request.mode === "plan") {
    for (const node of images) reports.push(...reportOf(node, node.manifest.layers));
    return { source: addressOf(root), result: addressOf(root), layers: reports, dryRun: true };
  }

  const abort = new AbortController();
  const signal = options.signal === undefined ? abort.signal : AbortSignal.any([options.signal, abort.signal]);
  const work = new LayerWork(request.concurrency ?? defaultConcurrency, () => abort.abort());
  const transfer = { from, to: to.store, onProgress };
  // Every key is at hand before anything is written: whoever lacks one leaves nothing behind.
  const threads = new CipherThreads({ total: encryptedBytes(images) });
  const opened = await openAll(images, { unwrappers, engine, threads }, { signal });

  // A layer that stands in several places is decrypted once, so it must be the same in all of them.
  const diffIdOf = new Map<string, Digest>();

  const rewrite = async (node: ManifestNode): Promise<ImageManifest | undefined> => {
    const { manifest } = node;
    const isPlain = !manifest.layers.some(isEncryptedLayer);
    if (isPlain) reports.push(...reportOf(node, manifest.layers));
    // An artifact has no layers of an image that could be ciphertext without its marks.
    if (isPlain && !isImage(manifest)) return undefined;
    const { config } = await readConfig(from, manifest.config, { signal });
    const diffIds = config.rootfs.diff_ids;
    if (diffIds.length !== manifest.layers.length) {
      throw new PipelineError("ERR_DIFF_ID_MISMATCH", {
        message: `${from.name} (${labelOf(node)}) has ${manifest.layers.length} layers, and its configuration names ${diffIds.length}`,
        hint: "layers were added or removed after the image was built; ask the image's owner",
      });
    }
    await to.store.push(manifest.config, () => from.fetch(manifest.config, { signal }), { signal });
    for (const [i, layer] of manifest.layers.entries()) {
      const diffId = diffIds[i];
      if (diffId === undefined || !isEncryptedLayer(layer)) continue;
      compareDiffId(diffId, diffIdOf.get(layer.digest) ?? diffId, `layer ${i} of ${from.name} (${labelOf(node)})`);
      diffIdOf.set(layer.digest, diffId);
    }
    const layers = await work.map(manifest.layers, (layer, i) => {
      const where = `layer ${i} of ${from.name} (${labelOf(node)})`;
      const diffId = diffIds[i];
      const key = opened.get(layer);
      if (key === undefined || diffId === undefined) {
        // A layer whose mark and annotations were cut off looks plain; the configuration still knows what it was.
        const check = diffId === undefined ? undefined : checkDiffId(layer.mediaType, diffId, where);
        return work.run(() => carryLayer({ from, to: to.store }, layer, { signal }, check));
      }
      return work.run(() =>
        transferOpened(transfer, { layer, opened: key, checkDiffId: (got) => compareDiffId(diffId, got, where) }, { signal }),
      );
    });
    if (isPlain) return undefined;
    reports.push(...reportOf(node, layers));
    return { ...manifest, layers };
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

function isImage({ config, layers }: ImageManifest): boolean {
  const isConfig = config.mediaType === mediaTypes.config || config.mediaType === mediaTypes.dockerConfig;
  return isConfig && layers.every(({ mediaType }) => isSealableMediaType(mediaType));
}

/** Layers that stand in several manifests count once. */
function encryptedBytes(images: readonly ManifestNode[]): number {
  const layers = images.flatMap(({ manifest }) => manifest.layers.filter(isEncryptedLayer));
  const sizes = new Map(layers.map(({ digest, size }) => [digest, size]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

async function openAll(
  images: readonly ManifestNode[],
  request: Omit<OpenRequest, "layer">,
  options: CallOptions,
): Promise<ReadonlyMap<Descriptor, OpenedLayer>> {
  const opened = new Map<Descriptor, OpenedLayer>();
  for (const { manifest } of images) {
    for (const layer of manifest.layers) if (isEncryptedLayer(layer)) opened.set(layer, await openLayer({ ...request, layer }, options));
  }
  return opened;
}

function reportOf(node: ManifestNode, results: readonly Descriptor[]): readonly LayerReport[] {
  return node.manifest.layers.map((source, position) => {
    const common = { image: labelOf(node), position, source: addressOf(source), result: addressOf(results[position] ?? source) };
    if (!isEncryptedLayer(source)) return { ...common, outcome: "kept", reason: "not encrypted" };
    const cipher = describeEncryption(source)?.cipher;
    return { ...common, outcome: "decrypted", ...(cipher === undefined ? {} : { cipher }) };
  });
}
