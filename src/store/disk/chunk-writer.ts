import type { FileHandle } from "node:fs/promises";
import { ioError } from "../errors.ts";
import { writeAll } from "./atomic-file.ts";

/** Bytes that are written in one go. */
const batchSize = 1024 * 1024;

/**
 * Writes chunks to a file in large batches, one batch while the next comes in. A write per chunk of a network stream
 * would put a trip to another thread and back between any two of them.
 */
export class ChunkWriter {
  readonly #handle: FileHandle;
  #batch: Uint8Array[] = [];
  #size = 0;
  #writing: Promise<void> = Promise.resolve();
  #failure: { readonly error: Error } | undefined;

  /** Appends to where the handle stands; the handle stays its owner's, who must `finish()` before closing it. */
  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Takes a chunk, and waits only when a batch is full and the one before is not written yet. Throws `ERR_STORE_IO`. */
  async add(chunk: Uint8Array): Promise<void> {
    this.#batch.push(chunk);
    this.#size += chunk.length;
    if (this.#size < batchSize) return;
    await this.#writing;
    this.#check();
    this.#start();
  }

  /** Writes what is left, and waits until nothing goes on any more. Throws `ERR_STORE_IO`. */
  async finish(): Promise<void> {
    await this.#writing;
    this.#check();
    this.#start();
    await this.#writing;
    this.#check();
  }

  /** Waits until nothing goes on any more, whatever became of it. */
  async settle(): Promise<void> {
    await this.#writing;
  }

  #start(): void {
    const batch = this.#batch;
    const size = this.#size;
    this.#batch = [];
    this.#size = 0;
    this.#writing = writeBatch(this.#handle, batch, size).catch((cause: unknown) => {
      this.#failure = { error: ioError(cause, "writing a blob") };
    });
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

async function writeBatch(handle: FileHandle, batch: readonly Uint8Array[], size: number): Promise<void> {
  if (size === 0) return;
  let { bytesWritten } = await handle.writev(batch);
  if (bytesWritten === size) return;
  // A disk that is nearly full takes less than it was given.
  for (const chunk of batch) {
    if (bytesWritten < chunk.length) await writeAll(handle, chunk.subarray(bytesWritten));
    bytesWritten = Math.max(0, bytesWritten - chunk.length);
  }
}
