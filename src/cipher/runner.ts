import { newHasher, type DigestAlgorithm } from "../bytes/index.ts";
import { buildTransform, type TransformPlan, type TransformResults } from "./plan.ts";
import { uncompressedHasher, type Compression, type UncompressedHasher } from "./uncompressed.ts";

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

/** What a runner does: a cipher's transform, or hashing what a layer uncompresses to, which writes nothing. */
export type RunnerPlan =
  | (TransformPlan & { readonly hashOutput?: OutputHash | undefined })
  | { readonly kind: "hash-uncompressed"; readonly compression: Compression };

/** The runner also hashes what it writes, behind a prefix that it does not write; the digest is in its results. */
export interface OutputHash {
  readonly algorithm: DigestAlgorithm | undefined;
  readonly prefix: Uint8Array;
}

/** One transform at work, here or in another thread; requests are answered in their order. */
export interface PieceRunner {
  run(request: PieceRequest): Promise<PieceResult>;
  /** Forgets the transform; running requests are still answered. */
  close(): void;
}

/** What a runner's thread holds for one plan. */
export type PieceWork = (request: PieceRequest) => PieceResult | Promise<PieceResult>;

/** Builds what a plan asks for; in whichever thread. */
export async function buildWork(plan: RunnerPlan): Promise<PieceWork> {
  if (plan.kind === "hash-uncompressed") return hashWork(uncompressedHasher(plan.compression));
  const transform = await buildTransform(plan);
  const hasher = plan.hashOutput === undefined ? undefined : newHasher(plan.hashOutput.algorithm);
  if (plan.hashOutput !== undefined) hasher?.update(plan.hashOutput.prefix);
  return ({ piece, length, position }) => {
    const input = new Uint8Array(piece.input, 0, length);
    const output = new Uint8Array(piece.output);
    const written = position === "inner" ? transform.transform(input, output) : transform.finish(input, output);
    hasher?.update(output.subarray(0, written));
    if (position === "inner") return { piece, written };
    const outputDigest = hasher?.digest();
    return { piece, written, results: { ...transform.results?.(), ...(outputDigest === undefined ? {} : { outputDigest }) } };
  };
}

function hashWork(hasher: UncompressedHasher): PieceWork {
  return async ({ piece, length, position }) => {
    await hasher.update(new Uint8Array(piece.input, 0, length));
    return position === "inner" ? { piece, written: 0 } : { piece, written: 0, results: { uncompressed: await hasher.digest() } };
  };
}

/** Runs a plan in this thread: for small layers, where a hand-over costs more than it gains. */
export function localRunner(plan: RunnerPlan): PieceRunner {
  const work = buildWork(plan);
  // Whoever asks for a piece sees the failure; nobody need have asked yet.
  work.catch(() => undefined);
  return { run: async (request) => (await work)(request), close: () => undefined };
}
