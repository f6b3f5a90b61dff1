import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import type { ContentStore } from "../../src/store/index.ts";

export async function pushBytes(store: ContentStore, mediaType: string, bytes: Buffer): Promise<Descriptor> {
  const descriptor: Descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => Readable.from([bytes], { objectMode: false }));
  return descriptor;
}

/** A small image with one layer of random bytes. */
export async function pushImage(store: ContentStore, tag?: string): Promise<Descriptor> {
  const layer = await pushBytes(store, mediaTypes.layerTar, randomBytes(1024));
  const config = await pushBytes(
    store,
    mediaTypes.config,
    serializeJson({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [layer.digest] } }),
  );
  const manifest = await pushBytes(
    store,
    mediaTypes.manifest,
    serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer] }),
  );
  if (tag !== undefined) await store.tag(manifest, tag);
  return manifest;
}

/** An index over small images for two platforms. */
export async function pushIndex(store: ContentStore, tag?: string): Promise<{ index: Descriptor; members: readonly Descriptor[] }> {
  const members = [await pushImage(store), await pushImage(store)];
  const manifests = members.map((member, i) => ({ ...member, platform: { os: "linux", architecture: i === 0 ? "amd64" : "arm64" } }));
  const index = await pushBytes(store, mediaTypes.index, serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests }));
  if (tag !== undefined) await store.tag(index, tag);
  return { index, members };
}
