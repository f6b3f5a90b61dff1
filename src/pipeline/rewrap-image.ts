import type { KeyUnwrapper, KeyWrapper, RecipientDescription } from "../keywrap/index.ts";
import {
  checkEncryptionMark,
  describeEncryption,
  isEncryptedLayer,
  replacePackets,
  rewrapLayer,
  type PacketReplacer,
} from "../layer/index.ts";
import type { Descriptor, ImageManifest, Platform } from "../oci/index.ts";
import { observeReader, type CallOptions, type ContentStore, type CopyEvent } from "../store/index.ts";
import { carryLayer } from "./carry-layer.ts";
import { PipelineError } from "./errors.ts";
import { finishImage, type Destination } from "./finish.ts";
import { imagesOf, labelOf, readImageTree, type ManifestNode } from "./image-tree.ts";
import { addressOf, type ImageReport, type LayerReport } from "./layer-report.ts";
import { rebuildImage } from "./rebuild.ts";

export interface RewrapImageRequest {
  readonly from: ContentStore;
  readonly root: Descriptor;
  readonly to: Destination;
  /** Needed only when recipients are added. */
  readonly unwrappers?: readonly KeyUnwrapper[] | undefined;
  readonly add?: readonly KeyWrapper[] | undefined;
  /** Added to a layer because of who can open it already. */
  readonly addFor?: ((there: readonly RecipientDescription[]) => readonly KeyWrapper[]) | undefined;
  /** Decides about each recipient that is there. */
  readonly remove?: ((recipient: RecipientDescription) => "remove" | "keep") | undefined;
  /** Instead of `add` and `remove`: somebody else re-wraps each packet. */
  readonly replace?: PacketReplacer | undefined;
  readonly platforms?: readonly Platform[] | undefined;
  readonly mode?: "write" | "plan" | undefined;
  readonly onProgress?: ((event: CopyEvent) => void) | undefined;
}

/** As {@link ImageReport}, with who was removed. */
export interface RewrapReport extends ImageReport {
  readonly removed: readonly RecipientDescription[];
}

/**
 * Changes who can open an image, without touching a layer: only manifests are written anew. Within one repository or
 * layout no blob moves at all.
 *
 * Throws `ERR_NOT_ENCRYPTED`, `ERR_LAYER_MARK_MISSING`, `ERR_LAYER_NO_RECIPIENT`, `ERR_LAYER_RECIPIENT_NOT_FOUND`, and what the keys throw.
 */
export async function rewrapImage(request: RewrapImageRequest, options: CallOptions = {}): Promise<RewrapReport> {
  const { from, root, to, unwrappers, add, remove, onProgress } = request;
  const tree = await readImageTree({ store: from, root, platforms: request.platforms }, options);
  const removed = new Map<string, RecipientDescription>();
  const rewritten = new Map<string, readonly Descriptor[]>();
  const reports: LayerReport[] = [];
  for (const node of imagesOf(tree)) {
    const layers: Descriptor[] = [];
    for (const [position, layer] of node.manifest.layers.entries()) {
      const common = { image: labelOf(node), position, source: addressOf(layer), result: addressOf(layer) };
      if (!isEncryptedLayer(layer)) {
        checkEncryptionMark(layer);
        layers.push(layer);
        reports.push({ ...common, outcome: "kept", reason: "not encrypted" });
        continue;
      }
      const done =
        request.replace === undefined
          ? await rewrapLayer(
              {
                layer,
                unwrappers,
                add: [...(add ?? []), ...(request.addFor?.(describeEncryption(layer)?.recipients ?? []) ?? [])],
                remove,
              },
              options,
            )
          : await replacePackets(layer, request.replace, options);
      for (const recipient of done.removed) removed.set(`${recipient.scheme} ${recipient.id ?? ""}`, recipient);
      layers.push(done.layer);
      const recipients = done.recipients.map(({ scheme, id }) => `${scheme}:${id ?? "?"}`);
      if (done.layer === layer) reports.push({ ...common, outcome: "kept", reason: "recipients as they were", recipients });
      else reports.push({ ...common, outcome: "rewrapped", recipients });
    }
    // A manifest of which nothing changes keeps its bytes, and with its digest its signatures.
    if (layers.some((layer, i) => layer !== node.manifest.layers[i])) rewritten.set(node.descriptor.digest, layers);
  }
  if (!imagesOf(tree).some(({ manifest }) => manifest.layers.some(isEncryptedLayer))) {
    throw new PipelineError("ERR_NOT_ENCRYPTED", {
      message: `no layer of ${from.name} is encrypted`,
      hint: "encrypt it with ociseal encrypt",
    });
  }
  if (request.mode === "plan")
    return { source: addressOf(root), result: addressOf(root), layers: reports, removed: [...removed.values()], dryRun: true };

  const carried = { from: onProgress === undefined ? from : observeReader(from, onProgress), to: to.store };
  const rewrite = async (node: ManifestNode): Promise<ImageManifest | undefined> => {
    const layers = rewritten.get(node.descriptor.digest);
    if (layers === undefined) return undefined;
    // In the same repository every blob is there already, so nothing is even asked for.
    if (to.store !== from) for (const blob of [node.manifest.config, ...layers]) await carryLayer(carried, blob, options);
    return { ...node.manifest, layers };
  };
  const result = await rebuildImage({ from, to: to.store, tree, rewrite, onProgress }, options);
  await finishImage(to, result, reports, options);
  return { source: addressOf(root), result: addressOf(result), layers: reports, removed: [...removed.values()], dryRun: false };
}
