import type { Piece } from "./runner.ts";

export interface PiecePoolRequest {
  /** Pieces under way at once. */
  readonly depth: number;
  readonly inputSize: number;
  readonly outputSize: number;
  /** Whether output memory comes back from whoever takes it, or each piece needs new memory for its output. */
  readonly output: "returned" | "kept";
}

/** A few pieces of memory that go round. */
export class PiecePool {
  readonly #request: PiecePoolRequest;
  readonly #free: Piece[] = [];
  readonly #waiting: { resolve: (piece: Piece) => void; reject: (cause: unknown) => void }[] = [];
  #left: number;
  #stopped: { readonly cause: unknown } | undefined;

  constructor(request: PiecePoolRequest) {
    this.#request = request;
    this.#left = request.depth;
  }

  async take(): Promise<Piece> {
    if (this.#stopped !== undefined) throw this.#stopped.cause;
    const piece = this.#free.pop();
    if (piece !== undefined) return piece;
    if (this.#left > 0) {
      this.#left -= 1;
      return { input: newMemory(this.#request.inputSize), output: newMemory(this.#request.outputSize) };
    }
    return new Promise((resolve, reject) => void this.#waiting.push({ resolve, reject }));
  }

  give({ input, output }: Piece): void {
    const piece = { input, output: this.#request.output === "returned" ? output : newMemory(this.#request.outputSize) };
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

/** Memory of a piece. Not zeroed: only what a transform wrote is ever read from it. */
export function newMemory(size: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(size).buffer;
}
