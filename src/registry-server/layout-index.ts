import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { digestAlgorithmOf, digestOf, parseJson, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import { isIndexMediaType, isManifestMediaType, parseDescriptor, parseIndex, type Descriptor } from "../oci/index.ts";
import { withFileLock } from "../store/index.ts";
import { Catalog } from "./catalog.ts";
import { blobPath, fileSize, isErrno, syncFolder, writeWhole } from "./layout-files.ts";
import { describeManifest } from "./manifest-entry.ts";
import type { CatalogEdit } from "./storage.ts";

/** Where a repository's layout lies. */
export interface Place {
  readonly name: string;
  readonly folder: string;
  /** Folder of unfinished writes, on the same file system. */
  readonly pending: string;
}

/** The lock that every writer of ours takes before it changes a layout's index: `ociseal copy … oci:FOLDER` as well. */
const lockFile = ".ociseal.lock";
/** A layout's index.json may name many more images than an index that is pushed. */
const maxIndexBytes = 256 * 1024 * 1024;
const maxManifestBytes = 64 * 1024 * 1024;

/**
 * The index.json of a layout and the catalog that is read from it. Changes are made in memory at once and written
 * under the layout's lock; when another program has changed the file meanwhile, they are played again on what it wrote,
 * so neither side loses an image.
 */
export class LayoutIndex {
  readonly #place: Place;
  #catalog: Catalog;
  /** The file as it was last read or written, `undefined` before the first time. */
  #identity: string | undefined;
  /** Changes that no written file has yet. */
  readonly #edits: CatalogEdit[] = [];
  /** Reading and writing of the file, one at a time. */
  #last: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;
  /** Folders with new names that are not lasting yet; they become so before an index that may need them. */
  readonly #unsynced = new Set<DigestAlgorithm>();

  constructor(place: Place, catalog: Catalog, identity: string | undefined) {
    this.#place = place;
    this.#catalog = catalog;
    this.#identity = identity;
  }

  get catalog(): Catalog {
    return this.#catalog;
  }

  mustSync(algorithm: DigestAlgorithm): void {
    this.#unsynced.add(algorithm);
  }

  /** Those who come while a write runs share the next one: a burst of pushes writes the file a few times, not once each. */
  change(edit: CatalogEdit): Promise<void> {
    edit(this.#catalog);
    this.#edits.push(edit);
    this.#queued ??= this.#alone(() => {
      this.#queued = undefined;
      return withFileLock(join(this.#place.folder, lockFile), () => this.#write());
    });
    return this.#queued;
  }

  async refresh(): Promise<void> {
    if (this.#queued !== undefined || (await identityOf(this.#place.folder)) === this.#identity) return;
    // What cannot be read now may be half written by a tool that does not rename; what is known stays in use meanwhile.
    await this.#alone(() => this.#reload()).catch(() => undefined);
  }

  async settled(): Promise<void> {
    await this.#last.catch(() => undefined);
  }

  async #write(): Promise<void> {
    await this.#reload();
    const folders = [...this.#unsynced];
    this.#unsynced.clear();
    for (const algorithm of folders) await syncFolder(join(this.#place.folder, "blobs", algorithm));
    const written = this.#edits.splice(0);
    try {
      await writeWhole(join(this.#place.folder, "index.json"), JSON.stringify(this.#catalog.toIndex()), this.#place.pending);
    } catch (error) {
      this.#edits.unshift(...written);
      throw error;
    }
    this.#identity = await identityOf(this.#place.folder);
  }

  async #reload(): Promise<void> {
    if ((await identityOf(this.#place.folder)) === this.#identity) return;
    const { catalog, identity } = await readLayoutIndex(this.#place.folder);
    for (const edit of this.#edits) edit(catalog);
    this.#catalog = catalog;
    this.#identity = identity;
  }

  #alone(work: () => Promise<void>): Promise<void> {
    // A failure was reported to those who waited for it, and must not keep the next one from trying.
    this.#last = this.#last.catch(() => undefined).then(work);
    return this.#last;
  }
}

/** Reads index.json and all manifests under it. */
export async function readLayoutIndex(folder: string): Promise<{ readonly catalog: Catalog; readonly identity: string | undefined }> {
  // Before the content, so that a change in between is seen as one.
  const identity = await identityOf(folder);
  const catalog = new Catalog();
  for (const descriptor of parseTop(await readFile(join(folder, "index.json")))) {
    catalog.adopt(descriptor);
    await adoptTree(folder, catalog, descriptor);
  }
  return { catalog, identity };
}

/** Exact bytes of a manifest, checked against the digest. */
export async function readManifestFile(folder: string, digest: Digest): Promise<Buffer> {
  const path = blobPath(folder, digest);
  const size = await fileSize(path);
  if (size === undefined || size > maxManifestBytes) throw new Error(`manifest ${digest} is missing or too large`);
  const bytes = await readFile(path);
  if (digestOf(bytes, digestAlgorithmOf(digest)) !== digest) throw new Error(`the stored file of manifest ${digest} has other content`);
  return bytes;
}

/** A manifest of an index.json entry, and the manifests of an index under it. A missing or foreign entry is left alone: a layout may be sparse. */
async function adoptTree(folder: string, catalog: Catalog, descriptor: Descriptor): Promise<void> {
  const { mediaType, digest } = descriptor;
  if (!isManifestMediaType(mediaType) || catalog.manifest(digest) !== undefined) return;
  if ((await fileSize(blobPath(folder, digest))) === undefined) return;
  const bytes = await readManifestFile(folder, digest);
  catalog.addManifest(describeManifest(bytes, mediaType, digest).entry);
  if (!isIndexMediaType(mediaType)) return;
  for (const child of parseIndex(bytes, mediaType).manifests) await adoptTree(folder, catalog, child);
}

/** What changes when the file is replaced or written. */
async function identityOf(folder: string): Promise<string | undefined> {
  try {
    const { ino, size, mtimeNs } = await stat(join(folder, "index.json"), { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function parseTop(bytes: Buffer): readonly Descriptor[] {
  const value = parseJson(bytes, { maxBytes: maxIndexBytes, subject: "index.json" });
  const manifests = typeof value === "object" && value !== null && "manifests" in value ? value.manifests : undefined;
  // How Go writes an empty list; umoci's new layouts begin so.
  if (manifests === null) return [];
  if (!Array.isArray(manifests)) throw new Error("index.json has no list of manifests");
  return manifests.map((item: unknown, i) => parseDescriptor(item, `index.json manifests[${i}]`));
}
