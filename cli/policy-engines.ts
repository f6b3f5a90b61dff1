import type { PolicyEngine } from "../src/kbs/index.ts";
import { compileJsonPolicy, compileRegoAppraisal, compileRegoRelease, digestOfOpaBundle, wasmPolicies } from "../src/policy/index.ts";

/** Its threads start when the first compiled policy is there, and keep no process alive. */
const wasm = wasmPolicies();

/** The languages in which a service that is started here takes policies. */
export const policyEngines: readonly PolicyEngine[] = [
  { language: "json", compileRelease: compileJsonPolicy },
  { language: "rego", compileRelease: compileRegoRelease, compileAppraisal: compileRegoAppraisal },
  {
    language: "wasm",
    compileRelease: (text, id) => wasm.compileRelease(text, id),
    compileAppraisal: (text, id) => wasm.compileAppraisal(text, id),
    digestOf: digestOfOpaBundle,
  },
];
