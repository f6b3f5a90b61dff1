import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { buffer } from "node:stream/consumers";
import { pack } from "tar-stream";
import type { Descriptor } from "ociseal/oci";
import { bytesStream, type ContentStore } from "ociseal/store";

/** Puts an image of one layer with one file into a store, under the tag `app`. The other examples start from it. */
export async function putTinyImage(store: ContentStore): Promise<Descriptor> {
  const tar = pack();
  tar.entry({ name: "hello.txt" }, "hello\n");
  tar.finalize();
  const plain = await buffer(tar);
  const layer = await put(store, gzipSync(plain), "application/vnd.oci.image.layer.v1.tar+gzip");
  const rootfs = { type: "layers", diff_ids: [digestOf(plain)] };
  const config = await putJson(store, { os: "linux", architecture: "amd64", rootfs }, "application/vnd.oci.image.config.v1+json");
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const image = await putJson(store, { schemaVersion: 2, mediaType, config, layers: [layer] }, mediaType);
  await store.tag(image, "app");
  return image;
}

function digestOf(bytes: Uint8Array): `sha256:${string}` {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

async function put(store: ContentStore, bytes: Buffer, mediaType: string): Promise<Descriptor> {
  const descriptor: Descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => bytesStream(bytes));
  return descriptor;
}

function putJson(store: ContentStore, document: object, mediaType: string): Promise<Descriptor> {
  return put(store, Buffer.from(JSON.stringify(document)), mediaType);
}
