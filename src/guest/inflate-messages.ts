import type { Digest, DigestAlgorithm } from "../bytes/index.ts";
import type { Compression } from "./decompress.ts";
import type { UnpackLimits } from "./limits.ts";

/** Memory that goes to the other thread with a message, and how much of it counts. */
export interface Load {
  readonly memory: ArrayBuffer;
  readonly length: number;
}

/** What is asked of the thread that inflates, for one layer after the other. */
export type InflateRequest =
  | {
      readonly kind: "start";
      readonly compression: Compression;
      readonly algorithm: DigestAlgorithm;
      readonly limits: Pick<UnpackLimits, "maxZstdWindow">;
    }
  | { readonly kind: "input"; readonly input: Load }
  | { readonly kind: "end" }
  /** Memory for output. */
  | { readonly kind: "room"; readonly memory: ArrayBuffer }
  /** Nothing more is wanted: the thread ends when what it does has ended. */
  | { readonly kind: "stop" };

/** What it answers. */
export type InflateReply =
  /** One input is used up. */
  | { readonly kind: "taken" }
  | { readonly kind: "output"; readonly output: Load }
  /** After the last output: the digest of all. */
  | { readonly kind: "done"; readonly digest: Digest }
  | {
      readonly kind: "failed";
      readonly code: string;
      readonly message: string;
      readonly hint: string | undefined;
      readonly details: Readonly<Record<string, unknown>>;
    };
