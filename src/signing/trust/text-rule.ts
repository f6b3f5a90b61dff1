import { SigningError } from "../errors.ts";
import type { TextRule } from "./anchors.ts";

const maxPatternLength = 2000;

/** Exactly this text. */
export function exactly(value: string): TextRule {
  return { kind: "exact", value };
}

/** A regular expression that must match the whole text; without anchors of its own it would accept `evil-…` and `…-evil`. Throws `ERR_IDENTITY_PATTERN`. */
export function matchingWhole(pattern: string): TextRule {
  try {
    if (pattern.length > maxPatternLength) throw new Error(`longer than ${maxPatternLength} characters`);
    return { kind: "pattern", pattern: new RegExp(`^(?:${pattern})$`, "u") };
  } catch (cause) {
    throw new SigningError("ERR_IDENTITY_PATTERN", {
      message: `${JSON.stringify(pattern.slice(0, 120))} is not a regular expression`,
      hint: "write an ECMAScript regular expression; it is matched against the whole identity",
      cause,
    });
  }
}

export function meets(rule: TextRule, text: string): boolean {
  switch (rule.kind) {
    case "exact":
      return rule.value === text;
    case "pattern":
      return rule.pattern.test(text);
  }
}

export function describeRule(rule: TextRule): string {
  return rule.kind === "exact" ? JSON.stringify(rule.value) : `a match of ${rule.pattern.source}`;
}
