import type { Annotations } from "../oci/index.ts";
import type { PublicKey } from "./public-key.ts";

/** Whether a transparency log must have seen the signature. */
export type LogRule = "required" | "if-present" | "ignore";

/** One good signature by one of the keys. */
export interface KeyRequirement {
  readonly kind: "keys";
  readonly keys: readonly [PublicKey, ...PublicKey[]];
  readonly log: LogRule;
}

export type SignatoryRequirement = KeyRequirement;

/** What else a signature must say. */
export interface ClaimRequirement {
  /** Signed annotations that must be there with these values. */
  readonly annotations?: Annotations | undefined;
  /** The repository that a legacy payload must name exactly; without it, any. Bundles name none and are refused then. */
  readonly repository?: string | undefined;
}
