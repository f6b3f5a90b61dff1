import { Readable } from "node:stream";
import { digestOf, type Digest } from "../src/bytes/index.ts";
import { isManifestMediaType, mediaTypes, serializeJson, type Annotations, type Descriptor, type Platform } from "../src/oci/index.ts";
import type { ContentWriter } from "../src/store/index.ts";
import { makeLayer, type Compression, type FixtureLayer, type LayerEntry } from "./layer.ts";

export interface LayerSpec {
  readonly entries: readonly LayerEntry[];
  /** `gzip` unless told. */
  readonly compression?: Compression;
}

export interface ImageSpec {
  readonly layers: readonly (LayerSpec | FixtureLayer)[];
  /** linux/amd64 unless told. */
  readonly platform?: Platform;
  /** The `config` member of the image configuration: Entrypoint, Cmd, Env, User, WorkingDir. */
  readonly run?: Readonly<Record<string, unknown>>;
  readonly annotations?: Annotations;
  /** `docker`: media types of Docker schema 2. */
  readonly format?: "oci" | "docker";
  readonly subject?: Descriptor;
  readonly artifactType?: string;
}

/** An image or index with everything it names; nothing of it is in a store yet. */
export interface FixtureImage {
  /** The manifest or index itself. */
  readonly descriptor: Descriptor;
  /** Everything, children before parents; the root is the last. */
  readonly contents: readonly FixtureContent[];
}

export interface FixtureContent {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** Time in configurations and histories. */
const created = "1970-01-01T00:00:00Z";

const dockerLayerTypes: Readonly<Record<string, string>> = {
  [mediaTypes.layerTar]: mediaTypes.dockerLayerTar,
  [mediaTypes.layerTarGzip]: mediaTypes.dockerLayerTarGzip,
};

/** Makes an image from layers. The same specification gives the same digests. */
export async function makeImage(spec: ImageSpec): Promise<FixtureImage> {
  const docker = spec.format === "docker";
  const layers: FixtureLayer[] = [];
  for (const layer of spec.layers) layers.push("entries" in layer ? await makeLayer(layer.entries, layer.compression) : layer);
  const platform = spec.platform ?? { os: "linux", architecture: "amd64" };
  const config = contentOf(docker ? mediaTypes.dockerConfig : mediaTypes.config, {
    created,
    ...platform,
    config: spec.run ?? {},
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map((_, i) => ({ created, created_by: `ociseal fixture layer ${i}` })),
  });
  const layerContents = layers.map((layer) =>
    bytesContent((docker ? dockerLayerTypes[layer.mediaType] : undefined) ?? layer.mediaType, layer.bytes),
  );
  const mediaType = docker ? mediaTypes.dockerManifest : mediaTypes.manifest;
  const manifest = contentOf(mediaType, {
    schemaVersion: 2,
    mediaType,
    ...(spec.artifactType === undefined ? {} : { artifactType: spec.artifactType }),
    config: config.descriptor,
    layers: layerContents.map(({ descriptor }) => descriptor),
    ...(spec.subject === undefined ? {} : { subject: spec.subject }),
    ...(spec.annotations === undefined ? {} : { annotations: spec.annotations }),
  });
  return { descriptor: { ...manifest.descriptor, platform }, contents: unique([...layerContents, config, manifest]) };
}

export interface IndexSpec {
  /** In their order; each descriptor keeps its platform. */
  readonly images: readonly FixtureImage[];
  readonly annotations?: Annotations;
  readonly format?: "oci" | "docker";
  readonly subject?: Descriptor;
  readonly artifactType?: string;
}

/** Makes an index over images or other indexes. */
export function makeIndex(spec: IndexSpec): FixtureImage {
  const mediaType = spec.format === "docker" ? mediaTypes.dockerIndex : mediaTypes.index;
  const index = contentOf(mediaType, {
    schemaVersion: 2,
    mediaType,
    ...(spec.artifactType === undefined ? {} : { artifactType: spec.artifactType }),
    manifests: spec.images.map(({ descriptor }) => descriptor),
    ...(spec.subject === undefined ? {} : { subject: spec.subject }),
    ...(spec.annotations === undefined ? {} : { annotations: spec.annotations }),
  });
  return { descriptor: index.descriptor, contents: unique([...spec.images.flatMap(({ contents }) => contents), index]) };
}

/** An artifact that refers to an image: a signature, an SBOM. The content is one layer. */
export function makeReferrer(
  subject: Descriptor,
  artifactType: string,
  content: string | Uint8Array,
  annotations?: Annotations,
): FixtureImage {
  const empty = bytesContent(mediaTypes.empty, Buffer.from("{}"));
  const layer = bytesContent(artifactType, Buffer.from(content));
  const manifest = contentOf(mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType,
    config: empty.descriptor,
    layers: [layer.descriptor],
    subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    ...(annotations === undefined ? {} : { annotations }),
  });
  return { descriptor: { ...manifest.descriptor, artifactType }, contents: [empty, layer, manifest] };
}

/** Pushes a fixture into any store, children first, and tags its root last. */
export async function pushImage(store: ContentWriter, image: FixtureImage, tag?: string): Promise<void> {
  for (const { descriptor, bytes } of image.contents)
    await store.push(descriptor, async () => Readable.from([bytes], { objectMode: false }));
  if (tag !== undefined) await store.tag(image.descriptor, tag);
}

/** Pushes a fixture over HTTP with nothing but `fetch`, so that a registry can be filled without our client. */
export async function seedRegistry(registry: { readonly url: string }, name: string, image: FixtureImage, tag?: string): Promise<void> {
  const repository = `${registry.url}/v2/${name}`;
  for (const { descriptor, bytes } of image.contents) {
    const isManifest = isManifestMediaType(descriptor.mediaType);
    const url = isManifest ? `${repository}/manifests/${descriptor.digest}` : `${repository}/blobs/uploads/?digest=${descriptor.digest}`;
    await send(url, isManifest ? "PUT" : "POST", descriptor.mediaType, bytes);
  }
  const root = image.contents.at(-1);
  if (tag !== undefined && root !== undefined) await send(`${repository}/manifests/${tag}`, "PUT", root.descriptor.mediaType, root.bytes);
}

async function send(url: string, method: string, mediaType: string, bytes: Buffer): Promise<void> {
  const response = await fetch(url, { method, body: new Uint8Array(bytes), headers: { "content-type": mediaType } });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${method} ${url}: ${response.status} ${text}`);
}

function contentOf(mediaType: string, document: unknown): FixtureContent {
  return bytesContent(mediaType, serializeJson(document));
}

function bytesContent(mediaType: string, bytes: Buffer): FixtureContent {
  return { descriptor: { mediaType, digest: digestOf(bytes), size: bytes.length }, bytes };
}

function unique(contents: readonly FixtureContent[]): readonly FixtureContent[] {
  const seen = new Set<Digest>();
  return contents.filter(({ descriptor: { digest } }) => !seen.has(digest) && seen.add(digest));
}
