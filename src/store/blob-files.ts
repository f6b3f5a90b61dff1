import { createReadStream, statSync } from "node:fs";
import { constants, mkdir, open, rename, stat, unlink, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { newHasher, type ByteStage, type ByteStream, type ContentAddress, type Digest, compose } from "../bytes/index.ts";
import type { BlobArea } from "./areas.ts";
import { syncDirectory, writeAll } from "./atomic-file.ts";
import type { BlobSource, CallOptions, FetchOptions, IngestRequest } from "./content-store.ts";
import { checkSignal, ioError, StoreError, systemCode } from "./errors.ts";
import { StagingFolder } from "./staging-folder.ts";
import { ensureVerified } from "./verified-stream.ts";

/**
 * When written blobs are forced to disk.
 *
 * `blob`: each before it gets its name, so that after a power failure whatever has a name is whole. `none`: never, for
 * folders that a power failure makes worthless anyway (staging of an archive, tests).
 */
export type Durability = "blob" | "none";

/** A blob that somebody writes beside the others and that gets its name when its digest is known. */
export interface StagedBlob {
  /** Where to write, in the same file system as the blobs. There is no file yet: make it with O_EXCL. */
  readonly path: string;
  /**
   * Gives the file its name. The digest is believed: it must come from hashing what was written; the size is compared.
   * Throws `ERR_CONTENT_TRUNCATED` or `ERR_CONTENT_TRAILING_DATA`.
   */
  commit(address: ContentAddress): Promise<ContentAddress>;
  /** Removes the file; nothing after `commit`. */
  discard(): Promise<void>;
}

export interface BlobFilesRequest {
  /** The folder that holds staging; the same file system as the blobs. */
  readonly root: string;
  /** The absolute path of a blob's file. Digests are safe as file names. */
  readonly place: (digest: Digest) => string;
  readonly durability: Durability;
  /** Makes the root what it has to be, before the first write. */
  readonly prepare?: () => Promise<void>;
}

const readSize = 256 * 1024;

/** Content in files named by digest. A file has its final name only when it is whole and verified. */
export class BlobFiles implements BlobArea {
  readonly #place: (digest: Digest) => string;
  readonly #durability: Durability;
  readonly #staging: StagingFolder;
  /** Folders that got a new name since the last flush. */
  readonly #touched = new Set<string>();
  /** The same blob twice at once is written once. */
  readonly #running = new Map<Digest, Promise<"pushed" | "present">>();

  constructor(request: BlobFilesRequest) {
    this.#place = request.place;
    this.#durability = request.durability;
    this.#staging = new StagingFolder(request.root, request.prepare ?? (async () => undefined));
  }

  async has(address: ContentAddress): Promise<boolean> {
    return (await this.sizeOf(address.digest)) === address.size;
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      const found = await stat(this.#place(digest));
      return found.isFile() ? found.size : undefined;
    } catch (cause) {
      if (isAbsent(cause)) return undefined;
      throw ioError(cause, `looking for ${digest}`);
    }
  }

  async open(address: ContentAddress, { range }: FetchOptions): Promise<ByteStream | undefined> {
    const handle = await openRegular(this.#place(address.digest), `opening ${address.digest}`);
    if (handle === undefined) return undefined;
    const part = range === undefined ? {} : { start: range.start, end: range.end - 1 };
    if (range !== undefined && range.end <= range.start) {
      await handle.close();
      throw new StoreError("ERR_STORE_UNSUPPORTED", { message: `bytes ${range.start} to ${range.end} of ${address.digest} are no range` });
    }
    const file = createReadStream("", { fd: handle, highWaterMark: readSize, ...part });
    return compose(file, wrapReadErrors(`reading ${address.digest}`));
  }

  async put(address: ContentAddress, source: BlobSource, options: CallOptions): Promise<"pushed" | "present"> {
    const running = this.#running.get(address.digest);
    if (running !== undefined) {
      await running;
      if (await this.has(address)) return "present";
    }
    const mine = this.#put(address, source, options);
    this.#running.set(address.digest, mine);
    try {
      return await mine;
    } finally {
      if (this.#running.get(address.digest) === mine) this.#running.delete(address.digest);
    }
  }

  async #put(address: ContentAddress, source: BlobSource, { signal }: CallOptions): Promise<"pushed" | "present"> {
    if (await this.has(address)) return "present";
    const stream = ensureVerified(await source(), address, `content ${address.digest}`);
    await this.#write(
      stream,
      () => undefined,
      signal,
      () => address,
    );
    return "pushed";
  }

  async ingest(source: ByteStream, { signal }: IngestRequest): Promise<ContentAddress> {
    const hasher = newHasher();
    let size = 0;
    const observe = (chunk: Uint8Array) => {
      hasher.update(chunk);
      size += chunk.length;
    };
    return this.#write(source, observe, signal, () => ({ digest: hasher.digest(), size }));
  }

  /** A file for a writer that hashes for itself, such as a worker thread; see {@link StagedBlob}. */
  async stage(): Promise<StagedBlob> {
    const path = await this.#staging.newPath();
    let committed = false;
    return {
      path,
      commit: async (address) => {
        await this.#commit(path, address);
        committed = true;
        return address;
      },
      discard: async () => {
        if (!committed) await discard(path);
      },
    };
  }

  async remove(digest: Digest): Promise<"removed" | "absent"> {
    try {
      await unlink(this.#place(digest));
      return "removed";
    } catch (cause) {
      if (isAbsent(cause)) return "absent";
      throw ioError(cause, `removing ${digest}`);
    }
  }

  localPath(address: ContentAddress): string | undefined {
    const path = this.#place(address.digest);
    const found = statSync(path, { throwIfNoEntry: false });
    return found?.isFile() === true && found.size === address.size ? path : undefined;
  }

  async flush(): Promise<void> {
    const folders = [...this.#touched];
    this.#touched.clear();
    if (this.#durability === "none") return;
    for (const folder of folders)
      await syncDirectory(folder).catch((cause: unknown) => Promise.reject(ioError(cause, `flushing ${folder}`)));
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#staging.remove();
  }

  async #write(
    source: ByteStream,
    observe: (chunk: Uint8Array) => void,
    signal: AbortSignal | undefined,
    addressOf: () => ContentAddress,
  ): Promise<ContentAddress> {
    let path: string | undefined;
    try {
      path = await this.#staging.newPath();
      const handle = await open(path, "wx", 0o644).catch((cause: unknown) => Promise.reject(ioError(cause, "staging a blob")));
      try {
        for await (const chunk of source as AsyncIterable<Uint8Array>) {
          checkSignal(signal);
          observe(chunk);
          await writeAll(handle, chunk).catch((cause: unknown) => Promise.reject(ioError(cause, "writing a blob")));
        }
      } finally {
        await handle.close();
      }
      const address = addressOf();
      await this.#commit(path, address);
      return address;
    } catch (error) {
      source.destroy();
      if (path !== undefined) await discard(path);
      throw error;
    }
  }

  async #commit(path: string, address: ContentAddress): Promise<void> {
    try {
      await this.#check(path, address);
      const final = this.#place(address.digest);
      await mkdir(dirname(final), { recursive: true });
      await rename(path, final);
      this.#touched.add(dirname(final));
    } catch (cause) {
      throw ioError(cause, `storing ${address.digest}`);
    }
  }

  async #check(path: string, address: ContentAddress): Promise<void> {
    const handle = await open(path, "r+");
    try {
      const { size } = await handle.stat();
      if (size !== address.size) {
        throw new StoreError("ERR_STORE_IO", {
          message: `the staged file of ${address.digest} has ${size} bytes, ${address.size} were written`,
        });
      }
      // Whoever wrote it may have kept it to itself; blobs are for everybody who may read the folder.
      await handle.chmod(0o644);
      if (this.#durability === "blob") await handle.datasync();
    } finally {
      await handle.close();
    }
  }
}

/** Opens a regular file. A pipe or device in a hostile layout neither blocks nor is read; `undefined` when it is not there. */
async function openRegular(path: string, doing: string): Promise<FileHandle | undefined> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
    return undefined;
  } catch (cause) {
    if (isAbsent(cause)) return undefined;
    throw ioError(cause, doing);
  }
}

function wrapReadErrors(doing: string): ByteStage {
  return async function* (source) {
    try {
      yield* source;
    } catch (cause) {
      throw ioError(cause, doing);
    }
  };
}

async function discard(path: string): Promise<void> {
  await unlink(path).catch((cause: unknown) => {
    if (!isAbsent(cause)) throw ioError(cause, "removing a staged blob");
  });
}

function isAbsent(error: unknown): boolean {
  const code = systemCode(error);
  return code === "ENOENT" || code === "ENOTDIR";
}
