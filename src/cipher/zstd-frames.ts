/** Source: RFC 8878 sections 3.1.1 and 3.1.2. */
const frameMagic = 0xfd2fb528;
const skippableMagic = 0x184d2a50;
const maxFrameHeader = 14;
const blockHeaderSize = 3;
const checksumSize = 4;

type State =
  | { readonly kind: "magic" }
  | { readonly kind: "frame-header" }
  | { readonly kind: "block-header" }
  | { readonly kind: "skippable-size" }
  | { readonly kind: "copy"; remaining: number; readonly next: "block-header" | "checksum" | "end" }
  | { readonly kind: "skip"; remaining: number };

/** The errors of whoever reads the frames. */
interface ZstdRefusals {
  readonly malformed: (why: string) => Error;
  /** A frame wants a window of so many bytes. */
  readonly window: (bytes: number) => Error;
}

/**
 * Cuts a zstd stream at the borders of its frames, drops skippable frames, and bounds the window of each frame.
 *
 * Node.js (24.21) silently drops what follows a frame in the same write, so a layer of several frames (zstd:chunked,
 * pzstd) would lose files; given each frame in its own writes it decodes them all.
 */
export class ZstdFrameSplitter {
  readonly #maxWindow: number;
  readonly #refusals: ZstdRefusals;
  readonly #head = Buffer.alloc(maxFrameHeader);
  #filled = 0;
  #state: State = { kind: "magic" };
  #hasChecksum = false;
  #frames = 0;

  constructor(maxWindow: number, refusals: ZstdRefusals) {
    this.#maxWindow = maxWindow;
    this.#refusals = refusals;
  }

  *push(chunk: Buffer): Generator<Buffer> {
    // [start, at) is what belongs to the current frame and was not yielded yet.
    let start = 0;
    let at = 0;
    while (at < chunk.length) {
      const state = this.#state;
      if (state.kind === "skip") {
        const take = Math.min(state.remaining, chunk.length - at);
        state.remaining -= take;
        at += take;
        start = at;
        if (state.remaining === 0) this.#state = { kind: "magic" };
      } else if (state.kind === "copy") {
        const take = Math.min(state.remaining, chunk.length - at);
        state.remaining -= take;
        at += take;
        if (state.remaining === 0 && this.#afterCopy(state.next) === "frame-ended") {
          yield chunk.subarray(start, at);
          start = at;
        }
      } else {
        this.#head[this.#filled] = chunk[at] ?? 0;
        this.#filled += 1;
        at += 1;
        const outcome = this.#onHead();
        if (outcome === "skippable") start = at;
        else if (outcome === "frame-started") {
          // The header may have begun in an earlier chunk, or follow skipped bytes: it goes out on its own.
          yield Buffer.from(this.#head.subarray(0, this.#filled));
          this.#filled = 0;
          start = at;
        } else if (outcome === "frame-ended") {
          yield chunk.subarray(start, at);
          start = at;
        }
      }
    }
    if (this.#state.kind !== "magic" && this.#state.kind !== "frame-header" && this.#state.kind !== "skippable-size" && at > start) {
      yield chunk.subarray(start, at);
    }
  }

  end(): void {
    if (this.#state.kind !== "magic" || this.#filled > 0) throw this.#refusals.malformed("it ends inside a frame");
    if (this.#frames === 0) throw this.#refusals.malformed("it has no frame");
  }

  #onHead(): "more" | "skippable" | "frame-started" | "frame-ended" {
    const head = this.#head;
    switch (this.#state.kind) {
      case "magic": {
        if (this.#filled < 4) return "more";
        const magic = head.readUInt32LE(0);
        if (magic === frameMagic) this.#state = { kind: "frame-header" };
        else if (magic >= skippableMagic && magic < skippableMagic + 16) this.#state = { kind: "skippable-size" };
        else throw this.#refusals.malformed("a frame starts with unknown bytes");
        return "more";
      }
      case "skippable-size":
        if (this.#filled < 8) return "more";
        this.#filled = 0;
        this.#state = head.readUInt32LE(4) === 0 ? { kind: "magic" } : { kind: "skip", remaining: head.readUInt32LE(4) };
        return "skippable";
      case "frame-header":
        if (this.#filled < 5 || this.#filled < frameHeaderSize(head[4] ?? 0)) return "more";
        this.#checkWindow();
        this.#hasChecksum = ((head[4] ?? 0) & 4) !== 0;
        this.#frames += 1;
        this.#state = { kind: "block-header" };
        return "frame-started";
      case "block-header":
        if (this.#filled < blockHeaderSize) return "more";
        this.#filled = 0;
        return this.#onBlock(head.readUIntLE(0, 3));
      case "copy":
      case "skip":
        return "more";
    }
  }

  #onBlock(header: number): "more" | "frame-ended" {
    const type = (header >> 1) & 3;
    if (type === 3) throw this.#refusals.malformed("a block has the reserved type");
    const remaining = type === 1 ? 1 : header >> 3;
    const next = (header & 1) === 0 ? "block-header" : "checksum";
    if (remaining > 0) this.#state = { kind: "copy", remaining, next };
    else return this.#afterCopy(next);
    return "more";
  }

  #afterCopy(next: "block-header" | "checksum" | "end"): "more" | "frame-ended" {
    if (next === "checksum" && this.#hasChecksum) this.#state = { kind: "copy", remaining: checksumSize, next: "end" };
    else if (next === "block-header") this.#state = { kind: "block-header" };
    else {
      this.#state = { kind: "magic" };
      return "frame-ended";
    }
    return "more";
  }

  /** Source: RFC 8878 section 3.1.1.1.2, Window_Descriptor; a single segment's window is its content size. */
  #checkWindow(): void {
    const descriptor = this.#head[4] ?? 0;
    if ((descriptor & 8) !== 0) throw this.#refusals.malformed("a reserved bit is set");
    if ((descriptor & 3) !== 0) throw this.#refusals.malformed("a frame wants a dictionary");
    const exponent = (this.#head[5] ?? 0) >> 3;
    const mantissa = (this.#head[5] ?? 0) & 7;
    const window = (descriptor & 0x20) === 0 ? 2 ** (10 + exponent) * (1 + mantissa / 8) : this.#contentSize(descriptor);
    if (window > this.#maxWindow) throw this.#refusals.window(window);
  }

  #contentSize(descriptor: number): number {
    switch (descriptor >> 6) {
      case 0:
        return this.#head[5] ?? 0;
      case 1:
        return this.#head.readUInt16LE(5) + 256;
      case 2:
        return this.#head.readUInt32LE(5);
      default:
        return Number(this.#head.readBigUInt64LE(5));
    }
  }
}

/** Magic and header of a frame in bytes, from its descriptor byte. */
function frameHeaderSize(descriptor: number): number {
  const single = (descriptor & 0x20) !== 0;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  return 4 + 1 + (single ? 0 : 1) + dictionary + contentSize;
}
