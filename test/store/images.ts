import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson, type Annotations, type Descriptor, type Platform } from "../../src/oci/index.ts";
import { bytesStream, type ContentStore } from "../../src/store/index.ts";

/** Puts bytes into a store and gives their descriptor. */
export async function put(store: ContentStore, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor: Descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => bytesStream(bytes));
  return descriptor;
}

export interface ImageFacts {
  readonly layers?: number;
  readonly layerSize?: number;
  readonly platform?: Platform;
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Annotations;
}

/** Puts a small image of random layers into a store; real tar layers are not needed by stores. */
export async function putImage(store: ContentStore, facts: ImageFacts = {}): Promise<Descriptor> {
  const { layers = 2, layerSize = 1000, platform = { os: "linux", architecture: "amd64" } } = facts;
  const diffIds: string[] = [];
  const descriptors: Descriptor[] = [];
  for (let i = 0; i < layers; i += 1) {
    const layer = randomBytes(layerSize);
    diffIds.push(digestOf(layer));
    descriptors.push(await put(store, mediaTypes.layerTarGzip, gzipSync(layer, { level: 0 })));
  }
  const config = await put(
    store,
    mediaTypes.config,
    serializeJson({ ...platform, config: {}, rootfs: { type: "layers", diff_ids: diffIds } }),
  );
  const { subject, artifactType, annotations } = facts;
  const manifest = serializeJson({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    ...(artifactType === undefined ? {} : { artifactType }),
    config,
    layers: descriptors,
    ...(subject === undefined ? {} : { subject }),
    ...(annotations === undefined ? {} : { annotations }),
  });
  return put(store, mediaTypes.manifest, manifest);
}

/** Puts an index of manifests into a store. */
export async function putIndex(
  store: ContentStore,
  manifests: readonly Descriptor[],
  facts: { readonly subject?: Descriptor } = {},
): Promise<Descriptor> {
  const { subject } = facts;
  const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests, ...(subject === undefined ? {} : { subject }) };
  return put(store, mediaTypes.index, serializeJson(index));
}

/** An index of two platforms, each with an attestation manifest as BuildKit makes it. */
export async function putMultiPlatform(store: ContentStore): Promise<Descriptor> {
  const entries: Descriptor[] = [];
  for (const architecture of ["amd64", "arm64"]) {
    const platform = { os: "linux", architecture };
    const image = await putImage(store, { platform });
    const statement = await putImage(store, { layers: 1, platform: { os: "unknown", architecture: "unknown" } });
    entries.push(
      { ...image, platform },
      {
        ...statement,
        platform: { os: "unknown", architecture: "unknown" },
        annotations: { "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest },
      },
    );
  }
  return putIndex(store, entries);
}
