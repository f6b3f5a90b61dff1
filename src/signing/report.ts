import type { Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { JsonObject } from "./shape.ts";

/** The check that a signature failed. */
export type FailedCheck =
  | "unreadable"
  | "media-type"
  | "key"
  | "certificate"
  | "identity"
  | "log"
  | "timestamp"
  | "payload"
  | "digest"
  | "repository"
  | "predicate"
  | "annotations"
  | "limit";

/** Who vouches, after verification. */
export type Signatory =
  | { readonly kind: "key"; readonly fingerprint: string; readonly source: string }
  | { readonly kind: "certificate"; readonly subject: string; readonly issuer: string };

/** What a signature that counts says. */
export interface SignedClaims {
  readonly digest: Digest;
  /** `docker-reference` of the legacy format; bundles name no repository. */
  readonly reference: string | undefined;
  readonly annotations: JsonObject;
  readonly predicateType: string;
  readonly predicate: unknown;
}

/** Evidence from a log or a timestamp authority that was verified. */
export interface LogEvidence {
  readonly log: "not-required" | "verified";
  /** When a log or a timestamp authority saw the signature, RFC 3339. */
  readonly times: readonly string[];
}

export type SignatureFormatFound = "legacy" | "bundle";

/** One thing found where signatures lie, and why it counted or not. */
export type Finding =
  | {
      readonly verdict: "counts";
      readonly format: SignatureFormatFound;
      readonly location: string;
      readonly signatory: Signatory;
      readonly claims: SignedClaims;
      readonly evidence: LogEvidence;
    }
  | {
      readonly verdict: "rejected";
      readonly format: SignatureFormatFound | "unknown";
      readonly location: string;
      readonly check: FailedCheck;
      readonly reason: string;
    };

export type CountedFinding = Extract<Finding, { verdict: "counts" }>;

/** Every signature found beside a manifest. Plain JSON values. */
export interface SignatureReport {
  readonly target: Pick<Descriptor, "mediaType" | "digest" | "size">;
  readonly findings: readonly Finding[];
  /** How many were not examined because there are more than the limit. */
  readonly leftOut: number;
}

/** Thrown inside this room when a signature fails a check; becomes a finding, never an error of the caller. */
export class Rejection extends Error {
  readonly check: FailedCheck;

  constructor(check: FailedCheck, reason: string, cause?: unknown) {
    super(reason, cause === undefined ? undefined : { cause });
    this.check = check;
  }
}
