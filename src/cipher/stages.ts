import type { ByteStage } from "../bytes/index.ts";
import { buildTransform, shapeOf, type TransformPlan, type TransformResults } from "./plan.ts";
import type { Piece, PieceResult } from "./runner.ts";
import type { CipherThreads } from "./threads.ts";
import { transformStage } from "./transform.ts";

/** Input of one piece that is handed to another thread, and how many are under way. */
const pieceSize = 1 << 19;
const depth = 4;

export interface StageRequest {
  readonly plan: TransformPlan;
  /** Where given, the cipher runs in one of them and this thread goes on hashing and moving bytes. */
  readonly threads?: CipherThreads | undefined;
  /** What the transform knew at its end. */
  readonly settle?: ((results: TransformResults) => void) | undefined;
}

/** A plan as a stage. */
export function planStage(request: StageRequest): ByteStage {
  const { plan, threads, settle } = request;
  if (threads !== undefined) return threadedStage(plan, threads, settle);
  return async function* (source) {
    const transform = await buildTransform(plan);
    yield* transformStage(transform)(source);
    settle?.(transform.results?.() ?? {});
  };
}

function threadedStage(plan: TransformPlan, threads: CipherThreads, settle: StageRequest["settle"]): ByteStage {
  return async function* (source) {
    const { unit, outputSize } = shapeOf(plan);
    const inputSize = unit * Math.max(1, Math.floor(pieceSize / unit));
    const runner = threads.start(plan);
    const running: Promise<PieceResult>[] = [];
    const inputs: ArrayBuffer[] = [];
    // Output memory is not used again: what was yielded belongs to the reader.
    const newPiece = (): Piece => ({ input: inputs.pop() ?? new ArrayBuffer(inputSize), output: new ArrayBuffer(outputSize(inputSize)) });
    const send = (piece: Piece, length: number, position: "inner" | "last") => {
      const result = runner.run({ piece, length, position });
      result.catch(() => undefined);
      running.push(result);
    };
    const take = async (result: Promise<PieceResult>): Promise<Uint8Array> => {
      const { piece, written, results } = await result;
      inputs.push(piece.input);
      if (results !== undefined) settle?.(results);
      return new Uint8Array(piece.output, 0, written);
    };
    try {
      let piece = newPiece();
      let filled = 0;
      for await (const chunk of source) {
        for (let at = 0; at < chunk.length;) {
          const part = chunk.subarray(at, at + inputSize - filled);
          new Uint8Array(piece.input).set(part, filled);
          filled += part.length;
          at += part.length;
          if (filled < inputSize) continue;
          send(piece, filled, "inner");
          filled = 0;
          const oldest = running.length >= depth ? running.shift() : undefined;
          if (oldest !== undefined) yield await take(oldest);
          piece = newPiece();
        }
      }
      send(piece, filled, "last");
      for (const result of running) {
        const output = await take(result);
        if (output.length > 0) yield output;
      }
    } finally {
      runner.close();
    }
  };
}
