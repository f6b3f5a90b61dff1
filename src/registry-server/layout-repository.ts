import { createReadStream } from "node:fs";
import { copyFile, link, mkdir, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { digestAlgorithmOf, digestOf, isDigest, parseJson, type ByteStream, type Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { Catalog } from "./catalog.ts";
import { DigestLocks } from "./digest-locks.ts";
import { RegistryServerError } from "./errors.ts";
import { copyFilePart } from "./file-copy.ts";
import { FileSink } from "./file-sink.ts";
import { blobPath, fileSize, isErrno, writeWhole } from "./layout-files.ts";
import { LayoutIndex, readLayoutIndex, readManifestFile, type Place } from "./layout-index.ts";
import { SinkUpload } from "./pending-upload.ts";
import type { CatalogEdit, PendingUpload, PieceSink, Repository } from "./storage.ts";

const algorithms = ["sha256", "sha384", "sha512"] as const;
const readSize = 1024 * 1024;

/** Source: OCI image-spec, image-layout.md, "oci-layout file". */
const layoutFile = JSON.stringify({ imageLayoutVersion: "1.0.0" });

/** A new, empty layout. */
export async function createLayout(place: Place): Promise<LayoutRepository> {
  for (const algorithm of algorithms) await mkdir(join(place.folder, "blobs", algorithm), { recursive: true });
  const index = new LayoutIndex(place, new Catalog(), undefined);
  await index.change(() => undefined);
  // The marker comes last: a folder without it is no repository yet.
  await writeWhole(join(place.folder, "oci-layout"), layoutFile, place.pending);
  return new LayoutRepository(place, index);
}

/** Reads a layout that this registry or another tool wrote. Throws `ERR_REGISTRY_SERVER_STORAGE`. */
export async function openLayout(place: Place): Promise<LayoutRepository> {
  try {
    for (const algorithm of algorithms) await mkdir(join(place.folder, "blobs", algorithm), { recursive: true });
    parseLayoutFile(await readFile(join(place.folder, "oci-layout")));
    const { catalog, identity } = await readLayoutIndex(place.folder);
    return new LayoutRepository(place, new LayoutIndex(place, catalog, identity));
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
  readonly #place: Place;
  readonly #index: LayoutIndex;
  readonly #locks = new DigestLocks();

  constructor(place: Place, index: LayoutIndex) {
    this.name = place.name;
    this.#place = place;
    this.#index = index;
  }

  get catalog(): Catalog {
    return this.#index.catalog;
  }

  change(edit: CatalogEdit): Promise<void> {
    return this.#index.change(edit);
  }

  /** Takes over what another program changed in the folder. */
  refresh(): Promise<void> {
    return this.#index.refresh();
  }

  /** Settled when every change so far is lasting, or was reported to have failed. */
  settled(): Promise<void> {
    return this.#index.settled();
  }

  sizeOf(digest: Digest): Promise<number | undefined> {
    return fileSize(blobPath(this.#place.folder, digest));
  }

  claim(digest: Digest): Promise<number | undefined> {
    return this.#locks.run(digest, async () => {
      const path = blobPath(this.#place.folder, digest);
      const size = await fileSize(path);
      if (size !== undefined) await touch(path);
      return size;
    });
  }

  whenIdle<Result>(digest: Digest, before: number, action: (size: number) => Promise<Result>): Promise<Result | undefined> {
    return this.#locks.run(digest, async () => {
      const facts = await stat(blobPath(this.#place.folder, digest)).catch(absent);
      // Not the time of the content, which archives and copies bring along: when the file last got a name, a link or a touch.
      return facts === undefined || facts.ctimeMs >= before ? undefined : action(facts.size);
    });
  }

  async blobs(): Promise<readonly Digest[]> {
    const found: Digest[] = [];
    for (const algorithm of algorithms) {
      const names = (await readdir(join(this.#place.folder, "blobs", algorithm)).catch(absent)) ?? [];
      for (const name of names) {
        const digest = `${algorithm}:${name}`;
        if (isDigest(digest)) found.push(digest);
      }
    }
    return found;
  }

  async open(digest: Digest, start: number, end: number): Promise<ByteStream> {
    const path = blobPath(this.#place.folder, digest);
    return createReadStream(path, { start, end: Math.max(end - 1, 0), highWaterMark: readSize });
  }

  copyTo(digest: Digest, start: number, end: number, sink: PieceSink): Promise<void> {
    return copyFilePart(blobPath(this.#place.folder, digest), start, end, sink);
  }

  readManifest(digest: Digest): Promise<Buffer> {
    return readManifestFile(this.#place.folder, digest);
  }

  async writeManifest(digest: Digest, bytes: Buffer): Promise<void> {
    const path = blobPath(this.#place.folder, digest);
    await this.#locks.run(digest, async () => {
      const isThere = (await fileSize(path)) === bytes.length && digestOf(await readFile(path), digestAlgorithmOf(digest)) === digest;
      await (isThere ? touch(path) : writeWhole(path, bytes, this.#place.pending));
    });
  }

  async link(digest: Digest, from: Repository): Promise<"linked" | "absent"> {
    if (!(from instanceof LayoutRepository)) return "absent";
    const [source, target] = [blobPath(from.#place.folder, digest), blobPath(this.#place.folder, digest)];
    return this.#locks.run(digest, () => this.#link(source, target));
  }

  async #link(source: string, target: string): Promise<"linked" | "absent"> {
    try {
      await link(source, target);
    } catch (error) {
      if (isErrno(error, "EEXIST")) {
        await touch(target);
        return "linked";
      }
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
    await upload.sink.sync();
    const { sink } = upload;
    await this.#locks.run(digest, () => rename(sink.path, path));
    this.#index.mustSync(digestAlgorithmOf(digest));
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
}

/** Says that a file is in use. */
async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now);
}

function absent(error: unknown): undefined {
  if (isErrno(error, "ENOENT")) return undefined;
  throw error;
}

function parseLayoutFile(bytes: Buffer): void {
  const value = parseJson(bytes, { maxBytes: 4096, subject: "oci-layout" });
  if (typeof value !== "object" || value === null || !("imageLayoutVersion" in value) || value.imageLayoutVersion !== "1.0.0") {
    throw new Error("oci-layout does not say imageLayoutVersion 1.0.0");
  }
}
