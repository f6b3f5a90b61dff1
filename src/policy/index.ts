/** Resource policies of a Key Broker Service, compiled: who may have what, with a reason for every denial. */
export { policyErrors, PolicyError } from "./errors.ts";
export { compileJsonPolicy, type JsonPolicy } from "./json/compile.ts";
export type { PolicyOutcome, PolicyQuestion } from "./question.ts";
