import type { PolicyEngine } from "../src/kbs/index.ts";
import { compileJsonPolicy, compileRegoAppraisal, compileRegoRelease } from "../src/policy/index.ts";

/** The languages in which a service that is started here takes policies. */
export const policyEngines: readonly PolicyEngine[] = [
  { language: "json", compileRelease: compileJsonPolicy },
  { language: "rego", compileRelease: compileRegoRelease, compileAppraisal: compileRegoAppraisal },
];
