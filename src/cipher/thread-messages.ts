import type { TransformResults } from "./plan.ts";
import type { Piece, RunnerPlan } from "./runner.ts";

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
  | { readonly kind: "drop"; readonly session: number };

/** What a cipher thread answers, one for each piece, in order. */
export type ThreadReply =
  | {
      readonly kind: "done";
      readonly session: number;
      readonly piece: Piece;
      readonly written: number;
      readonly results?: TransformResults | undefined;
    }
  | {
      readonly kind: "failed";
      readonly session: number;
      readonly code: string;
      readonly message: string;
      readonly hint: string | undefined;
      readonly details: Readonly<Record<string, unknown>>;
    };
