import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const policyErrors = {
  ERR_POLICY_NOT_UNDERSTOOD: {
    category: "usage",
    summary: "A policy of a Key Broker Service has a member, value or construct that is not understood.",
  },
  ERR_POLICY_FAILED: {
    category: "denied",
    summary:
      "A policy could not be evaluated to the end: rules contradict each other, a function got a wrong value, or a limit was reached.",
  },
  ERR_POLICY_ENGINE_MISSING: {
    category: "usage",
    summary: "A compiled policy needs an optional package that is not installed.",
  },
} as const satisfies ErrorTable;

export class PolicyError extends ToolError<keyof typeof policyErrors> {
  constructor(code: keyof typeof policyErrors, facts: ErrorFacts) {
    super(code, policyErrors[code].category, facts);
  }
}
