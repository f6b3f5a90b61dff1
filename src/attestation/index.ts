/** Evidence of TEEs: collecting it in a guest, verifying it offline, appraising it against policy. */
export { attestationErrors, AttestationError, Refusal } from "./errors.ts";
export { findingCodes, type Finding, type FindingCode, type FindingSeverity } from "./findings.ts";
export { newFindingSink, type FindingSink } from "./refuse.ts";
export { isTeeName, teeNames, type TeeName } from "./tee.ts";

// Verifying
export { verifyEvidence, type Expectation, type VerifyRequest } from "./verify-evidence.ts";
export {
  requireAccepted,
  type CheckedExpectations,
  type Refused,
  type VerificationResult,
  type Verified,
  type VerifiedDetail,
} from "./result.ts";
export { tcbStatuses, type TcbStatus } from "./intel/status-words.ts";
export { attestationReport, type AttestationReport } from "./report.ts";
export { recogniseEvidence, evidenceFromJson, type RawEvidence } from "./evidence-format.ts";
export { builtInRoots, parseTrustRoots, type TrustRoots } from "./trust-roots.ts";
export { hardwareVerifier, type HardwareClaims, type HardwareEvidence, type HardwareVerifierOptions } from "./evidence-verifier.ts";

// The parts, for callers that verify many pieces of evidence with the same collateral
export { parseQuote, type Quote } from "./intel/quote.ts";
export { verifyIntelCollateral, type IntelCollateral, type SignedJson, type VerifiedIntelCollateral } from "./intel/collateral.ts";
export { verifyQuote, type IntelTcb, type VerifiedQuote } from "./intel/verify.ts";
export { parseSnpReport, type SnpReport } from "./amd/report.ts";
export { verifyEndorsements, type AmdEndorsements, type VerifiedEndorsements } from "./amd/chain.ts";
export { verifySnpReport, type MaskedChipId, type VerifiedSnpReport } from "./amd/verify.ts";
export { amdProducts, type AmdProduct } from "./amd/products.ts";
export { parseEventLog, type LogEvent } from "./eventlog/parse.ts";
export { replay, type Rtmrs } from "./eventlog/replay.ts";
export { secureBootOf, type SecureBootState } from "./eventlog/secure-boot.ts";

// Collateral
export { emptyBundle, formatBundle, parseBundle, type CollateralBundle, type UpdateChannel } from "./collateral/bundle.ts";
export { exportDcapQvl } from "./collateral/export.ts";
export { importCollateral } from "./collateral/import.ts";
export { importCertTable, loadCollateral } from "./collateral/files.ts";
export { mergeBundles } from "./collateral/merge.ts";
export { describeBundle, type CollateralRow } from "./collateral/describe.ts";
export { directoryCache, memoryCache, type CollateralCache } from "./collateral/cache.ts";
export { fetchIntelCollateral, intelPcs, type IntelFetchRequest } from "./collateral/fetch-intel.ts";
export { amdKds, fetchAmdCollateral, type AmdFetchRequest } from "./collateral/fetch-amd.ts";
export { offlineCollateral, vendorCollateral, type CollateralSource, type VendorCollateralOptions } from "./collateral/source.ts";
export { platformOf, type PlatformKey } from "./collateral/select.ts";
export type { FetchOptions } from "./collateral/http.ts";

// Policy
export { parsePolicy, policyVersion, readPolicy } from "./policy/parse.ts";
export { defaultPolicy } from "./policy/default.ts";
export type { AttestationPolicy, Constraint, Unchecked } from "./policy/schema.ts";
export { appraise, type Appraisal } from "./policy/appraise.ts";
export { verificationOptionsOf } from "./policy/options.ts";
export { refusedVector, trustStatusOf, type TrustStatus, type TrustVector, type VectorClaim } from "./policy/vector.ts";
export { createPolicy } from "./policy/create.ts";
export { lintPolicy } from "./policy/lint.ts";
export { explain } from "./policy/explain.ts";

// The guest's side
export type { Attester, CollectOptions } from "./attester/attester.ts";
export { openAttester, type OpenAttesterOptions } from "./attester/open.ts";
export { tsmAttester, type TsmAttesterOptions } from "./attester/tsm-attester.ts";
export { agentRestAttester } from "./attester/agent-rest.ts";
export { agentSocketAttester } from "./attester/agent-socket.ts";
export { imageMeasurement, measureImage, runtimeRegisterAfter } from "./attester/measure-image.ts";
export { sampleAttester, verifySample, type SampleRequest } from "./attester/sample.ts";
export { detectTee, type DetectOptions } from "./attester/detect.ts";
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
export {
  formatInitData,
  initDataAlgorithms,
  initDataField,
  parseInitData,
  readInitDataDevice,
  type InitData,
  type InitDataAlgorithm,
} from "./attester/init-data.ts";
