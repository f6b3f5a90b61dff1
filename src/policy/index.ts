/** Policies of a Key Broker Service, compiled: who may have what, what a device is worth, with a reason for every denial. */
export { policyErrors, PolicyError } from "./errors.ts";
export { compileJsonPolicy, type JsonPolicy } from "./json/compile.ts";
export { matchesPath } from "./path-pattern.ts";
export type { PolicyOutcome, PolicyQuestion } from "./question.ts";
export { trustClaims, type AppraisalOutcome, type AppraisalQuestion, type TrustVector } from "./appraisal.ts";
export { compileRegoAppraisal, compileRegoRelease, type RegoAppraisalPolicy, type RegoReleasePolicy } from "./rego/compile.ts";
export {
  digestOfOpaBundle,
  textOfOpaBundle,
  wasmPolicies,
  type WasmAppraisalPolicy,
  type WasmPolicies,
  type WasmReleasePolicy,
} from "./wasm/compile.ts";
