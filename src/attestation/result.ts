import type { VerifiedSnpReport } from "./amd/verify.ts";
import type { JsonObject } from "./attester/json.ts";
import { AttestationError } from "./errors.ts";
import type { EventLogOutcome } from "./eventlog/outcome.ts";
import type { Finding } from "./findings.ts";
import type { TcbStatus } from "./intel/status-words.ts";
import type { VerifiedQuote } from "./intel/verify.ts";
import type { TeeName } from "./tee.ts";

/** Evidence that holds: every signature, chain, list and binding. What it says still has to be appraised against a policy. */
export interface Verified {
  readonly verdict: "accept";
  readonly tee: TeeName;
  /** Converged status of platform, module and quoting enclave; `undefined` for TEEs whose vendor publishes none. */
  readonly tcbStatus: TcbStatus | undefined;
  readonly advisoryIds: readonly string[];
  /** Claims under the names of Trustee's verifiers, plus `debug` and `secureBoot` (`null`: not proved either way). */
  readonly claims: JsonObject;
  /** The bytes that the evidence binds, whole field. */
  readonly reportData: Buffer;
  /** What the host configured: HOST_DATA, MRCONFIGID, CONFIGID. */
  readonly initData: Buffer | undefined;
  /** What was expected of the evidence and has been checked; policies can demand that something was. */
  readonly checked: CheckedExpectations;
  /** The facts that policies are appraised against, typed per TEE. */
  readonly detail: VerifiedDetail;
  /** Warnings and notes. */
  readonly findings: readonly Finding[];
}

/** Which expectations of the caller were compared (and held). */
export interface CheckedExpectations {
  readonly reportData: boolean;
  readonly initData: boolean;
}

/** Evidence that does not hold, with every reason that could be established. */
export interface Refused {
  readonly verdict: "reject";
  readonly tee: TeeName | undefined;
  /** Refused evidence has no status: whatever a table would say is about a platform that was not proved. */
  readonly tcbStatus: undefined;
  readonly advisoryIds: readonly [];
  /** What the evidence says of itself. Nothing of it is proved; for display only. */
  readonly unverifiedClaims?: JsonObject | undefined;
  /** At least one of severity `refusal`. */
  readonly findings: readonly Finding[];
}

/** The outcome of verification, before policy. */
export type VerificationResult = Verified | Refused;

/** Facts per TEE. */
export type VerifiedDetail =
  | { readonly kind: "sample" }
  | { readonly kind: "dcap"; readonly verified: VerifiedQuote; readonly eventLog: EventLogOutcome }
  | { readonly kind: "snp"; readonly verified: VerifiedSnpReport };

/** The verified evidence, or `ERR_EVIDENCE_REFUSED` with all findings in its details. */
export function requireAccepted(result: VerificationResult): Verified {
  if (result.verdict === "accept") return result;
  const refusals = result.findings.filter(({ severity }) => severity === "refusal");
  throw new AttestationError("ERR_EVIDENCE_REFUSED", {
    message: `the ${result.tee ?? "attestation"} evidence is refused: ${refusals.map(({ message }) => message).join("; ")}`,
    hint: refusals.find(({ hint }) => hint !== undefined)?.hint,
    details: { findings: result.findings },
  });
}
