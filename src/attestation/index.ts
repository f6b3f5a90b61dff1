/** Evidence of TEEs: collecting it in a guest, verifying it offline, appraising it against policy. */
export { attestationErrors, AttestationError, Refusal } from "./errors.ts";
export { findingCodes, type Finding, type FindingCode, type FindingSeverity } from "./findings.ts";
export type { Refused, TcbStatus, VerificationResult, Verified } from "./result.ts";
export { isTeeName, teeNames, type TeeName } from "./tee.ts";
export { canonicalJson, type JsonObject, type JsonValue } from "./attester/json.ts";
export {
  jsonDigest,
  parseTeePubkey,
  reportDataField,
  runtimeDataDigest,
  type RuntimeData,
  type RuntimeDataVersion,
  type TeePubkey,
} from "./attester/runtime-data.ts";
export type { Attester, CollectOptions } from "./attester/attester.ts";
export { sampleAttester, verifySample, type SampleRequest } from "./attester/sample.ts";
export { detectTee, type DetectOptions } from "./attester/detect.ts";
export { requireAccepted, tcbStatuses, type CheckedExpectations, type VerifiedDetail } from "./result.ts";
export { verifyEvidence, type Expectation, type VerifyRequest } from "./verify-evidence.ts";
export { recogniseEvidence, evidenceFromJson, type RawEvidence } from "./evidence-format.ts";
export { builtInRoots, parseTrustRoots, type TrustRoots } from "./trust-roots.ts";
export { importCollateral } from "./collateral/import.ts";
export { formatBundle, parseBundle, type CollateralBundle, type UpdateChannel } from "./collateral/bundle.ts";
export { newFindingSink, type FindingSink } from "./refuse.ts";
