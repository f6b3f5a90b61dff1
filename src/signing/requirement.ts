import type { Annotations } from "../oci/index.ts";
import type { PublicKey } from "./keys/public-key.ts";
import type { CertificateAnchors, CertificateIdentity, LogAnchors } from "./trust/anchors.ts";

/** Whether a transparency log must have seen the signature. An entry that comes with it and is wrong never passes unless `ignore`. */
export type LogRule = "required" | "if-present" | "ignore";

/** One good signature by one of the keys. */
export interface KeyRequirement {
  readonly kind: "keys";
  readonly keys: readonly [PublicKey, ...PublicKey[]];
  readonly log: LogRule;
  /** What vouches for the log; without it a signature with a log entry counts only under `ignore`. */
  readonly logAnchors?: LogAnchors | undefined;
}

/** One good signature by somebody whom a certificate names. */
export interface CertificateRequirement {
  readonly kind: "certificate";
  readonly identity: CertificateIdentity;
  readonly anchors: CertificateAnchors;
  readonly log: LogRule;
  /** Needed under `required`. */
  readonly logAnchors?: LogAnchors | undefined;
}

export type SignatoryRequirement = KeyRequirement | CertificateRequirement;

/** What else a signature must say. */
export interface ClaimRequirement {
  /** Signed annotations that must be there with these values. */
  readonly annotations?: Annotations | undefined;
  /**
   * Which `docker-reference` of a legacy payload is accepted; without it, any. A bundle names no repository: whether it
   * counts is then up to `bundles`.
   */
  readonly reference?: ReferenceRule | undefined;
  /** `as-skopeo`: `creator` must be text and `timestamp` a number where they are there. `any` unless told. */
  readonly optional?: "any" | "as-skopeo" | undefined;
}

export interface ReferenceRule {
  readonly accepts: (reference: string) => boolean;
  /** For the message: `matchRepository`. */
  readonly name: string;
  readonly bundles: "refuse" | "count";
}
