import { createHash } from "node:crypto";
import { ToolError } from "../../errors/index.ts";
import { appraisalOf, unusable, type AppraisalOutcome, type AppraisalQuestion } from "../appraisal.ts";
import type { PolicyOutcome, PolicyQuestion } from "../question.ts";
import type { Purpose } from "./check.ts";
import { Evaluation, newBudget } from "./evaluate.ts";
import { fromJson, toJson } from "./json.ts";
import { malformed } from "./place.ts";
import { compileProgram } from "./program.ts";
import type { Program } from "./syntax.ts";
import { RegoObject, typeOf, type Value } from "./values.ts";

/** Texts above this are refused. */
const maxBytes = 256 * 1024;

/** A resource policy in Rego, compiled. */
export interface RegoReleasePolicy {
  readonly id: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  /**
   * Allows when `data.policy.allow` is `true`, and denies in every other case: another value, none, rules that
   * contradict each other, a limit reached.
   */
  evaluate(question: PolicyQuestion): PolicyOutcome;
}

/** An attestation policy in Rego, compiled. */
export interface RegoAppraisalPolicy {
  readonly id: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  /** The claims of `data.policy.trust_claims`. Throws `ERR_POLICY_FAILED` for whatever is no set of claims. */
  appraise(question: AppraisalQuestion): AppraisalOutcome;
}

/**
 * Compiles a resource policy in the subset of Rego that Trustee's policies need. Whatever it does not understand it
 * refuses: `ERR_POLICY_NOT_UNDERSTOOD`, with line and column.
 */
export function compileRegoRelease(text: string, id = "policy"): RegoReleasePolicy {
  const program = compiled(text, "release", "allow");
  return { id, digest: digestOf(text), evaluate: (question) => release(program, question) };
}

/** Compiles an attestation policy, as {@link compileRegoRelease}; it may ask for reference values as well. */
export function compileRegoAppraisal(text: string, id = "policy"): RegoAppraisalPolicy {
  const program = compiled(text, "appraisal", "trust_claims");
  return { id, digest: digestOf(text), appraise: (question) => appraise(program, question) };
}

function compiled(text: string, purpose: Purpose, wanted: "allow" | "trust_claims"): Program {
  const start = { line: 1, column: 1 };
  if (Buffer.byteLength(text) > maxBytes) throw malformed(start, `a policy in Rego has at most ${maxBytes} bytes`);
  const program = compileProgram(text, purpose);
  const group = program.get(wanted);
  if (group === undefined) throw malformed(start, `the policy has no rule ${wanted}, which is the one that is asked`);
  const fits = group.kind === "complete" || (wanted === "trust_claims" && group.kind === "partial-object");
  if (!fits) throw malformed(group.at, `${wanted} is a ${group.kind} rule`);
  return program;
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text, "utf8").digest("hex")}`;
}

function release(program: Program, { plugin, resourcePath, query, claims, now }: PolicyQuestion): PolicyOutcome {
  const budget = newBudget();
  try {
    const data: ReadonlyMap<string, Value> = new Map([
      ["plugin", plugin],
      ["resource-path", [...resourcePath]],
      ["query", fromJson(query, budget)],
    ]);
    const evaluation = new Evaluation(program, { input: fromJson(claims, budget), data, now, budget, referenceValue: () => null });
    const allow = evaluation.rule("allow");
    if (allow === true) return { allow: true, reasons: ["the policy's rule allow is true"] };
    const value = allow === undefined ? "has no value" : allow === false ? "is false" : `is no boolean but ${typeOf(allow)}`;
    const ends = evaluation.deadEnds("allow").map(({ line, column }) => `the condition at line ${line}, column ${column} does not hold`);
    return { allow: false, reasons: [`the policy's rule allow ${value}`, ...ends] };
  } catch (error) {
    // Whatever keeps a policy from answering denies; a defect of ours must be seen, though.
    if (error instanceof ToolError) return { allow: false, reasons: [`the policy failed: ${error.message}`] };
    throw error;
  }
}

function appraise(program: Program, question: AppraisalQuestion): AppraisalOutcome {
  const { input, now } = question;
  const budget = newBudget();
  const evaluation = new Evaluation(program, {
    input: fromJson(input, budget),
    data: new Map(),
    now,
    budget,
    referenceValue: (name) => fromJson(question.referenceValue(name) ?? null, budget),
  });
  const claims = evaluation.rule("trust_claims");
  if (claims !== undefined && !(claims instanceof RegoObject)) throw unusable(`trust_claims is ${typeOf(claims)}, expected an object`);
  const extensions = evaluation.rule("extensions");
  return appraisalOf(
    claims === undefined ? undefined : toJson(claims, budget),
    extensions === undefined ? undefined : toJson(extensions, budget),
  );
}
