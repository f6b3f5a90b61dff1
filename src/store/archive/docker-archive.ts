import { resolve } from "node:path";
import { digestOf, newHasher, parseJson, type ByteStream, type ContentAddress, type Digest } from "../../bytes/index.ts";
import { isTag, manifestLimits, mediaTypes, parseImageConfig, parseImageName, serializeJson, type Descriptor } from "../../oci/index.ts";
import type { BlobArea, IndexArea } from "../areas.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { CallOptions, ContentStore, FetchOptions } from "../content-store.ts";
import { ioError, StoreError } from "../errors.ts";
import { refNameAnnotation } from "../index-entries.ts";
import { IndexedStore, notFound } from "../indexed-store.ts";
import { readOciLayout } from "./oci-archive.ts";
import { compressionOf, openTar, type ArchiveLimits } from "./open-tar.ts";
import { ReadOnlyBlobs, ReadOnlyIndex } from "../read-only.ts";
import type { TarFile, TarFileMember } from "./tar-file.ts";
import { malformedTar } from "./tar-header.ts";

export interface DockerArchiveRequest extends ArchiveLimits {
  readonly path: string;
}

/** Images in one archive. */
const maxImages = 1000;
const signatureLength = 6;

/**
 * Opens what `docker save` and `podman save` write, also compressed with gzip or zstd, for reading. What current docker
 * writes has an OCI layout inside, and that counts. Else each image gets an OCI manifest made from its configuration:
 * the layers stay the uncompressed bytes that they are, so their digests are the diffIDs.
 *
 * References are `HOST/NAME:TAG` as docker normalises them, or `@N`. Throws `ERR_STORE_NOT_FOUND`,
 * `ERR_STORE_MALFORMED`, `ERR_MANIFEST_MALFORMED`, `ERR_STORE_IO`.
 * Source: docker, "image save", `manifest.json`; containers-transports(5), "docker-archive".
 */
export async function openDockerArchive(request: DockerArchiveRequest): Promise<ContentStore> {
  const name = `docker-archive:${request.path}`;
  const { tar, close } = await openTar(resolve(request.path), name, request);
  try {
    if (tar.find("index.json") !== undefined && tar.find("oci-layout") !== undefined) return await readOciLayout(tar, name, close);
    const images = await readImages(tar, name);
    return storeOf(tar, images, name, close);
  } catch (cause) {
    await close();
    throw ioError(cause, `reading ${name}`);
  }
}

/** One image of the archive as we show it. */
interface ArchivedImage {
  readonly descriptor: Descriptor;
  readonly manifest: Buffer;
  readonly names: readonly string[];
  readonly content: ReadonlyMap<Digest, TarFileMember>;
}

function storeOf(tar: TarFile, images: readonly ArchivedImage[], name: string, close: () => Promise<void>): ContentStore {
  const members = new Map(images.flatMap(({ content }) => [...content]));
  const manifests = new Map(images.map(({ descriptor, manifest }) => [descriptor.digest, manifest]));
  // Every image once without a name, so that the position of an entry is the position in the archive; then the names.
  const entries = [
    ...images.map(({ descriptor }) => descriptor),
    ...images.flatMap(({ descriptor, names }) => names.map((ref) => ({ ...descriptor, annotations: { [refNameAnnotation]: ref } }))),
  ];
  const sizeOf = async (digest: Digest) => manifests.get(digest)?.length ?? members.get(digest)?.size;
  const blobs = {
    sizeOf,
    has: async ({ digest, size }: ContentAddress) => (await sizeOf(digest)) === size,
    open: async ({ digest }: ContentAddress, options: FetchOptions): Promise<ByteStream | undefined> => {
      const manifest = manifests.get(digest);
      if (manifest !== undefined) return bytesStream(manifest.subarray(options.range?.start ?? 0, options.range?.end ?? manifest.length));
      const member = members.get(digest);
      return member === undefined ? undefined : tar.stream(member, options);
    },
    localPath: () => undefined,
    close,
  };
  return new DockerArchive(name, new ReadOnlyBlobs(blobs, name), new ReadOnlyIndex(async () => entries, name), images.length);
}

/** `@N` counts the images, not their names. */
class DockerArchive extends IndexedStore {
  readonly #images: number;

  constructor(name: string, blobs: BlobArea, index: IndexArea, images: number) {
    super(name, blobs, index);
    this.#images = images;
  }

  override async resolve(reference: string | undefined, options: CallOptions = {}): Promise<Descriptor> {
    if (reference?.startsWith("@") === true && Number(reference.slice(1)) >= this.#images) throw notFound(`image ${reference}`, this.name);
    return super.resolve(reference, options);
  }
}

async function readImages(tar: TarFile, name: string): Promise<readonly ArchivedImage[]> {
  const member = tar.find("manifest.json");
  if (member === undefined) {
    throw new StoreError("ERR_STORE_MALFORMED", {
      message: `${name} has no manifest.json, so docker save did not write it`,
      hint: "check the path; the root file system that docker export writes is no image",
    });
  }
  const bytes = await tar.read(member, manifestLimits.maxBytes);
  const list = parseJson(bytes, { maxBytes: manifestLimits.maxBytes, subject: `manifest.json of ${name}` });
  if (!Array.isArray(list) || list.length === 0) throw malformedTar(`manifest.json of ${name} is not a list of images`);
  if (list.length > maxImages) throw malformedTar(`manifest.json of ${name} has ${list.length} images, more than ${maxImages}`);
  const images: ArchivedImage[] = [];
  for (const [position, item] of list.entries()) images.push(await readImage(tar, item, `image ${position} of ${name}`));
  return images;
}

async function readImage(tar: TarFile, item: unknown, where: string): Promise<ArchivedImage> {
  const { Config, RepoTags, Layers } = typeof item === "object" && item !== null ? (item as Readonly<Record<string, unknown>>) : {};
  const configMember = findMember(tar, Config, `the configuration of ${where}`);
  const configBytes = await tar.read(configMember, manifestLimits.maxBytes);
  const diffIds = parseImageConfig(configBytes).rootfs.diff_ids;
  if (!Array.isArray(Layers) || Layers.length !== diffIds.length) {
    throw malformedTar(`${where} does not have the ${diffIds.length} layers that its configuration names`);
  }
  const config: Descriptor = { mediaType: mediaTypes.config, digest: digestOf(configBytes), size: configBytes.length };
  const content = new Map<Digest, TarFileMember>([[config.digest, configMember]]);
  const layers: Descriptor[] = [];
  for (const [i, diffId] of diffIds.entries()) {
    const layerMember = findMember(tar, Layers[i], `layer ${i} of ${where}`);
    const layer = await describeLayer(tar, layerMember, diffId, `layer ${i} of ${where}`);
    layers.push(layer);
    content.set(layer.digest, layerMember);
  }
  const manifest = serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers });
  const descriptor: Descriptor = { mediaType: mediaTypes.manifest, digest: digestOf(manifest), size: manifest.length };
  return { descriptor, manifest, names: namesIn(RepoTags), content };
}

/** An uncompressed layer needs no reading: its digest is the diffID, and that is checked whenever it is fetched. */
async function describeLayer(tar: TarFile, member: TarFileMember, diffId: Digest, where: string): Promise<Descriptor> {
  const { size } = member;
  const compression = compressionOf(await tar.read({ ...member, size: Math.min(size, signatureLength) }, signatureLength));
  switch (compression) {
    case "none":
      return { mediaType: mediaTypes.layerTar, digest: diffId, size };
    case "gzip":
      return { mediaType: mediaTypes.layerTarGzip, digest: await digestOfMember(tar, member), size };
    case "zstd":
      return { mediaType: mediaTypes.layerTarZstd, digest: await digestOfMember(tar, member), size };
    case "bzip2":
    case "xz":
      throw new StoreError("ERR_STORE_UNSUPPORTED", {
        message: `${where} is compressed with ${compression}, which OCI images do not allow`,
      });
  }
}

async function digestOfMember(tar: TarFile, member: TarFileMember): Promise<Digest> {
  const hasher = newHasher();
  for await (const chunk of tar.stream(member, {}) as AsyncIterable<Uint8Array>) hasher.update(chunk);
  return hasher.digest();
}

function findMember(tar: TarFile, name: unknown, what: string): TarFileMember {
  if (typeof name !== "string") throw malformedTar(`${what} is not named in manifest.json`);
  const member = tar.find(name);
  if (member === undefined) throw malformedTar(`${what}, ${JSON.stringify(name.slice(0, 200))}, is not in the archive`);
  return member;
}

/** Old archives have `<none>:<none>` among the names; what is no name names nothing. */
function namesIn(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((text: unknown) => {
    if (typeof text !== "string" || text.startsWith("<none>")) return [];
    const name = parseImageName(`docker://${text}`);
    return name.transport === "docker" && name.tag !== undefined && isTag(name.tag) ? [`${name.host}/${name.repository}:${name.tag}`] : [];
  });
}
