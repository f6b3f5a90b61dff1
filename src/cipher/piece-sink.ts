import { Readable } from "node:stream";
import type { ByteStream } from "../bytes/index.ts";

/** Where the output of a transform goes. */
export interface PieceSink {
  /** Whether the memory of what was written may be used again, or belongs to whoever reads it from then on. */
  readonly output: "returned" | "kept";
  /** Of a file, where others may write what this sink is not given. */
  readonly path?: string | undefined;
  /** `at` is where the bytes stand in the whole. Settles when more can be taken. One call at a time. */
  write(bytes: Uint8Array, at: number): Promise<void>;
  /** After the last write, when everything has held. */
  finish(): Promise<void>;
}

/**
 * A stream of what is written. The last piece is held back until `finish`: a reader that ignores a failure never holds
 * everything. Destroying the stream fails the write under way.
 */
export class StreamSink implements PieceSink {
  readonly output = "kept";
  readonly stream: ByteStream;
  #held: Uint8Array | undefined;
  #proceed: (() => void) | undefined;
  #gone: { readonly cause: unknown } | undefined;

  constructor() {
    this.stream = new Readable({
      objectMode: true,
      highWaterMark: 1,
      read: () => this.#wake(),
      destroy: (error, done) => {
        this.#gone = { cause: error ?? new Error("the reader of a transform has gone") };
        this.#wake();
        done(error);
      },
    });
  }

  async write(bytes: Uint8Array): Promise<void> {
    // A stream that is gone would never ask for more.
    this.#checkReader();
    const held = this.#held;
    if (bytes.length > 0) this.#held = bytes;
    if (held !== undefined && bytes.length > 0 && !this.stream.push(held)) {
      await new Promise<void>((resolve) => (this.#proceed = resolve));
    }
    this.#checkReader();
  }

  async finish(): Promise<void> {
    if (this.#held !== undefined) this.stream.push(this.#held);
    this.stream.push(null);
  }

  /** Ends the stream with an error. */
  fail(cause: unknown): void {
    this.stream.destroy(cause instanceof Error ? cause : new Error(String(cause)));
  }

  #checkReader(): void {
    if (this.#gone !== undefined) throw this.#gone.cause;
  }

  #wake(): void {
    const proceed = this.#proceed;
    this.#proceed = undefined;
    proceed?.();
  }
}
