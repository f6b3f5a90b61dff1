import { hashHere, type ContentHasher, type ContentHashing, type Digest } from "../bytes/index.ts";
import { InternalError } from "../errors/index.ts";
import { PiecePool } from "./piece-pool.ts";
import type { Piece, PieceRunner } from "./runner.ts";
import { threadsFor, type CipherThreads } from "./threads.ts";

/** What is handed over at once, and how much of it may be under way. */
const pieceSize = 1 << 19;
const depth = 4;

/** Hashing of large content in one of the threads, of small content here. */
export function hashingFor(threads: CipherThreads | undefined, size: number): ContentHashing {
  const chosen = threadsFor(threads, size);
  return chosen === undefined ? hashHere : (algorithm) => new ThreadHasher(chosen.start({ kind: "digest", engine: "node", algorithm }));
}

/** Copies content into pieces that go to another thread and back. */
class ThreadHasher implements ContentHasher {
  readonly #runner: PieceRunner;
  readonly #pieces = new PiecePool({ depth, inputSize: pieceSize, outputSize: 0, output: "returned" });
  #piece: Piece | undefined;
  #filled = 0;

  constructor(runner: PieceRunner) {
    this.#runner = runner;
  }

  update(chunk: Uint8Array): Promise<void> | undefined {
    if (this.#piece === undefined || this.#filled + chunk.length >= pieceSize) return this.#fill(chunk);
    this.#add(this.#piece, chunk);
    return undefined;
  }

  async digest(): Promise<Digest> {
    const piece = this.#piece ?? (await this.#pieces.take());
    const { results } = await this.#runner.run({ piece, length: this.#filled, position: "last" });
    this.close();
    if (results?.outputDigest === undefined) throw new InternalError({ message: "a thread that hashes ended without the digest" });
    return results.outputDigest;
  }

  close(): void {
    this.#runner.close();
  }

  async #fill(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      const piece = (this.#piece ??= await this.#pieces.take());
      const part = chunk.subarray(at, at + pieceSize - this.#filled);
      this.#add(piece, part);
      at += part.length;
      if (this.#filled === pieceSize) this.#send(piece);
    }
  }

  #add(piece: Piece, part: Uint8Array): void {
    new Uint8Array(piece.input).set(part, this.#filled);
    this.#filled += part.length;
  }

  #send(piece: Piece): void {
    const running = this.#runner.run({ piece, length: this.#filled, position: "inner" });
    running.then(
      (done) => this.#pieces.give(done.piece),
      (cause: unknown) => this.#pieces.stop(cause),
    );
    this.#piece = undefined;
    this.#filled = 0;
  }
}
