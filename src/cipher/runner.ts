import { watchOutput, type OutputWatch } from "./output-watch.ts";
import { buildTransform, type TransformPlan, type TransformResults } from "./plan.ts";

/** Memory of one piece on its way: input, and room for the output. Whoever holds it may use it; it is handed over, not shared. */
export interface Piece {
  input: ArrayBuffer;
  output: ArrayBuffer;
}

export interface PieceRequest {
  readonly piece: Piece;
  /** Bytes of input that count. */
  readonly length: number;
  readonly position: "inner" | "last";
}

export interface PieceResult {
  readonly piece: Piece;
  /** Bytes of output that count. */
  readonly written: number;
  /** After the last piece. */
  readonly results?: TransformResults | undefined;
}

/** What a runner does: a cipher's transform, and, beside it, what is computed of its output. */
export type RunnerPlan = TransformPlan & OutputWatch;

/** One transform at work, here or in another thread; requests are answered in their order. */
export interface PieceRunner {
  run(request: PieceRequest): Promise<PieceResult>;
  /** Forgets the transform; running requests are still answered. */
  close(): void;
}

/** What a runner's thread holds for one plan. */
export type PieceWork = (request: PieceRequest) => Promise<PieceResult>;

/** Builds what a plan asks for; in whichever thread. */
export async function buildWork(plan: RunnerPlan): Promise<PieceWork> {
  const transform = await buildTransform(plan);
  const watcher = watchOutput(plan);
  return async ({ piece, length, position }) => {
    const input = new Uint8Array(piece.input, 0, length);
    const output = new Uint8Array(piece.output);
    const written = position === "inner" ? transform.transform(input, output) : transform.finish(input, output);
    await watcher.update(output.subarray(0, written));
    if (position === "inner") return { piece, written };
    return { piece, written, results: { ...transform.results?.(), ...(await watcher.results()) } };
  };
}

/** Runs a plan in this thread: for small layers, where a hand-over costs more than it gains. */
export function localRunner(plan: RunnerPlan): PieceRunner {
  const work = buildWork(plan);
  // Whoever asks for a piece sees the failure; nobody need have asked yet.
  work.catch(() => undefined);
  return { run: async (request) => (await work)(request), close: () => undefined };
}
