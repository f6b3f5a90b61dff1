import { watchOutput, type OutputWatch } from "./output-watch.ts";
import { existingFile } from "./piece-files.ts";
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
  /** Whether they are in the plan's file already. */
  readonly output: "filed" | "returned";
  /** After the last piece. */
  readonly results?: TransformResults | undefined;
}

/** A file that the caller has made; a runner writes to it those pieces that it has time for. */
export interface OutputFile {
  readonly path: string;
  /** Bytes before the transform's output. */
  readonly start: number;
}

/** What a runner does: a cipher's transform, and, beside it, what is computed of its output. */
export type RunnerPlan = TransformPlan & OutputWatch & { readonly outputFile?: OutputFile | undefined };

/** One transform at work, here or in another thread; requests are answered in their order. */
export interface PieceRunner {
  run(request: PieceRequest): Promise<PieceResult>;
  /** Forgets the transform; running requests are still answered. */
  close(): void;
}

/** What a runner's thread holds for one plan. */
export interface PieceWork {
  /** `waited` is how long the thread had no piece to work on, in milliseconds. */
  run(request: PieceRequest, waited: number): Promise<PieceResult>;
  close(): void;
}

/** Milliseconds without a piece to work on after which the caller's thread has more to do than the runner's. */
const longWait = 0.1;

/** Builds what a plan asks for; in whichever thread. */
export async function buildWork(plan: RunnerPlan): Promise<PieceWork> {
  const transform = await buildTransform(plan);
  const watcher = watchOutput(plan);
  // Opened once more: whatever becomes of the caller's, this one never names another file.
  const file = plan.outputFile === undefined ? undefined : existingFile(plan.outputFile.path);
  let at = plan.outputFile?.start ?? 0;
  // The decompressor works in the thread pool meanwhile, and would be waited for. With the HMACs of CTR, or one hash more, there
  // is no time for it here.
  const isLight = plan.kind === "open-chunks" && plan.hashOutput === undefined;
  const inflates = isLight && (plan.uncompress === "gzip" || plan.uncompress === "zstd");
  return {
    async run({ piece, length, position }, waited) {
      const input = new Uint8Array(piece.input, 0, length);
      const room = new Uint8Array(piece.output);
      const written = position === "inner" ? transform.transform(input, room) : transform.finish(input, room);
      const bytes = room.subarray(0, written);
      const output = file !== undefined && (inflates || waited > longWait) ? "filed" : "returned";
      const watched = watcher.update(bytes);
      // Should writing fail, it is that which is told.
      watched.catch(() => undefined);
      if (output === "filed") file?.write(bytes, at);
      at += written;
      await watched;
      const results = position === "inner" ? undefined : { ...transform.results?.(), ...(await watcher.results()) };
      return { piece, written, output, results };
    },
    close: () => file?.close(),
  };
}

/** Runs a plan in this thread: for small layers, where a hand-over costs more than it gains. */
export function localRunner(plan: RunnerPlan): PieceRunner {
  const work = buildWork(plan);
  // Whoever asks for a piece sees the failure; nobody need have asked yet.
  work.catch(() => undefined);
  const close = (): void =>
    void work.then(
      (built) => built.close(),
      () => undefined,
    );
  return { run: async (request) => (await work).run(request, 0), close };
}
