import { createReadStream } from "node:fs";
import { copyFile, link, mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { digestAlgorithmOf, digestOf, parseJson, type ByteStream, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { isManifestMediaType, mediaTypes, parseDescriptor, parseIndex, type Descriptor } from "../oci/index.ts";
import { Catalog } from "./catalog.ts";
import { RegistryServerError } from "./errors.ts";
import { copyFilePart } from "./file-copy.ts";
import { FileSink } from "./file-sink.ts";
import { blobPath, fileSize, isErrno, syncFolder, writeWhole } from "./layout-files.ts";
import { describeManifest } from "./manifest-entry.ts";
import { SinkUpload } from "./pending-upload.ts";
import type { PendingUpload, PieceSink, Repository } from "./storage.ts";

interface Place {
  readonly name: string;
  readonly folder: string;
  /** Folder of unfinished writes, on the same file system. */
  readonly pending: string;
}

const algorithms = ["sha256", "sha384", "sha512"] as const;
/** A layout's index.json may name many more images than an index that is pushed. */
const maxIndexBytes = 256 * 1024 * 1024;
const maxManifestBytes = 64 * 1024 * 1024;
const readSize = 1024 * 1024;

/** Source: OCI image-spec, image-layout.md, "oci-layout file". */
const layoutFile = JSON.stringify({ imageLayoutVersion: "1.0.0" });

/** A new, empty layout. */
export async function createLayout(place: Place): Promise<LayoutRepository> {
  for (const algorithm of algorithms) await mkdir(join(place.folder, "blobs", algorithm), { recursive: true });
  const repository = new LayoutRepository(place, new Catalog());
  await repository.save();
  // The marker comes last: a folder without it is no repository yet.
  await writeWhole(join(place.folder, "oci-layout"), layoutFile, place.pending);
  return repository;
}

/** Reads a layout that this registry or another tool wrote. Throws `ERR_REGISTRY_SERVER_STORAGE`. */
export async function openLayout(place: Place): Promise<LayoutRepository> {
  try {
    for (const algorithm of algorithms) await mkdir(join(place.folder, "blobs", algorithm), { recursive: true });
    parseLayoutFile(await readFile(join(place.folder, "oci-layout")));
    const index = parseTop(await readFile(join(place.folder, "index.json")));
    const catalog = new Catalog();
    for (const descriptor of index) {
      catalog.adopt(descriptor);
      await adoptTree(place.folder, catalog, descriptor);
    }
    return new LayoutRepository(place, catalog);
  } catch (cause) {
    throw new RegistryServerError("ERR_REGISTRY_SERVER_STORAGE", {
      message: `the layout of repository ${place.name} in ${place.folder} cannot be read: ${describeCause(cause)}`,
      hint: "restore the folder from a copy, or move it away and push the images again",
      cause,
    });
  }
}

/** One repository as an OCI layout. */
export class LayoutRepository implements Repository {
  readonly name: string;
  readonly catalog: Catalog;
  readonly #place: Place;
  #saving: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;
  /** Folders with new names that are not lasting yet; they become so before an index that may need them. */
  readonly #unsynced = new Set<DigestAlgorithm>();

  constructor(place: Place, catalog: Catalog) {
    this.name = place.name;
    this.catalog = catalog;
    this.#place = place;
  }

  sizeOf(digest: Digest): Promise<number | undefined> {
    return fileSize(blobPath(this.#place.folder, digest));
  }

  async open(digest: Digest, start: number, end: number): Promise<ByteStream> {
    const path = blobPath(this.#place.folder, digest);
    return createReadStream(path, { start, end: Math.max(end - 1, 0), highWaterMark: readSize });
  }

  copyTo(digest: Digest, start: number, end: number, sink: PieceSink): Promise<void> {
    return copyFilePart(blobPath(this.#place.folder, digest), start, end, sink);
  }

  readManifest(digest: Digest): Promise<Buffer> {
    return readVerified(this.#place.folder, digest);
  }

  async writeManifest(digest: Digest, bytes: Buffer): Promise<void> {
    const path = blobPath(this.#place.folder, digest);
    if ((await fileSize(path)) !== bytes.length) await writeWhole(path, bytes, this.#place.pending);
  }

  async link(digest: Digest, from: Repository): Promise<"linked" | "absent"> {
    if (!(from instanceof LayoutRepository)) return "absent";
    const [source, target] = [blobPath(from.#place.folder, digest), blobPath(this.#place.folder, digest)];
    try {
      await link(source, target);
    } catch (error) {
      if (isErrno(error, "EEXIST")) return "linked";
      if (isErrno(error, "ENOENT")) return "absent";
      if (!isErrno(error, "EPERM", "EMLINK", "ENOTSUP", "EXDEV")) throw error;
      // A file system without hard links: one more copy instead of one more name.
      const temporary = join(this.#place.pending, `copy-${randomUUID()}`);
      await copyFile(source, temporary);
      await rename(temporary, target);
    }
    return "linked";
  }

  async commit(upload: PendingUpload, digest: Digest): Promise<void> {
    if (!(upload instanceof SinkUpload) || !(upload.sink instanceof FileSink)) throw new TypeError("the upload belongs to another storage");
    const path = blobPath(this.#place.folder, digest);
    if ((await fileSize(path)) === upload.size) return upload.discard();
    await upload.sink.sync();
    await rename(upload.sink.path, path);
    this.#unsynced.add(digestAlgorithmOf(digest));
  }

  async remove(digest: Digest): Promise<"removed" | "absent"> {
    try {
      await rm(blobPath(this.#place.folder, digest));
      return "removed";
    } catch (error) {
      if (isErrno(error, "ENOENT")) return "absent";
      throw error;
    }
  }

  /** Callers that come while a write runs share the next one: a burst of pushes writes the index a few times, not once each. */
  save(): Promise<void> {
    this.#queued ??= this.#saving
      // A write that failed was reported to those who waited for it.
      .catch(() => undefined)
      .then(() => {
        this.#queued = undefined;
        this.#saving = this.#write();
        return this.#saving;
      });
    return this.#queued;
  }

  async #write(): Promise<void> {
    const text = JSON.stringify(this.catalog.toIndex());
    const folders = [...this.#unsynced];
    this.#unsynced.clear();
    for (const algorithm of folders) await syncFolder(join(this.#place.folder, "blobs", algorithm));
    await writeWhole(join(this.#place.folder, "index.json"), text, this.#place.pending);
  }
}

/** A manifest of an index.json entry, and the manifests of an index under it. A missing or foreign entry is left alone: a layout may be sparse. */
async function adoptTree(folder: string, catalog: Catalog, descriptor: Descriptor): Promise<void> {
  if (!isManifestMediaType(descriptor.mediaType) || catalog.manifest(descriptor.digest) !== undefined) return;
  if ((await fileSize(blobPath(folder, descriptor.digest))) === undefined) return;
  const bytes = await readVerified(folder, descriptor.digest);
  catalog.addManifest(describeManifest(bytes, descriptor.mediaType, descriptor.digest).entry);
  if (descriptor.mediaType !== mediaTypes.index && descriptor.mediaType !== mediaTypes.dockerIndex) return;
  for (const child of parseIndex(bytes, descriptor.mediaType).manifests) await adoptTree(folder, catalog, child);
}

async function readVerified(folder: string, digest: Digest): Promise<Buffer> {
  const path = blobPath(folder, digest);
  const size = await fileSize(path);
  if (size === undefined || size > maxManifestBytes) throw new Error(`manifest ${digest} is missing or too large`);
  const bytes = await readFile(path);
  if (digestOf(bytes, digestAlgorithmOf(digest)) !== digest) throw new Error(`the stored file of manifest ${digest} has other content`);
  return bytes;
}

function parseLayoutFile(bytes: Buffer): void {
  const value = parseJson(bytes, { maxBytes: 4096, subject: "oci-layout" });
  if (typeof value !== "object" || value === null || !("imageLayoutVersion" in value) || value.imageLayoutVersion !== "1.0.0") {
    throw new Error("oci-layout does not say imageLayoutVersion 1.0.0");
  }
}

function parseTop(bytes: Buffer): readonly Descriptor[] {
  if (bytes.length > maxIndexBytes) throw new Error("index.json is too large");
  const value = parseJson(bytes, { maxBytes: maxIndexBytes, subject: "index.json" });
  if (typeof value !== "object" || value === null || !("manifests" in value) || !Array.isArray(value.manifests)) {
    throw new Error("index.json has no list of manifests");
  }
  return value.manifests.map((item: unknown, i) => parseDescriptor(item, `index.json manifests[${i}]`));
}
