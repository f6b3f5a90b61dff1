import { newHasher, type ContentAddress, type DigestAlgorithm } from "../bytes/index.ts";
import { InternalError } from "../errors/index.ts";
import { wrongSize } from "./errors.ts";
import { PiecePool } from "./piece-pool.ts";
import type { PieceSink } from "./piece-sink.ts";
import type { PieceSource } from "./piece-source.ts";
import { shapeOf, type TransformPlan, type TransformResults } from "./plan.ts";
import type { Piece, PieceResult, PieceRunner, RunnerPlan } from "./runner.ts";
import type { TransformShape } from "./transform.ts";
import type { Compression } from "./uncompressed.ts";

/** Content turned into other content, piece by piece: moving and hashing bytes here, the cipher wherever the runner runs. */
export interface PumpRequest {
  readonly source: PieceSource;
  readonly sink: PieceSink;
  /** Bytes that the source must have. */
  readonly sourceSize: number;
  /** What stands at the start of the source and decides how the rest is transformed. */
  readonly headerSize: number;
  readonly plan: (header: Uint8Array) => TransformPlan;
  readonly start: (plan: RunnerPlan) => PieceRunner;
  /** Pieces under way at once: some for another thread, two where the runner is in this one. */
  readonly depth: number;
  /** How the source is hashed, or that whoever made it does that and fails it at its end. */
  readonly sourceHash: DigestAlgorithm | "by-source";
  /** Who writes to a sink that is a file: this thread, or whichever of the two has less to do. */
  readonly writer: "here" | "either";
  /** Where the target is hashed: beside the cipher, or in this thread where the runner's has more to do than this one. */
  readonly targetHash: "runner" | "here";
  /** SHA-256 when not given. */
  readonly targetAlgorithm?: DigestAlgorithm | undefined;
  /** Beside the cipher, also hash what the output uncompresses to. */
  readonly uncompress?: Compression | undefined;
  /** What is written before the transform's output. */
  readonly prefix: Uint8Array;
  /** Told the bytes read of each piece. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly direction: "seal" | "open";
  /** Asked before each piece; an AbortSignal is one. */
  readonly signal?: { throwIfAborted(): void } | undefined;
}

export interface PumpResult {
  /** `undefined` where the source was hashed by whoever made it. */
  readonly source: ContentAddress | undefined;
  readonly target: ContentAddress;
  readonly results: TransformResults;
}

/** Input of one piece: some thirty chunks, small enough that it stays in the cache while it is hashed and encrypted. */
const pieceSize = 1 << 19;

/**
 * Reads the source to its end, and writes. Closing the source is the caller's, and so is finishing the sink, when what came
 * out has been judged. Throws what its parts throw, and the signal's reason.
 */
export async function pump(request: PumpRequest): Promise<PumpResult> {
  return new Pump(request).run();
}

/** The loops of one transform, and what they share. */
class Pump {
  readonly #request: PumpRequest;
  readonly #hashIn: ReturnType<typeof newHasher> | undefined;
  /** `undefined` where the runner hashes. */
  readonly #hashOut: ReturnType<typeof newHasher> | undefined;
  #lastWrite = Promise.resolve();
  #written = 0;
  #results: TransformResults = {};

  constructor(request: PumpRequest) {
    this.#request = request;
    this.#hashIn = request.sourceHash === "by-source" ? undefined : newHasher(request.sourceHash);
    this.#hashOut = request.targetHash === "here" ? newHasher(request.targetAlgorithm) : undefined;
  }

  async run(): Promise<PumpResult> {
    const { headerSize, sourceSize, plan, prefix, start, uncompress, source, sink, writer } = this.#request;
    const header = new Uint8Array(Math.min(headerSize, sourceSize));
    await this.#fill(header, 0);
    const chosen = plan(header);
    if (prefix.length > 0) {
      this.#hashOut?.update(prefix);
      await this.#request.sink.write(prefix, 0);
      this.#written = prefix.length;
    }
    const hashOutput = { algorithm: this.#request.targetAlgorithm, prefix };
    const outputFile = writer === "here" || sink.path === undefined ? undefined : { path: sink.path, start: prefix.length };
    const runner = start({ ...chosen, uncompress, outputFile, ...(this.#hashOut === undefined ? { hashOutput } : {}) });
    try {
      await this.#transform(runner, shapeOf(chosen));
      if ((await source.read(new Uint8Array(1))) > 0) throw wrongSize(this.#request.direction, sourceSize, sourceSize + 1);
    } finally {
      runner.close();
    }
    const digest = this.#hashOut?.digest() ?? this.#results.outputDigest;
    if (digest === undefined) throw new InternalError({ message: "a runner ended without the digest of its output" });
    return {
      source: this.#hashIn === undefined ? undefined : { digest: this.#hashIn.digest(), size: sourceSize },
      target: { digest, size: this.#written },
      results: this.#results,
    };
  }

  /** Hands pieces to the runner, and takes results in order, both at once. */
  async #transform(runner: PieceRunner, shape: TransformShape): Promise<void> {
    const { sourceSize, headerSize, signal, sink, progress, depth } = this.#request;
    const inputSize = Math.min(shape.unit * Math.max(1, Math.floor(pieceSize / shape.unit)), sourceSize - headerSize);
    const pieces = new PiecePool({ depth, inputSize, outputSize: shape.outputSize(inputSize), output: sink.output });
    let results = Promise.resolve();
    try {
      for (let at = headerSize; ;) {
        signal?.throwIfAborted();
        const piece = await pieces.take();
        const length = Math.min(inputSize, sourceSize - at);
        await this.#fill(new Uint8Array(piece.input, 0, length), at);
        progress?.(length);
        at += length;
        const position = at < sourceSize ? "inner" : "last";
        const running = runner.run({ piece, length, position });
        running.catch(() => undefined);
        results = results.then(async () => this.#take(await running, pieces));
        results.catch((cause: unknown) => pieces.stop(cause));
        if (position === "last") break;
      }
      await results;
      await this.#lastWrite;
    } finally {
      pieces.stop(new InternalError({ message: "a piece was asked for after the end" }));
      // Source and sink stay open until nothing uses them any more.
      await Promise.allSettled([results]);
      await Promise.allSettled([this.#lastWrite]);
    }
  }

  async #take({ piece, written, output: where, results }: PieceResult, pieces: PiecePool): Promise<void> {
    if (results !== undefined) this.#results = { ...this.#results, ...results };
    const output = new Uint8Array(piece.output, 0, written);
    this.#hashOut?.update(output);
    const at = this.#written;
    this.#written += written;
    if (where === "filed") {
      pieces.give(piece);
      return;
    }
    const done = this.#write(piece, output, at, pieces);
    done.catch((cause: unknown) => pieces.stop(cause));
    this.#lastWrite = done;
  }

  /** Writes behind what came before, and gives the piece back. */
  async #write(piece: Piece, output: Uint8Array, at: number, pieces: PiecePool): Promise<void> {
    await this.#lastWrite;
    await this.#request.sink.write(output, at);
    pieces.give(piece);
  }

  /** Reads and hashes exactly so many bytes. */
  async #fill(into: Uint8Array, at: number): Promise<void> {
    const filled = await this.#request.source.read(into);
    if (filled < into.length) throw wrongSize(this.#request.direction, this.#request.sourceSize, at + filled);
    this.#hashIn?.update(into);
  }
}
