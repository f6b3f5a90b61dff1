import type { ByteStage, Chunks } from "../bytes/index.ts";

import { watchOutput } from "./output-watch.ts";
import { newMemory } from "./piece-pool.ts";
import { buildTransform, shapeOf, type TransformResults } from "./plan.ts";
import type { Piece, PieceResult, RunnerPlan } from "./runner.ts";
import type { CipherThreads } from "./threads.ts";
import { transformStage } from "./transform.ts";

/** Input of one piece that is handed to another thread, and how many are under way. */
const pieceSize = 1 << 19;
const depth = 4;

export interface StageRequest {
  readonly plan: RunnerPlan;
  /** Where given, the cipher runs in one of them and this thread goes on hashing and moving bytes. */
  readonly threads?: CipherThreads | undefined;
  /** Told what was known at the end, before the last output leaves; what it throws ends the stage instead. */
  readonly settle?: ((results: TransformResults) => void) | undefined;
}

/** A plan as a stage. */
export function planStage(request: StageRequest): ByteStage {
  const { plan, threads, settle } = request;
  return (source) => {
    const outputs = threads === undefined ? ownThread(plan, source) : otherThread(plan, threads, source);
    return settle === undefined ? passed(outputs) : settled(outputs, settle);
  };
}

/** Yields output, and at the end what is known then. */
type Outputs = AsyncGenerator<Uint8Array, TransformResults>;

async function* passed(outputs: Outputs): Chunks {
  yield* outputs;
}

/** Holds the last output back until the end has settled: a reader that ignores a failure then never holds everything. */
async function* settled(outputs: Outputs, settle: (results: TransformResults) => void): Chunks {
  let held: Uint8Array | undefined;
  try {
    for (;;) {
      const { done, value } = await outputs.next();
      if (done === true) {
        settle(value);
        break;
      }
      if (held !== undefined) yield held;
      held = value;
    }
    if (held !== undefined) yield held;
  } finally {
    await outputs.return({});
  }
}

async function* ownThread(plan: RunnerPlan, source: Chunks): Outputs {
  const transform = await buildTransform(plan);
  const watcher = watchOutput(plan);
  for await (const output of transformStage(transform)(source)) {
    await watcher.update(output);
    yield output;
  }
  return { ...transform.results?.(), ...(await watcher.results()) };
}

async function* otherThread(plan: RunnerPlan, threads: CipherThreads, source: Chunks): Outputs {
  const { unit, outputSize } = shapeOf(plan);
  const inputSize = unit * Math.max(1, Math.floor(pieceSize / unit));
  const runner = threads.start(plan);
  const running: Promise<PieceResult>[] = [];
  const inputs: ArrayBuffer[] = [];
  // Output memory is not used again: what was yielded belongs to the reader.
  const newPiece = (): Piece => ({ input: inputs.pop() ?? newMemory(inputSize), output: newMemory(outputSize(inputSize)) });
  const send = (piece: Piece, length: number, position: "inner" | "last") => {
    const result = runner.run({ piece, length, position });
    result.catch(() => undefined);
    running.push(result);
  };
  let results: TransformResults = {};
  const take = async (result: Promise<PieceResult>): Promise<Uint8Array> => {
    const done = await result;
    inputs.push(done.piece.input);
    results = { ...results, ...done.results };
    return new Uint8Array(done.piece.output, 0, done.written);
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
    return results;
  } finally {
    runner.close();
  }
}
