import { join } from "node:path";
import { digestOf, isDigest } from "../bytes/index.ts";
import { isEncryptedLayer } from "../layer/index.ts";
import { serializeJson, type Descriptor } from "../oci/index.ts";
import { bytesStream, copyGraph, openLayout, type ContentReader, type LayoutStore } from "../store/index.ts";
import { Budget, limitsOf } from "./limits.ts";
import { inflateLayer, inLayer } from "./inflate-layer.ts";
import type { OpenedImage } from "./open-image.ts";
import { withStaging } from "./staging.ts";
import type { LayerSource, TreeRequest, UnpackOptions } from "./unpack-image.ts";

export interface LayoutReport {
  readonly target: string;
  readonly output: "oci" | "oci-encrypted";
  readonly layers: number;
  /** Of the manifest in the layout: another than the pulled one where layers were decrypted. */
  readonly manifest: Descriptor;
}

export interface LayoutRequest extends Pick<TreeRequest, "target" | "limits"> {
  readonly store: ContentReader;
  /** A tag names the image in the layout too. */
  readonly reference: string | undefined;
  readonly output: "oci" | "oci-encrypted";
  readonly image: OpenedImage;
  /** Descriptor of the pulled manifest. */
  readonly manifest: Descriptor;
  readonly source: LayerSource;
  /** The last thing before the target is put in place. */
  readonly beforeCommit?: ((report: LayoutReport) => Promise<void>) | undefined;
}

/**
 * Makes an OCI image layout of one image, decrypted unless told otherwise, in a private directory beside the target, and
 * puts it in place by one rename. diffIDs are checked for decrypted and plain layers alike.
 */
export async function writeLayout(request: LayoutRequest, options: UnpackOptions): Promise<LayoutReport> {
  const { target, output, image, reference } = request;
  return await withStaging(target, async (staging) => {
    const layout = await openLayout({ path: join(staging.path, "image"), mode: "write", durability: "none", name: `oci:${target}` });
    let manifest: Descriptor;
    try {
      manifest =
        output === "oci-encrypted" ? await copyEncrypted(layout, request, options) : await writeDecrypted(layout, request, options);
      if (reference !== undefined && !isDigest(reference)) await layout.tag(manifest, reference, options);
    } finally {
      await layout.close();
    }
    const report: LayoutReport = { target, output, layers: image.manifest.layers.length, manifest };
    await request.beforeCommit?.(report);
    staging.commit("image");
    return report;
  });
}

async function copyEncrypted(layout: LayoutStore, request: LayoutRequest, { signal }: UnpackOptions): Promise<Descriptor> {
  await copyGraph({ from: request.store, to: layout, root: request.manifest, ...(signal === undefined ? {} : { signal }) });
  return request.manifest;
}

async function writeDecrypted(layout: LayoutStore, request: LayoutRequest, options: UnpackOptions): Promise<Descriptor> {
  const { store, image } = request;
  const budget = new Budget(limitsOf(request.limits), { signal: options.signal });
  const layers: Descriptor[] = [];
  for (const [index, layer] of image.manifest.layers.entries()) {
    options.onEvent?.({ kind: "layer-started", index, layer });
    const diffId = image.config.rootfs.diff_ids[index];
    if (diffId === undefined) continue;
    try {
      const plain = await request.source(layer, index);
      // What stalls would be ended by no check between two chunks.
      const release = budget.guardStream(plain.stream);
      const address = await layout.ingest(plain.stream, options).finally(release);
      const descriptor = isEncryptedLayer(layer) ? plain.descriptor(address) : layer;
      await inflateLayer({
        plain: { ...plain, stream: await layout.fetch(descriptor, options) },
        budget,
        diffId,
        progress: (compressedBytes) => options.onEvent?.({ kind: "layer-progress", index, compressedBytes, entries: 0 }),
        consume: () => undefined,
      });
      layers.push(descriptor);
      options.onEvent?.({ kind: "layer-done", index, diffId });
    } catch (error) {
      throw inLayer(error, index, layer);
    }
  }
  const { config } = image.manifest;
  await layout.push(config, () => store.fetch(config, options), options);
  // Bytes that were not changed keep their digest: the manifest of a plain image stays itself.
  const changed = image.manifest.layers.some(isEncryptedLayer);
  const bytes = changed ? serializeJson({ ...image.manifest, layers }) : Buffer.from(image.manifestBytes);
  const descriptor: Descriptor = { mediaType: request.manifest.mediaType, digest: digestOf(bytes), size: bytes.length };
  await layout.push(descriptor, async () => bytesStream(bytes), options);
  return descriptor;
}
