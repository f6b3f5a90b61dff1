import { createHash, type Hash } from "node:crypto";
import type { Chunks, Digest, DigestAlgorithm } from "../bytes/index.ts";
import { SizeMismatch, type PendingUpload } from "./storage.ts";

/** Where an upload's bytes lie. */
export interface UploadSink {
  write(pieces: readonly Uint8Array[], position: number): Promise<void>;
  truncate(size: number): Promise<void>;
  read(): Chunks;
  /** Called when a body has ended or broken; the next `write` opens again. */
  rest(): Promise<void>;
  discard(): Promise<void>;
}

/** Pieces are gathered to this size before they are written: one system call for eight chunks of a socket. */
const batchBytes = 512 * 1024;

/**
 * Hashes while it writes: the hash of a batch is taken while the one before is on its way to the disk, so both cores
 * work and at most two batches are in memory.
 */
export class SinkUpload implements PendingUpload {
  readonly sink: UploadSink;
  readonly #algorithm: DigestAlgorithm;
  #hash: Hash;
  #size = 0;

  constructor(algorithm: DigestAlgorithm, sink: UploadSink) {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
    this.sink = sink;
  }

  get size(): number {
    return this.#size;
  }

  async append(body: Chunks, limits: { readonly expected?: number | undefined; readonly maxBytes: number }): Promise<void> {
    const before = { hash: this.#hash.copy(), size: this.#size };
    const most = Math.min(limits.expected ?? Infinity, limits.maxBytes - this.#size);
    let received = 0;
    let batch: Uint8Array[] = [];
    let batchSize = 0;
    let writing: Promise<void> = Promise.resolve();
    const flush = async () => {
      const [pieces, position, size] = [batch, this.#size, batchSize];
      batch = [];
      batchSize = 0;
      await writing;
      if (size === 0) return;
      writing = this.sink.write(pieces, position);
      // Awaited at the next flush; until then a failure must not count as unhandled.
      writing.catch(() => undefined);
      for (const piece of pieces) this.#hash.update(piece);
      this.#size += size;
    };
    try {
      for await (const chunk of body) {
        received += chunk.length;
        if (received > most) throw tooMuch(limits, received);
        batch.push(chunk);
        batchSize += chunk.length;
        if (batchSize >= batchBytes) await flush();
      }
      await flush();
      await writing;
      if (limits.expected !== undefined && received !== limits.expected) {
        throw new SizeMismatch("length", `the body has ${received} bytes, its headers say ${limits.expected}`);
      }
    } catch (error) {
      await this.#settle(error, before, flush, () => writing);
      throw error;
    } finally {
      await this.sink.rest();
    }
  }

  async digest(algorithm: DigestAlgorithm): Promise<Digest> {
    if (algorithm === this.#algorithm) return `${algorithm}:${this.#hash.copy().digest("hex")}`;
    const hash = createHash(algorithm);
    // Nothing was written yet for an empty blob.
    if (this.#size > 0) for await (const chunk of this.sink.read()) hash.update(chunk);
    return `${algorithm}:${hash.digest("hex")}`;
  }

  discard(): Promise<void> {
    return this.sink.discard();
  }

  /** A broken connection keeps what came, so that the client can resume; a lying body or a full disk keeps nothing of it. */
  async #settle(
    error: unknown,
    before: { hash: Hash; size: number },
    flush: () => Promise<void>,
    writing: () => Promise<void>,
  ): Promise<void> {
    let whole = !(error instanceof SizeMismatch);
    try {
      if (whole) await flush();
      await writing();
    } catch {
      // The first error is the one that is reported; a failed write only means that the body is not kept.
      whole = false;
    }
    if (whole) return;
    this.#hash = before.hash;
    this.#size = before.size;
    await this.sink.truncate(before.size);
  }
}

function tooMuch(limits: { readonly expected?: number | undefined; readonly maxBytes: number }, received: number): SizeMismatch {
  return limits.expected !== undefined && received > limits.expected
    ? new SizeMismatch("length", `the body is longer than the ${limits.expected} bytes that its headers say`)
    : new SizeMismatch("too-large", `the blob is larger than the ${limits.maxBytes} bytes that this registry takes`);
}
