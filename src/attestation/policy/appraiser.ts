import type { Finding, FindingCode } from "../findings.ts";
import type { Constraint, MaskedValue, Unchecked } from "./schema.ts";

/** Collects what an appraisal finds; every rule is looked at, so one run names every reason. */
export interface Appraiser {
  readonly findings: readonly Finding[];
  refuse(code: FindingCode, facts: Omit<Finding, "code" | "severity">): void;
  warn(code: FindingCode, facts: Omit<Finding, "code" | "severity">): void;
  /** Refuses unless a condition holds. */
  expect(condition: boolean, code: FindingCode, facts: Omit<Finding, "code" | "severity">): void;
  /**
   * Compares a value with a constraint. Says `unchecked` aloud; an absent constraint passes in silence. Gives whether a
   * comparison was made and held.
   */
  constrain(rule: ConstraintRule): boolean;
}

/** One constraint on one text-like value. */
export interface ConstraintRule {
  readonly code: FindingCode;
  readonly path: string;
  readonly what: string;
  readonly constraint: Constraint<string | number> | undefined;
  readonly actual: string | number;
}

/** A new, empty {@link Appraiser}. */
export function newAppraiser(): Appraiser {
  const findings: Finding[] = [];
  const refuse: Appraiser["refuse"] = (code, facts) => void findings.push({ code, severity: "refusal", ...facts });
  const warn: Appraiser["warn"] = (code, facts) => void findings.push({ code, severity: "warning", ...facts });
  return {
    findings,
    refuse,
    warn,
    expect: (condition, code, facts) => {
      if (!condition) refuse(code, facts);
    },
    constrain: ({ code, path, what, constraint, actual }) => {
      if (constraint === undefined) return false;
      if (constraint.kind === "unchecked") {
        warn("POLICY_UNCHECKED", uncheckedFacts(path, what, constraint));
        return false;
      }
      if (constraint.values.includes(actual)) return true;
      refuse(code, {
        path,
        message: `${what} is not one that the policy allows`,
        expected: describeValues(constraint.values),
        actual: String(actual),
        hint:
          constraint.values.length === 0
            ? "the policy's list is empty, so it allows nothing"
            : `if this guest is meant, add the value to ${path}`,
      });
      return false;
    },
  };
}

/** What is said about something that the policy deliberately leaves out. */
export function uncheckedFacts(path: string, what: string, { reason }: Unchecked): Omit<Finding, "code" | "severity"> {
  return { path, message: `${what} is deliberately not checked: ${reason}` };
}

/** Lists are cut in messages; the whole policy is at hand anyway. */
export function describeValues(values: readonly (string | number)[]): string {
  if (values.length === 0) return "nothing (the list is empty)";
  const shown = values.slice(0, 4).join(", ");
  return values.length > 4 ? `${shown} and ${values.length - 4} more` : `one of ${shown}`;
}

/** Whether `(field & mask) == value`. */
export function masked(field: Uint8Array, { mask, value }: MaskedValue): boolean {
  const number = (hex: string) => BigInt(`0x${hex}`);
  return (number(Buffer.from(field).toString("hex")) & number(mask)) === number(value);
}

/** Component-wise shortfall: "component 3: have 19, need 20". */
export function shortfall(
  have: ArrayLike<number>,
  need: readonly number[],
  name: (index: number) => string = (i) => `component ${i + 1}`,
): string {
  return need.flatMap((minimum, i) => ((have[i] ?? 0) >= minimum ? [] : [`${name(i)}: have ${have[i] ?? 0}, need ${minimum}`])).join("; ");
}
