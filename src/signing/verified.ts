import type { Descriptor } from "../oci/index.ts";
import type { CountedFinding, SignatureReport } from "./report.ts";

const verified: unique symbol = Symbol("verified");

/**
 * Proof that a manifest was judged and may be used. Only this room makes one, so whoever must not act on an unverified
 * image takes it as a parameter.
 */
export interface VerifiedSignature {
  readonly target: Descriptor;
  /** `accepted-unsigned` where a policy or the operator said aloud that no signature is needed. */
  readonly basis: "signed" | "accepted-unsigned";
  /** Those that count; at least one under `signed`. */
  readonly signatures: readonly CountedFinding[];
  readonly policy: SatisfiedPolicy | undefined;
  readonly report: SignatureReport;
  readonly [verified]: true;
}

/** How a containers-policy.json was satisfied. */
export interface SatisfiedPolicy {
  readonly source: string;
  /** The scope whose requirements applied. */
  readonly scope: string;
  readonly requirements: readonly SatisfiedRequirement[];
}

export interface SatisfiedRequirement {
  readonly type: "insecureAcceptAnything" | "sigstoreSigned";
  /** Where the signature lies that satisfied it. */
  readonly location: string | undefined;
}

/** Only for the functions of this room that have verified. */
export function asVerified(facts: Omit<VerifiedSignature, typeof verified>): VerifiedSignature {
  return { ...facts, [verified]: true };
}

/**
 * Lets an image pass that nobody vouches for, because the operator said so (`--insecure-accept-unsigned`). The caller
 * says it aloud.
 */
export function acceptUnsigned(target: Descriptor): VerifiedSignature {
  return asVerified({
    target,
    basis: "accepted-unsigned",
    signatures: [],
    policy: undefined,
    report: { target: plain(target), findings: [], leftOut: 0 },
  });
}

/** What a report says of a manifest. */
export function plain({ mediaType, digest, size }: Descriptor): SignatureReport["target"] {
  return { mediaType, digest, size };
}
