import type { CallOptions } from "../store/index.ts";
import { discover } from "./discover.ts";
import { signaturePredicate } from "./formats.ts";
import { judgeOf } from "./judge.ts";
import { verifyByPolicy } from "./policy/verify.ts";
import type { PolicyRequirement } from "./policy/requirement.ts";
import { refusal } from "./refusal.ts";
import type { SignatureReport } from "./report.ts";
import type { ClaimRequirement, SignatoryRequirement } from "./requirement.ts";
import { asVerified, plain, type VerifiedSignature } from "./verified.ts";
import type { VerifyTarget } from "./verify-target.ts";

export interface VerifyRequest extends VerifyTarget {
  readonly requirement: SignatoryRequirement | PolicyRequirement;
  /** Beyond the signatory; a policy says by itself what it demands. */
  readonly claims?: ClaimRequirement | undefined;
}

export interface VerifyAttestationRequest extends VerifyTarget {
  readonly requirement: SignatoryRequirement;
  readonly claims?: ClaimRequirement | undefined;
  /** Exactly this type of predicate; a signature or another attestation does not count. */
  readonly predicateType: string;
}

/**
 * Finds every signature of the target in every format and judges each by the requirement; one that counts suffices, and
 * no number of bad ones hides it. A policy may ask for several signatures, or for none.
 *
 * Throws `ERR_SIGNATURE_MISSING`, `ERR_SIGNATURE_REJECTED` or `ERR_SIGNATURE_LIMIT` with the report in `details`,
 * `ERR_POLICY_REJECTED` where a policy refuses, or the store's own error when a signature could not be read and none
 * that could counts.
 */
export async function verifyImage(request: VerifyRequest, options: CallOptions = {}): Promise<VerifiedSignature> {
  const { requirement } = request;
  if (requirement.kind === "policy") return await verifyByPolicy({ ...request, requirement }, options);
  return await verifyAttestation({ ...request, requirement, predicateType: signaturePredicate }, options);
}

/** As {@link verifyImage} for attestations of one predicate type; the predicates stand in `signatures[].claims`. */
export async function verifyAttestation(request: VerifyAttestationRequest, options: CallOptions = {}): Promise<VerifiedSignature> {
  const { target, requirement, claims = {}, predicateType, now = new Date() } = request;
  const store = request.signatureStore ?? request.store;
  const found = await discover({ store, target, formats: ["legacy", "legacy-referrer", "bundle"] }, options);
  const judge = judgeOf(store, found, options);
  const { findings, failures } = await judge({ digest: target.digest, signatory: requirement, claims, predicateType, now });
  const report: SignatureReport = { target: plain(target), findings, leftOut: found.leftOut };
  const signatures = findings.filter((finding) => finding.verdict === "counts");
  if (signatures.length > 0) return asVerified({ target, basis: "signed", signatures, policy: undefined, report });
  if (failures.length > 0) throw failures[0];
  throw refusal(store, report, predicateType);
}
