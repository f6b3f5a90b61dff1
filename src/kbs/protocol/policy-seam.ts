import type { TeeName } from "./tee-names.ts";
import type { TrustVector } from "../../policy/index.ts";

/** What a resource policy decides about. Source: Trustee's `data` and `input` of a resource policy. */
export interface ReleaseInput {
  readonly plugin: string;
  readonly resourcePath: readonly string[];
  readonly query: Readonly<Record<string, string>>;
  /** All claims of the attestation token. */
  readonly claims: Readonly<Record<string, unknown>>;
  readonly now: Date;
}

export interface PolicyDecision {
  readonly allow: boolean;
  /** At least one when the release is denied; sentences, no secrets. */
  readonly reasons: readonly string[];
}

/** Decides whether a guest with verified claims receives a resource. Whatever it throws denies. */
export interface ResourcePolicy {
  /** Its name, for audit and messages. */
  readonly id: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  evaluate(input: ReleaseInput): PolicyDecision | Promise<PolicyDecision>;
}

/** What an attestation policy appraises: one device. */
export interface AppraisalInput {
  readonly tee: TeeName;
  readonly deviceClass: string;
  /** `{ "<tee>": claims, report_data, init_data, runtime_data_claims, init_data_claims }`. */
  readonly input: Readonly<Record<string, unknown>>;
  readonly now: Date;
  /** A stored reference value; `undefined` when there is none or it has expired. */
  referenceValue(name: string): unknown;
}

export interface Appraisal {
  readonly vector: TrustVector;
  /** Why claims are not affirming. */
  readonly reasons: readonly string[];
  /** Extension claims for the token. */
  readonly extensions?: Readonly<Record<string, unknown>> | undefined;
}

/** Turns verified claims into a trust vector. */
export interface AttestationPolicy {
  readonly id: string;
  readonly digest: string;
  appraise(input: AppraisalInput): Appraisal | Promise<Appraisal>;
}
