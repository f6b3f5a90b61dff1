import type { JsonValue } from "./attester/json.ts";
import type { Finding } from "./findings.ts";
import type { Appraisal } from "./policy/appraise.ts";
import type { VerificationResult } from "./result.ts";

/** The JSON answer of `ociseal attest verify`, whose members are a contract (PRODUCT.md). */
export interface AttestationReport {
  /** Before policy. */
  readonly verdict: "accept" | "reject";
  readonly policy: {
    readonly name: string;
    readonly verdict: "accept" | "reject";
    readonly identity: Appraisal["identity"];
    readonly trustVector: Appraisal["vector"];
    readonly status: Appraisal["status"];
  };
  readonly tee: string | null;
  readonly tcbStatus: string | null;
  readonly advisoryIds: readonly string[];
  /** Trustee's names, plus `debug` and `secureBoot`. Of refused evidence these are its own words, proved by nothing. */
  readonly claims: { readonly [name: string]: JsonValue };
  readonly claimsVerified: boolean;
  readonly findings: readonly Finding[];
}

/** Puts verification and appraisal into the one JSON answer. */
export function attestationReport(result: VerificationResult, appraisal: Appraisal): AttestationReport {
  const claims = result.verdict === "accept" ? result.claims : (result.unverifiedClaims ?? {});
  return {
    verdict: result.verdict,
    policy: {
      name: appraisal.policy,
      verdict: appraisal.verdict,
      identity: appraisal.identity,
      trustVector: appraisal.vector,
      status: appraisal.status,
    },
    tee: result.tee ?? null,
    tcbStatus: result.tcbStatus ?? null,
    advisoryIds: result.advisoryIds,
    claims,
    claimsVerified: result.verdict === "accept",
    findings: [...result.findings, ...appraisal.findings],
  };
}
