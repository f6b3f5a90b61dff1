import { Refusal } from "./errors.ts";
import type { Finding, FindingCode } from "./findings.ts";

/** What a refusal says beyond its code. */
export interface RefusalFacts {
  readonly path: string;
  readonly message: string;
  readonly expected?: string | undefined;
  readonly actual?: string | undefined;
  readonly hint?: string | undefined;
}

/** The error that stops one check. */
export function refuse(code: FindingCode, facts: RefusalFacts): Refusal {
  return new Refusal({ code, severity: "refusal", ...facts });
}

/** Gathers what independent checks find, so that one run names every reason. */
export interface FindingSink {
  readonly findings: readonly Finding[];
  /** Whether any finding so far refuses. */
  refused(): boolean;
  add(finding: Finding): void;
  /** Runs a check; a {@link Refusal} becomes a finding and the value `undefined`, everything else passes through. */
  attempt<Value>(check: () => Value): Value | undefined;
}

/** A new, empty {@link FindingSink}. */
export function newFindingSink(): FindingSink {
  const findings: Finding[] = [];
  return {
    findings,
    refused: () => findings.some((finding) => finding.severity === "refusal"),
    add: (finding) => void findings.push(finding),
    attempt: (check) => {
      try {
        return check();
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        findings.push(error.finding);
        return undefined;
      }
    },
  };
}
