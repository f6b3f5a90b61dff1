import { createReadStream, statSync } from "node:fs";
import { mkdir, open, rename, stat, unlink, utimes, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { newHasher, type ByteStream, type ContentAddress, type Digest } from "../../bytes/index.ts";
import type { BlobArea } from "../areas.ts";
import { syncDirectory } from "./atomic-file.ts";
import { ChunkWriter } from "./chunk-writer.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { BlobSource, CallOptions, FetchOptions, IngestRequest } from "../content-store.ts";
import { discard, fileHasDigest, forceFile, isAbsent, openRegular, readSize, readWhole } from "./content-file.ts";
import { checkSignal, ioError, StoreError, systemCode } from "../errors.ts";
import { newLimiter } from "../copy/limiter.ts";
import { copyLocalFile, localFileOf } from "./local-file.ts";
import { completePart, resumableSize, resumptionOf, type ResumableRequest } from "./resumable.ts";
import { StagingFolder, type Remains } from "./staging-folder.ts";
import type { WrittenFiles } from "./written-files.ts";
import { ensureVerified } from "../verified-stream.ts";

/**
 * When written blobs are forced to disk.
 *
 * `disk`: before an index names them. Large ones at once, small ones all together at the next `flush()`, because a disk
 * takes a thousand in little more than the time of one (skopeo waits for each). Until then the staging folder stands for
 * them: after a power failure, whoever writes next checks what had a name and was not forced yet, and removes what is
 * torn. `none`: never, for folders that a power failure makes worthless anyway (staging of an archive, tests).
 */
export type Durability = "disk" | "none";

/** A blob that somebody writes beside the others and that gets its name when its digest is known. */
export interface StagedBlob {
  /** Where to write, in the same file system as the blobs. There is no file yet: make it with O_EXCL. */
  readonly path: string;
  /**
   * Gives the file its name. The digest is believed: it must come from hashing what was written; the size is compared.
   * Throws `ERR_STORE_IO`.
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
  /** All blobs that are there. */
  readonly list: () => Promise<readonly Digest[]>;
  readonly durability: Durability;
  /** Makes the root what it has to be, before the first write. */
  readonly prepare?: () => Promise<void>;
  /** Told of every blob that is added, for writers that can take it back; nobody unless given. */
  readonly written?: WrittenFiles | undefined;
}

/** Smaller blobs are read in one piece. */
const pieceSize = 1024 * 1024;
/** From this size on a blob is forced to disk when it is written, beside the work on the next ones. */
const forceAtOnceSize = 4 * 1024 * 1024;
const forceConcurrency = 16;
/** File systems round times; older than this before a dead writer's start is surely not its work. */
const clockSlackMs = 10_000;

/** Content in files named by digest. A file has its final name only when it is whole and verified. */
export class BlobFiles implements BlobArea {
  readonly #request: BlobFilesRequest;
  readonly #staging: StagingFolder;
  /** What has a name and was not forced to disk yet. */
  readonly #unforced = new Set<string>();
  /** Folders that got a new name since the last flush. */
  readonly #touched = new Set<string>();
  readonly #made = new Set<string>();
  /** The same blob twice at once is written once. */
  readonly #running = new Map<Digest, Promise<"pushed" | "present">>();

  constructor(request: BlobFilesRequest) {
    this.#request = request;
    const prepare = request.prepare ?? (async () => undefined);
    this.#staging = new StagingFolder({ root: request.root, prepare, recover: (remains) => this.#recover(remains) });
  }

  async has(address: ContentAddress): Promise<boolean> {
    return (await this.sizeOf(address.digest)) === address.size;
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      const found = await stat(this.#request.place(digest));
      return found.isFile() ? found.size : undefined;
    } catch (cause) {
      if (isAbsent(cause)) return undefined;
      throw ioError(cause, `looking for ${digest}`);
    }
  }

  async open(address: ContentAddress, { range }: FetchOptions): Promise<ByteStream | undefined> {
    if (range !== undefined && range.end <= range.start) {
      throw new StoreError("ERR_STORE_UNSUPPORTED", { message: `bytes ${range.start} to ${range.end} of ${address.digest} are no range` });
    }
    const opened = await openRegular(this.#request.place(address.digest), `opening ${address.digest}`);
    if (opened === undefined) return undefined;
    const { handle, size } = opened;
    if (size <= pieceSize && range === undefined) return bytesStream(await readWhole(handle, `reading ${address.digest}`));
    const part = range === undefined ? {} : { start: range.start, end: range.end - 1 };
    return createReadStream("", { fd: handle, highWaterMark: readSize, ...part });
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
    await this.#staging.recover();
    const path = this.#request.place(address.digest);
    if ((await this.has(address)) && (await touch(path)) === "touched") {
      // Another process may have written it a moment ago.
      this.#unforced.add(path);
      await this.#request.written?.touched(path);
      return "present";
    }
    const file = localFileOf(source);
    const how = address.size < resumableSize ? undefined : resumptionOf(source);
    if (file !== undefined) await this.#store((handle) => copyLocalFile(file, handle, address, signal).then(() => address));
    else if (how !== undefined) await this.#complete({ source, how, expected: address, signal });
    else
      await this.#write(
        ensureVerified(await source(), address, `content ${address.digest}`),
        () => undefined,
        signal,
        () => address,
      );
    return "pushed";
  }

  async ingest(source: ByteStream, { signal, address }: IngestRequest): Promise<ContentAddress> {
    if (address !== undefined) return this.#write(source, () => undefined, signal, address);
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
        await this.#commitForeign(path, address);
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
      const path = this.#request.place(digest);
      await unlink(path);
      this.#unforced.delete(path);
      return "removed";
    } catch (cause) {
      if (isAbsent(cause)) return "absent";
      throw ioError(cause, `removing ${digest}`);
    }
  }

  localPath(address: ContentAddress): string | undefined {
    const path = this.#request.place(address.digest);
    const found = statSync(path, { throwIfNoEntry: false });
    return found?.isFile() === true && found.size === address.size ? path : undefined;
  }

  async flush(): Promise<void> {
    const [files, folders] = [[...this.#unforced], [...this.#touched]];
    this.#unforced.clear();
    this.#touched.clear();
    if (this.#request.durability === "none") return;
    const limiter = newLimiter(forceConcurrency);
    try {
      await Promise.all(files.map((path) => limiter.run(() => forceFile(path))));
      for (const folder of folders) await syncDirectory(folder);
    } catch (cause) {
      throw ioError(cause, `forcing ${this.#request.root} to disk`);
    }
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
    try {
      return await this.#store(async (handle) => {
        const writer = new ChunkWriter(handle);
        try {
          for await (const chunk of source as AsyncIterable<Uint8Array>) {
            checkSignal(signal);
            observe(chunk);
            await writer.add(chunk);
          }
          await writer.finish();
        } finally {
          await writer.settle();
        }
        return addressOf();
      });
    } catch (error) {
      source.destroy();
      throw error;
    }
  }

  async #complete(request: Omit<ResumableRequest, "path" | "force">): Promise<void> {
    const { expected } = request;
    const path = await this.#staging.partPath(expected.digest);
    await completePart({ ...request, path, force: (handle) => this.#forceLarge(handle, expected.size) });
    await this.#rename(path, expected);
  }

  /** Gives a file its name after `fill` has written and verified it. */
  async #store(fill: (handle: FileHandle) => Promise<ContentAddress>): Promise<ContentAddress> {
    const path = await this.#staging.newPath();
    try {
      const handle = await open(path, "wx", 0o644).catch((cause: unknown) => Promise.reject(ioError(cause, "staging a blob")));
      let address: ContentAddress;
      try {
        address = await fill(handle);
        await this.#forceLarge(handle, address.size).catch((cause: unknown) =>
          Promise.reject(ioError(cause, `forcing ${address.digest} to disk`)),
        );
      } finally {
        await handle.close();
      }
      await this.#rename(path, address);
      return address;
    } catch (error) {
      await discard(path);
      throw error;
    }
  }

  async #commitForeign(path: string, address: ContentAddress): Promise<void> {
    try {
      const handle = await open(path, "r+");
      try {
        const { size } = await handle.stat();
        if (size !== address.size) {
          throw new StoreError("ERR_STORE_IO", {
            message: `the staged file of ${address.digest} has ${size} bytes, ${address.size} were written`,
          });
        }
        await this.#forceLarge(handle, size);
      } finally {
        await handle.close();
      }
      await this.#rename(path, address);
    } catch (cause) {
      throw ioError(cause, `storing ${address.digest}`);
    }
  }

  async #forceLarge(handle: FileHandle, size: number): Promise<void> {
    if (this.#request.durability === "disk" && size >= forceAtOnceSize) await handle.datasync();
  }

  async #rename(path: string, address: ContentAddress): Promise<void> {
    try {
      const final = this.#request.place(address.digest);
      const folder = dirname(final);
      if (!this.#made.has(folder)) await mkdir(folder, { recursive: true });
      this.#made.add(folder);
      const give = () => rename(path, final);
      await (this.#request.written === undefined ? give() : this.#request.written.adding(final, give));
      if (address.size < forceAtOnceSize) this.#unforced.add(final);
      this.#touched.add(folder);
    } catch (cause) {
      throw ioError(cause, `storing ${address.digest}`);
    }
  }

  /** What a dead writer gave names to: forced to disk with ours after a kill, hashed after a power failure. */
  async #recover({ ending, sinceMs }: Remains): Promise<void> {
    for (const digest of await this.#request.list()) {
      const path = this.#request.place(digest);
      const found = await stat(path);
      if (found.mtimeMs < sinceMs - clockSlackMs) continue;
      if (ending === "killed" || (await fileHasDigest(path, digest))) this.#unforced.add(path);
      else await discard(path);
    }
  }
}

/** Says that the file is in use: a registry that collects garbage in the same folder goes by that. */
async function touch(path: string): Promise<"touched" | "absent"> {
  const now = new Date();
  try {
    await utimes(path, now, now);
  } catch (cause) {
    if (isAbsent(cause)) return "absent";
    // Somebody else's file: it may be read, not touched.
    if (systemCode(cause) !== "EPERM" && systemCode(cause) !== "EACCES") throw ioError(cause, `using ${path}`);
  }
  return "touched";
}
