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
export { parsePolicy, policyVersion, readPolicy } from "./policy/parse.ts";
export { defaultPolicy } from "./policy/default.ts";
export type { AttestationPolicy, Constraint, Unchecked } from "./policy/schema.ts";
export { appraise, type Appraisal } from "./policy/appraise.ts";
export { refusedVector, trustStatusOf, type TrustStatus, type TrustVector, type VectorClaim } from "./policy/vector.ts";
export { createPolicy } from "./policy/create.ts";
export { lintPolicy } from "./policy/lint.ts";
export { explain } from "./policy/explain.ts";
export { attestationReport, type AttestationReport } from "./report.ts";
export { openAttester, type OpenAttesterOptions } from "./attester/open.ts";
export { tsmAttester, type TsmAttesterOptions } from "./attester/tsm-attester.ts";
export { agentRestAttester } from "./attester/agent-rest.ts";
export { agentSocketAttester } from "./attester/agent-socket.ts";
export {
  formatInitData,
  initDataAlgorithms,
  initDataField,
  parseInitData,
  readInitDataDevice,
  type InitData,
  type InitDataAlgorithm,
} from "./attester/init-data.ts";
