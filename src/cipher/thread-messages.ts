import type { DigestAlgorithm } from "../bytes/index.ts";
import type { PumpResult } from "./piece-pump.ts";
import type { TransformPlan, TransformResults } from "./plan.ts";
import type { Piece, RunnerPlan } from "./runner.ts";
import type { Compression } from "./uncompressed.ts";

/** What the caller's thread sends. Pieces move with the message: their memory belongs to the receiver. */
export type ThreadRequest =
  | { readonly kind: "start"; readonly session: number; readonly plan: RunnerPlan }
  | {
      readonly kind: "piece";
      readonly session: number;
      readonly piece: Piece;
      readonly length: number;
      readonly position: "inner" | "last";
    }
  | { readonly kind: "drop"; readonly session: number }
  | { readonly kind: "file"; readonly session: number; readonly work: FileWork }
  /** Nothing more is wanted, of no session: the thread ends when the piece that it is at is done. */
  | { readonly kind: "stop" };

/** A whole file, read, hashed, transformed and written by the cipher thread alone. */
export interface FileWork {
  readonly sourcePath: string;
  readonly targetPath: string;
  readonly sourceSize: number;
  readonly headerSize: number;
  readonly direction: "seal" | "open";
  readonly plan: TransformPlan;
  readonly prefix: Uint8Array;
  readonly sourceHash: DigestAlgorithm;
  readonly targetAlgorithm: DigestAlgorithm;
  readonly uncompress: Compression | undefined;
  /** Of one Int32, shared: not 0 when the caller wants no more of it. */
  readonly stop: Int32Array;
}

/** What a cipher thread answers: one for each piece, in order; of a file what was moved of it, and the result. */
export type ThreadReply =
  | {
      readonly kind: "done";
      readonly session: number;
      readonly piece: Piece;
      readonly written: number;
      readonly output: "filed" | "returned";
      readonly results?: TransformResults | undefined;
    }
  | { readonly kind: "moved"; readonly session: number; readonly size: number }
  | { readonly kind: "filed"; readonly session: number; readonly result: PumpResult }
  | {
      readonly kind: "failed";
      readonly session: number;
      readonly code: string;
      readonly message: string;
      readonly hint: string | undefined;
      readonly details: Readonly<Record<string, unknown>>;
    };
