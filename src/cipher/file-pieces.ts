import { open, unlink, type FileHandle } from "node:fs/promises";
import { newHasher, type ContentAddress, type DigestAlgorithm } from "../bytes/index.ts";
import { describeCause, InternalError } from "../errors/index.ts";
import { CipherError } from "./errors.ts";
import { shapeOf, type TransformPlan, type TransformResults } from "./plan.ts";
import type { Piece, PieceResult, PieceRunner, RunnerPlan } from "./runner.ts";
import type { TransformShape } from "./transform.ts";
import type { Compression } from "./uncompressed.ts";

/** A file turned into another, piece by piece: reading and hashing here, the cipher wherever the runner runs. */
export interface FileTransform {
  readonly sourcePath: string;
  /** Must not exist; is made for the owner alone, and removed again when anything fails. */
  readonly targetPath: string;
  /** Bytes that the source must have. */
  readonly sourceSize: number;
  /** What stands at the start of the source and decides how the rest is transformed. */
  readonly headerSize: number;
  readonly plan: (header: Uint8Array) => TransformPlan;
  readonly start: (plan: RunnerPlan) => PieceRunner;
  /** Where the target is hashed: beside the cipher, or in this thread where the runner's has more to do than this one. */
  readonly targetHash: "runner" | "here";
  /** SHA-256 when not given. */
  readonly sourceAlgorithm?: DigestAlgorithm | undefined;
  readonly targetAlgorithm?: DigestAlgorithm | undefined;
  /** Beside the cipher, also hash what the output uncompresses to. */
  readonly uncompress?: Compression | undefined;
  /** What is written before the transform's output. */
  readonly prefix: Uint8Array;
  /** Told the bytes read of each piece. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly sizeError: (got: number) => CipherError;
  readonly signal?: AbortSignal | undefined;
}

export interface FileTransformResult {
  readonly source: ContentAddress;
  readonly target: ContentAddress;
  readonly results: TransformResults;
}

/** Input of one piece: sixteen chunks, small enough that it stays in the cache while it is hashed and encrypted. */
const pieceSize = 1 << 19;
/** Pieces under way at once. */
const depth = 6;

/** Runs a file through a transform. Throws `ERR_CIPHER_FILE`, what `plan` and the transform throw, and the signal's reason. */
export async function transformFile(request: FileTransform): Promise<FileTransformResult> {
  const { sourcePath, targetPath } = request;
  const source = await opened(sourcePath, "r");
  try {
    const target = await opened(targetPath, "wx");
    try {
      const result = await new FileRun(request, source, target).run();
      await target.close();
      return result;
    } catch (cause) {
      await target.close();
      await unlink(targetPath);
      throw cause;
    }
  } finally {
    await source.close();
  }
}

async function opened(path: string, flags: "r" | "wx"): Promise<FileHandle> {
  try {
    return await open(path, flags, 0o600);
  } catch (cause) {
    throw fileError(flags === "r" ? "open" : "create", path, cause);
  }
}

/** The loops of one transform, and what they share. */
class FileRun {
  readonly #request: FileTransform;
  readonly #source: FileHandle;
  readonly #target: FileHandle;
  readonly #hashIn: ReturnType<typeof newHasher>;
  /** `undefined` where the runner hashes. */
  readonly #hashOut: ReturnType<typeof newHasher> | undefined;
  readonly #pieces = new PiecePool();
  #lastWrite = Promise.resolve();
  #written = 0;
  #results: TransformResults = {};

  constructor(request: FileTransform, source: FileHandle, target: FileHandle) {
    this.#request = request;
    this.#hashIn = newHasher(request.sourceAlgorithm);
    this.#hashOut = request.targetHash === "here" ? newHasher(request.targetAlgorithm) : undefined;
    this.#source = source;
    this.#target = target;
  }

  async run(): Promise<FileTransformResult> {
    const { headerSize, sourceSize, plan, prefix, start, uncompress } = this.#request;
    const header = new Uint8Array(Math.min(headerSize, sourceSize));
    await this.#read(header, 0);
    this.#hashIn.update(header);
    const chosen = plan(header);
    if (prefix.length > 0) {
      this.#hashOut?.update(prefix);
      await writeAll(this.#target, prefix, 0, this.#request.targetPath);
      this.#written = prefix.length;
    }
    const hashOutput = { algorithm: this.#request.targetAlgorithm, prefix };
    const runner = start({ ...chosen, uncompress, ...(this.#hashOut === undefined ? { hashOutput } : {}) });
    try {
      await this.#transform(runner, shapeOf(chosen));
    } finally {
      runner.close();
    }
    const digest = this.#hashOut?.digest() ?? this.#results.outputDigest;
    if (digest === undefined) throw new InternalError({ message: "a runner ended without the digest of its output" });
    return {
      source: { digest: this.#hashIn.digest(), size: sourceSize },
      target: { digest, size: this.#written },
      results: this.#results,
    };
  }

  /** Reads ahead by one piece, hands pieces to the runner, and takes results in order, all at once. */
  async #transform(runner: PieceRunner, shape: TransformShape): Promise<void> {
    const { sourceSize, headerSize, signal } = this.#request;
    const inputSize = Math.min(shape.unit * Math.max(1, Math.floor(pieceSize / shape.unit)), sourceSize - headerSize);
    this.#pieces.size(inputSize, shape.outputSize(inputSize));
    const read = (start: number) => {
      const reading = this.#readPiece(start, Math.min(inputSize, sourceSize - start));
      reading.catch(() => undefined);
      return reading;
    };
    let results = Promise.resolve();
    try {
      let next = read(headerSize);
      for (let at = headerSize; ;) {
        signal?.throwIfAborted();
        const { piece, length } = await next;
        at += length;
        const position = at < sourceSize ? "inner" : "last";
        if (position === "inner") next = read(at);
        this.#hashIn.update(new Uint8Array(piece.input, 0, length));
        this.#request.progress?.(length);
        const running = runner.run({ piece, length, position });
        running.catch(() => undefined);
        results = results.then(async () => this.#take(await running));
        results.catch((cause: unknown) => this.#pieces.stop(cause));
        if (position === "last") break;
      }
      await this.#expectEnd();
      await results;
      await this.#lastWrite;
    } finally {
      this.#pieces.stop(new InternalError({ message: "a piece was asked for after the end" }));
      // The files stay open until nothing uses them any more.
      await Promise.allSettled([results]);
      await Promise.allSettled([this.#lastWrite]);
    }
  }

  async #readPiece(start: number, length: number): Promise<{ piece: Piece; length: number }> {
    const piece = await this.#pieces.take();
    await this.#read(new Uint8Array(piece.input, 0, length), start);
    return { piece, length };
  }

  async #take({ piece, written, results }: PieceResult): Promise<void> {
    if (results !== undefined) this.#results = { ...this.#results, ...results };
    const output = new Uint8Array(piece.output, 0, written);
    this.#hashOut?.update(output);
    const done = this.#write(piece, output);
    done.catch((cause: unknown) => this.#pieces.stop(cause));
    this.#lastWrite = done;
  }

  /** Writes behind what came before, and gives the piece back. */
  async #write(piece: Piece, output: Uint8Array): Promise<void> {
    const start = this.#written;
    this.#written += output.length;
    await this.#lastWrite;
    await writeAll(this.#target, output, start, this.#request.targetPath);
    this.#pieces.give(piece);
  }

  async #read(into: Uint8Array, start: number): Promise<void> {
    for (let filled = 0; filled < into.length;) {
      const { bytesRead } = await this.#source.read(into, filled, into.length - filled, start + filled).catch((cause: unknown) => {
        throw fileError("read", this.#request.sourcePath, cause);
      });
      if (bytesRead === 0) throw this.#request.sizeError(start + filled);
      filled += bytesRead;
    }
  }

  async #expectEnd(): Promise<void> {
    const { sourceSize, sizeError } = this.#request;
    const { bytesRead } = await this.#source.read(new Uint8Array(1), 0, 1, sourceSize);
    if (bytesRead > 0) throw sizeError(sourceSize + 1);
  }
}

async function writeAll(target: FileHandle, output: Uint8Array, start: number, path: string): Promise<void> {
  for (let done = 0; done < output.length;) {
    const { bytesWritten } = await target.write(output, done, output.length - done, start + done).catch((cause: unknown) => {
      throw fileError("write", path, cause);
    });
    done += bytesWritten;
  }
}

/** A few pieces of memory that go round. */
class PiecePool {
  readonly #free: Piece[] = [];
  readonly #waiting: { resolve: (piece: Piece) => void; reject: (cause: unknown) => void }[] = [];
  #left = depth;
  #inputSize = 0;
  #outputSize = 0;
  #stopped: { readonly cause: unknown } | undefined;

  size(inputSize: number, outputSize: number): void {
    this.#inputSize = inputSize;
    this.#outputSize = outputSize;
  }

  async take(): Promise<Piece> {
    if (this.#stopped !== undefined) throw this.#stopped.cause;
    const piece = this.#free.pop();
    if (piece !== undefined) return piece;
    if (this.#left > 0) {
      this.#left -= 1;
      return { input: new ArrayBuffer(this.#inputSize), output: new ArrayBuffer(this.#outputSize) };
    }
    return new Promise((resolve, reject) => void this.#waiting.push({ resolve, reject }));
  }

  give(piece: Piece): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#free.push(piece);
    else waiting.resolve(piece);
  }

  /** Whoever waits for a piece now or later gets the failure. */
  stop(cause: unknown): void {
    this.#stopped ??= { cause };
    for (const { reject } of this.#waiting.splice(0)) reject(cause);
  }
}

function fileError(action: "open" | "create" | "read" | "write", path: string, cause: unknown): CipherError {
  return new CipherError("ERR_CIPHER_FILE", {
    message: `cannot ${action} ${path}: ${describeCause(cause)}`,
    hint: action === "write" ? "check the free space of the disk" : "check the path and its permissions",
    cause,
  });
}
