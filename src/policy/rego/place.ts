import { PolicyError } from "../errors.ts";

/** Where something stands in a policy's text; both count from 1, columns in UTF-16 units. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A policy that is refused at upload. */
export function malformed({ line, column }: Place, message: string, hint?: string): PolicyError {
  return new PolicyError("ERR_POLICY_NOT_UNDERSTOOD", {
    message: `line ${line}, column ${column}: ${message}`,
    hint:
      hint ??
      "Rego is understood in part: rules, functions, default, else, not, some, every and comprehensions; conditions in the order in which they need each other",
    details: { line, column },
  });
}

/** An evaluation that cannot go on; whoever asked denies. */
export function failed({ line, column }: Place, message: string): PolicyError {
  return new PolicyError("ERR_POLICY_FAILED", {
    message: `line ${line}, column ${column}: ${message}`,
    details: { line, column },
  });
}
