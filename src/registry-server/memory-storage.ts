import { Readable } from "node:stream";
import { digestAlgorithmOf, digestOf, type ByteStream, type Chunks, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import { Catalog } from "./catalog.ts";
import { DigestLocks } from "./digest-locks.ts";
import { SinkUpload, type UploadSink } from "./pending-upload.ts";
import { SizeMismatch, type CatalogEdit, type PendingUpload, type PieceSink, type RegistryStorage, type Repository } from "./storage.ts";

/** Pieces of a blob in order; never joined, so a large blob needs no second copy. */
interface MemoryBlob {
  readonly pieces: readonly Uint8Array[];
  readonly size: number;
  /** Repositories that have it; its memory counts once, until the last one deletes it. */
  holders: number;
}

/** Counts bytes of all blobs and uploads. */
class Budget {
  readonly #maxBytes: number;
  #used = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  take(size: number): void {
    if (this.#used + size > this.#maxBytes) {
      throw new SizeMismatch("storage-full", `the registry's memory storage is full (limit ${this.#maxBytes} bytes)`);
    }
    this.#used += size;
  }

  release(size: number): void {
    this.#used -= size;
  }
}

/** Keeps everything in memory, for tests and demonstrations. */
export class MemoryStorage implements RegistryStorage {
  readonly #repositories = new Map<string, MemoryRepository>();
  readonly #budget: Budget;

  constructor(maxBytes: number) {
    this.#budget = new Budget(maxBytes);
  }

  async find(name: string): Promise<Repository | undefined> {
    return this.#repositories.get(name);
  }

  async create(name: string): Promise<Repository> {
    const repository = this.#repositories.get(name) ?? new MemoryRepository(name, this.#budget);
    this.#repositories.set(name, repository);
    return repository;
  }

  async names(): Promise<readonly string[]> {
    return [...this.#repositories.keys()].sort();
  }

  async beginUpload(algorithm: DigestAlgorithm): Promise<PendingUpload> {
    return new SinkUpload(algorithm, new MemorySink(this.#budget));
  }

  async close(): Promise<void> {
    this.#repositories.clear();
  }
}

class MemoryRepository implements Repository {
  readonly name: string;
  readonly catalog = new Catalog();
  readonly #blobs = new Map<Digest, MemoryBlob>();
  /** When somebody last pushed, mounted or claimed each. */
  readonly #used = new Map<Digest, number>();
  readonly #locks = new DigestLocks();
  readonly #budget: Budget;

  constructor(name: string, budget: Budget) {
    this.name = name;
    this.#budget = budget;
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return this.#blobs.get(digest)?.size;
  }

  async claim(digest: Digest): Promise<number | undefined> {
    return this.#locks.run(digest, async () => {
      const size = this.#blobs.get(digest)?.size;
      if (size !== undefined) this.#use(digest);
      return size;
    });
  }

  whenIdle<Result>(digest: Digest, before: number, action: (size: number) => Promise<Result>): Promise<Result | undefined> {
    return this.#locks.run(digest, async () => {
      const size = this.#blobs.get(digest)?.size;
      return size === undefined || (this.#used.get(digest) ?? 0) >= before ? undefined : action(size);
    });
  }

  async blobs(): Promise<readonly Digest[]> {
    return [...this.#blobs.keys()];
  }

  async open(digest: Digest, start: number, end: number): Promise<ByteStream> {
    return Readable.from(slices(this.#blobs.get(digest)?.pieces ?? [], start, end), { objectMode: false });
  }

  async copyTo(digest: Digest, start: number, end: number, sink: PieceSink): Promise<void> {
    for await (const piece of slices(this.#blobs.get(digest)?.pieces ?? [], start, end)) await sink(piece);
  }

  async readManifest(digest: Digest): Promise<Buffer> {
    return Buffer.concat(this.#blobs.get(digest)?.pieces ?? []);
  }

  async writeManifest(digest: Digest, bytes: Buffer): Promise<void> {
    if (digestOf(bytes, digestAlgorithmOf(digest)) !== digest) throw new Error("manifest bytes do not match their digest");
    this.#use(digest);
    if (this.#blobs.has(digest)) return;
    this.#budget.take(bytes.length);
    this.#blobs.set(digest, { pieces: [bytes], size: bytes.length, holders: 1 });
  }

  async link(digest: Digest, from: Repository): Promise<"linked" | "absent"> {
    const blob = from instanceof MemoryRepository ? from.#blobs.get(digest) : undefined;
    if (blob === undefined) return "absent";
    this.#use(digest);
    if (!this.#blobs.has(digest)) {
      blob.holders += 1;
      this.#blobs.set(digest, blob);
    }
    return "linked";
  }

  async commit(upload: PendingUpload, digest: Digest): Promise<void> {
    if (!(upload instanceof SinkUpload) || !(upload.sink instanceof MemorySink))
      throw new TypeError("the upload belongs to another storage");
    this.#use(digest);
    if (this.#blobs.has(digest)) await upload.discard();
    else this.#blobs.set(digest, { pieces: upload.sink.take(), size: upload.size, holders: 1 });
  }

  async remove(digest: Digest): Promise<"removed" | "absent"> {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return "absent";
    this.#blobs.delete(digest);
    this.#used.delete(digest);
    blob.holders -= 1;
    if (blob.holders === 0) this.#budget.release(blob.size);
    return "removed";
  }

  async change(edit: CatalogEdit): Promise<void> {
    edit(this.catalog);
  }

  #use(digest: Digest): void {
    this.#used.set(digest, Date.now());
  }
}

class MemorySink implements UploadSink {
  readonly #budget: Budget;
  #pieces: Uint8Array[] = [];

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  async write(pieces: readonly Uint8Array[]): Promise<void> {
    for (const piece of pieces) {
      this.#budget.take(piece.length);
      // A small piece may be a window of a large shared buffer of the socket: copy, or that one stays alive.
      this.#pieces.push(Buffer.from(piece));
    }
  }

  async truncate(size: number): Promise<void> {
    const kept: Uint8Array[] = [];
    for await (const piece of slices(this.#pieces, 0, size)) kept.push(piece);
    this.#budget.release(sum(this.#pieces) - size);
    this.#pieces = kept;
  }

  read(): Chunks {
    return slices(this.#pieces, 0, sum(this.#pieces));
  }

  async rest(): Promise<void> {
    // Nothing is open.
  }

  async discard(): Promise<void> {
    this.#budget.release(sum(this.#pieces));
    this.#pieces = [];
  }

  /** The pieces, which now belong to a blob. */
  take(): readonly Uint8Array[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }
}

async function* slices(pieces: readonly Uint8Array[], start: number, end: number): Chunks {
  let position = 0;
  for (const piece of pieces) {
    const from = Math.max(start - position, 0);
    const to = Math.min(end - position, piece.length);
    if (from < to) yield piece.subarray(from, to);
    position += piece.length;
    if (position >= end) return;
  }
}

function sum(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((total, piece) => total + piece.length, 0);
}
