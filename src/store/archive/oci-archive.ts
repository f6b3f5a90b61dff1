import { once } from "node:events";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Pack } from "tar-stream";
import { digestAlgorithmOf, encodedOf, type ByteStream, type ContentAddress, type Digest } from "../../bytes/index.ts";
import { manifestLimits, mediaTypes, parseIndex, type Descriptor } from "../../oci/index.ts";
import { syncDirectory, writeAll } from "../disk/atomic-file.ts";
import type { CallOptions, ContentStore, FetchOptions } from "../content-store.ts";
import { ioError, StoreError } from "../errors.ts";
import { IndexedStore } from "../indexed-store.ts";
import { checkLayoutVersion, listBlobs, openLayout, type LayoutStore } from "../disk/layout-store.ts";
import { openTar, type ArchiveLimits } from "./open-tar.ts";
import { ReadOnlyBlobs, ReadOnlyIndex } from "../read-only.ts";
import { sweepStaging, temporaryName } from "../disk/staging-folder.ts";
import type { TarFile } from "./tar-file.ts";

export interface ArchiveRequest extends ArchiveLimits {
  readonly path: string;
  /**
   * `read`: it must exist. `write`: a new archive, which replaces what is at `path` at `close()`, and only if something
   * was tagged in it; until then what is there stays as it is.
   */
  readonly mode: "read" | "write";
}

const maxLayoutFileBytes = 64 * 1024;
const readSize = 256 * 1024;

/**
 * Opens a tar file of an OCI image layout, also compressed with gzip or zstd. Written ones are plain tar and always the
 * same bytes for the same image. Throws `ERR_STORE_NOT_FOUND`, `ERR_STORE_MALFORMED`, `ERR_STORE_IO`.
 * Source: containers-transports(5), "oci-archive".
 */
export async function openOciArchive(request: ArchiveRequest): Promise<ContentStore> {
  const name = `oci-archive:${request.path}`;
  if (request.mode === "write") return newArchive(resolve(request.path), name);
  const { tar, close } = await openTar(resolve(request.path), name, request);
  try {
    return await readOciLayout(tar, name, close);
  } catch (cause) {
    await close();
    throw ioError(cause, `reading ${name}`);
  }
}

/** The store of a layout inside a tar file. `close` ends the tar file. */
export async function readOciLayout(tar: TarFile, name: string, close: () => Promise<void>): Promise<ContentStore> {
  const layoutFile = tar.find("oci-layout");
  const indexFile = tar.find("index.json");
  if (layoutFile === undefined || indexFile === undefined) {
    throw new StoreError("ERR_STORE_MALFORMED", {
      message: `${name} is not an archive of an OCI image layout (it has no ${layoutFile === undefined ? "oci-layout" : "index.json"})`,
      hint: tar.find("manifest.json") === undefined ? "check the path" : "this is what docker save writes; name it docker-archive:FILE",
    });
  }
  checkLayoutVersion(await tar.read(layoutFile, maxLayoutFileBytes), name);
  const { manifests } = parseIndex(await tar.read(indexFile, manifestLimits.maxBytes), mediaTypes.index);
  const place = (digest: Digest) => `blobs/${digestAlgorithmOf(digest)}/${encodedOf(digest)}`;
  const blobs = {
    sizeOf: async (digest: Digest) => tar.find(place(digest))?.size,
    has: async ({ digest, size }: ContentAddress) => tar.find(place(digest))?.size === size,
    open: async (address: ContentAddress, options: FetchOptions): Promise<ByteStream | undefined> => {
      const member = tar.find(place(address.digest));
      return member === undefined ? undefined : tar.stream(member, options);
    },
    localPath: () => undefined,
    close,
  };
  return new IndexedStore(name, new ReadOnlyBlobs(blobs, name), new ReadOnlyIndex(async () => manifests, name));
}

/** A layout in a staging folder beside the archive; the same file system, so that the last step is one rename. */
async function newArchive(path: string, name: string): Promise<ContentStore> {
  const folder = dirname(path);
  await stat(folder).catch((cause: unknown) => {
    throw ioError(cause, `writing ${name}`);
  });
  await sweepStaging(folder);
  const staging = temporaryName(folder);
  return new NewArchive(path, name, staging, await openLayout({ path: staging, mode: "write", durability: "none", name }));
}

class NewArchive implements ContentStore {
  readonly name: string;
  readonly #path: string;
  readonly #staging: string;
  readonly #layout: LayoutStore;
  #tagged: "nothing" | "something" = "nothing";

  constructor(path: string, name: string, staging: string, layout: LayoutStore) {
    this.#path = path;
    this.name = name;
    this.#staging = staging;
    this.#layout = layout;
  }

  readonly resolve: ContentStore["resolve"] = (...given) => this.#layout.resolve(...given);
  readonly fetch: ContentStore["fetch"] = (...given) => this.#layout.fetch(...given);
  readonly exists: ContentStore["exists"] = (...given) => this.#layout.exists(...given);
  readonly referrers: ContentStore["referrers"] = (...given) => this.#layout.referrers(...given);
  readonly tags: ContentStore["tags"] = (...given) => this.#layout.tags(...given);
  readonly localPath: ContentStore["localPath"] = (target) => this.#layout.localPath(target);
  readonly push: ContentStore["push"] = (...given) => this.#layout.push(...given);
  readonly ingest: ContentStore["ingest"] = (...given) => this.#layout.ingest(...given);
  readonly remove: ContentStore["remove"] = (...given) => this.#layout.remove(...given);
  /** As a layout's: a worker may write its output beside the blobs. */
  readonly stageBlob: LayoutStore["stageBlob"] = () => this.#layout.stageBlob();

  async tag(target: Descriptor, reference: string, options?: CallOptions): Promise<void> {
    await this.#layout.tag(target, reference, options);
    this.#tagged = "something";
  }

  async close(): Promise<void> {
    try {
      await this.#layout.close();
      if (this.#tagged === "something") await writeArchive(this.#staging, this.#path);
      this.#tagged = "nothing";
    } catch (cause) {
      throw ioError(cause, `writing ${this.name}`);
    } finally {
      await rm(this.#staging, { recursive: true, force: true });
    }
  }
}

/** Everything in an order and with metadata that depend on the content alone. */
async function writeArchive(layout: string, path: string): Promise<void> {
  const temporary = temporaryName(dirname(path));
  const handle = await open(temporary, "wx", 0o644);
  try {
    const { pack } = await import("tar-stream");
    const archive = pack();
    const stop = new AbortController();
    const writing = writeChunks(handle, archive).catch((error: unknown) => {
      stop.abort(error);
      throw error;
    });
    const [added, written] = await Promise.allSettled([addMembers(archive, layout, stop.signal), writing]);
    // The disk's failure is the reason for the other one.
    if (written.status === "rejected") throw written.reason;
    if (added.status === "rejected") throw added.reason;
    await handle.sync();
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } finally {
    await handle.close();
    await rm(temporary, { force: true });
  }
}

async function writeChunks(handle: FileHandle, archive: Pack): Promise<void> {
  // The types of tar-stream do not know that its streams are iterable.
  for await (const chunk of archive as unknown as AsyncIterable<Uint8Array>) await writeAll(handle, chunk);
}

async function addMembers(archive: Pack, layout: string, signal: AbortSignal): Promise<void> {
  try {
    for (const name of ["oci-layout", "index.json", ...(await blobNames(layout))]) await addMember(archive, layout, name, signal);
    archive.finalize();
  } catch (error) {
    // Ends the loop that writes what comes out.
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

async function addMember(archive: Pack, layout: string, name: string, signal: AbortSignal): Promise<void> {
  const path = join(layout, name);
  const { size } = await stat(path);
  const added = Promise.withResolvers<undefined>();
  const header = { name, size, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0, type: "file" } as const;
  const entry = archive.entry(header, (error) => (error instanceof Error ? added.reject(error) : added.resolve(undefined)));
  for await (const chunk of createReadStream(path, { highWaterMark: readSize })) {
    if (!entry.write(chunk)) await once(entry, "drain", { signal });
  }
  signal.throwIfAborted();
  entry.end(undefined);
  await added.promise;
}

async function blobNames(layout: string): Promise<readonly string[]> {
  const digests = await listBlobs(layout);
  return digests.map((digest) => `blobs/${digestAlgorithmOf(digest)}/${encodedOf(digest)}`).sort();
}
