import { BytesError, type ByteStream } from "../bytes/index.ts";
import { printable, type ByteString } from "./byte-string.ts";
import { GuestError } from "./errors.ts";

/** Bounds on what an image may cost. All apply to the whole image, not to one layer, unless the name says otherwise. */
export interface UnpackLimits {
  /** Logical bytes of all files, holes of sparse files included. */
  readonly maxBytes: number;
  /** Entries of all layers, whiteouts included. */
  readonly maxEntries: number;
  /** Components of a path, before and after links are resolved. */
  readonly maxDepth: number;
  /** Uncompressed bytes per compressed byte of one layer; looked at once a layer has passed 64 MiB. */
  readonly maxRatio: number;
  /** Bytes of one PAX header or sparse map. */
  readonly maxPaxBytes: number;
  /** Window of a zstd frame, in bytes: what the decompressor must hold in memory. */
  readonly maxZstdWindow: number;
  /** Wall time of the whole operation. */
  readonly maxTimeMs: number;
}

/** Limits as a caller gives them: what is missing or `undefined` is the default. */
export type GivenLimits = { readonly [Name in keyof UnpackLimits]?: UnpackLimits[Name] | undefined };

/** The limits that apply unless told otherwise. */
export const defaultUnpackLimits: UnpackLimits = {
  maxBytes: 64 * 1024 ** 3,
  maxEntries: 1_000_000,
  maxDepth: 256,
  maxRatio: 1000,
  maxPaxBytes: 1024 ** 2,
  maxZstdWindow: 128 * 1024 ** 2,
  maxTimeMs: 60 * 60 * 1000,
};

/** The defaults with what is given in their place; a member that is `undefined` means the default, never no limit. */
export function limitsOf(given: GivenLimits | undefined): UnpackLimits {
  return { ...defaultUnpackLimits, ...Object.fromEntries(Object.entries(given ?? {}).filter(([, value]) => value !== undefined)) };
}

/** Below this a high ratio harms nobody: a layer of a few zero-filled files compresses 1000 to 1. */
const ratioGrace = 64 * 1024 ** 2;

/** The longest that a timer of Node.js runs; beyond it, it would fire at once. */
const maxTimerMs = 2 ** 31 - 1;

/** Counts what one image has cost so far; every method throws `ERR_GUEST_LIMIT_EXCEEDED` at its limit. */
export class Budget {
  readonly limits: UnpackLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: number;
  readonly #clock: () => number;
  #bytes = 0;
  #entries = 0;

  constructor(
    limits: UnpackLimits,
    options: { readonly signal?: AbortSignal | undefined; readonly clock?: (() => number) | undefined } = {},
  ) {
    this.limits = limits;
    this.#signal = options.signal;
    this.#clock = options.clock ?? (() => performance.now());
    this.#deadline = this.#clock() + limits.maxTimeMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get entries(): number {
    return this.#entries;
  }

  /** One more entry of the given logical size, before anything is written. */
  charge(size: number, entry: ByteString): void {
    this.#entries += 1;
    this.#bytes += size;
    if (this.#entries > this.limits.maxEntries)
      throw exceeded("maxEntries", `more than ${this.limits.maxEntries} entries`, "--max-entries", entry);
    if (this.#bytes > this.limits.maxBytes) {
      throw exceeded("maxBytes", `more than ${this.limits.maxBytes} bytes of files`, "--max-unpacked-size", entry);
    }
  }

  /** What has come out of a layer's decompressor so far, against what went in. */
  checkRatio(compressed: number, uncompressed: number): void {
    if (uncompressed > ratioGrace && uncompressed > compressed * this.limits.maxRatio) {
      throw exceeded("maxRatio", `more than ${this.limits.maxRatio} bytes out of each compressed byte`, "--limit ratio");
    }
    // A stream of empty entries or padding is not charged by entry; it still must end.
    if (uncompressed > this.limits.maxBytes + this.limits.maxEntries * 2048) {
      throw exceeded("maxBytes", `a tar stream beyond ${this.limits.maxBytes} bytes`, "--max-unpacked-size");
    }
  }

  /** Between two chunks: deadline and abort. Throws `ERR_INTERRUPTED` when aborted. */
  checkTime(): void {
    if (this.#signal?.aborted === true) throw this.#interrupted();
    if (this.#clock() > this.#deadline) throw this.#tooSlow();
  }

  /**
   * Ends a stream that stalls beyond the deadline, or at an abort, which no check between two chunks would see. Returns what
   * to call when the stream is done with.
   */
  guardStream(stream: ByteStream): () => void {
    const left = Math.max(0, this.#deadline - this.#clock());
    const timer = setTimeout(() => stream.destroy(this.#tooSlow()), Math.min(left, maxTimerMs));
    const abort = () => stream.destroy(this.#interrupted());
    this.#signal?.addEventListener("abort", abort, { once: true });
    return () => {
      clearTimeout(timer);
      this.#signal?.removeEventListener("abort", abort);
    };
  }

  #interrupted(): BytesError {
    return new BytesError("ERR_INTERRUPTED", { message: "unpacking was interrupted", cause: this.#signal?.reason });
  }

  #tooSlow(): GuestError {
    return exceeded("maxTimeMs", `more than ${this.limits.maxTimeMs} ms`, "--limit time");
  }
}

function exceeded(limit: keyof UnpackLimits, what: string, flag: string, entry?: ByteString): GuestError {
  const name = entry === undefined ? undefined : printable(entry);
  return new GuestError("ERR_GUEST_LIMIT_EXCEEDED", {
    message: name === undefined ? `the image takes ${what}` : `with entry ${name} the image takes ${what}`,
    hint: `if the image is meant to need that much, raise ${flag}; else it is an attack on the machine that unpacks it`,
    details: name === undefined ? { limit } : { limit, entry: name },
  });
}
