import { createHash } from "node:crypto";
import { ToolError } from "../../errors/index.ts";
import { PolicyError } from "../errors.ts";
import type { PolicyOutcome, PolicyQuestion } from "../question.ts";
import type { Purpose } from "./check.ts";
import { Evaluation, newBudget } from "./evaluate.ts";
import { fromJson, toJson } from "./json.ts";
import { malformed } from "./place.ts";
import { compileProgram } from "./program.ts";
import type { Program } from "./syntax.ts";
import { RegoObject, typeOf, type Budget, type Value } from "./values.ts";

/** Texts above this are refused. */
const maxBytes = 256 * 1024;
const maxExtensions = 100;
/** They travel in a token, in a header. */
const maxExtensionsLength = 32 * 1024;

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

/** What an attestation policy is asked: the evidence of one device. */
export interface AppraisalQuestion {
  /** `{ "<tee>": claims, report_data, init_data, runtime_data_claims, init_data_claims }`. */
  readonly input: Readonly<Record<string, unknown>>;
  readonly now: Date;
  /** A stored reference value, `undefined` when there is none. */
  referenceValue(name: string): unknown;
}

/** Claims of AR4SI, with their values. */
export type TrustClaims = Readonly<Partial<Record<(typeof trustClaimNames)[number], number>>>;

export interface AppraisalOutcome {
  readonly vector: TrustClaims;
  /** Which claims are not affirming; sentences. */
  readonly reasons: readonly string[];
  /** By name. Empty when the policy has no rule `extensions`. */
  readonly extensions: Readonly<Record<string, unknown>>;
}

/** An attestation policy in Rego, compiled. */
export interface RegoAppraisalPolicy {
  readonly id: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  /** The claims of `data.policy.trust_claims`. Throws `ERR_POLICY_FAILED` for whatever is no set of claims. */
  appraise(question: AppraisalQuestion): AppraisalOutcome;
}

/** Source: RATS AR4SI, section 2.3. */
const trustClaimNames = [
  "instance-identity",
  "configuration",
  "executables",
  "file-system",
  "hardware",
  "runtime-opaque",
  "storage-opaque",
  "sourced-data",
] as const;

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
  const vector = vectorOf(evaluation.rule("trust_claims"), budget);
  const reasons = Object.entries(vector).flatMap(([claim, value]) =>
    isAffirming(value) ? [] : [`the policy gives ${claim} the value ${value}`],
  );
  return { vector, reasons, extensions: extensionsOf(evaluation.rule("extensions"), budget) };
}

function vectorOf(claims: Value | undefined, budget: Budget): TrustClaims {
  if (!(claims instanceof RegoObject))
    throw unusable(`trust_claims is ${claims === undefined ? "undefined" : typeOf(claims)}, expected an object`);
  const entries = claims.sorted(budget).map(([key, value]) => {
    const name = trustClaimNames.find((known) => known === key);
    if (name === undefined) throw unusable("trust_claims has a member that is no claim");
    if (typeof value !== "number" || !Number.isInteger(value) || value < -128 || value > 127)
      throw unusable(`the claim ${name} is no integer of -128 to 127`);
    return [name, value] as const;
  });
  if (entries.length === 0) throw unusable("trust_claims has no claim");
  return Object.fromEntries(entries);
}

/** `none` says nothing against a device. Source: EAR, section 3.2. */
function isAffirming(value: number): boolean {
  return value >= -32 && value <= 31;
}

/** `[{ name, key, value }]`; tokens in JSON use the name. */
function extensionsOf(extensions: Value | undefined, budget: Budget): Readonly<Record<string, unknown>> {
  if (extensions === undefined) return {};
  const list = toJson(extensions, budget);
  if (JSON.stringify(list).length > maxExtensionsLength)
    throw unusable(`extensions have at most ${maxExtensionsLength} characters as JSON`);
  if (!Array.isArray(list) || list.length > maxExtensions) throw unusable(`extensions is no array of at most ${maxExtensions}`);
  const entries = list.map((extension: unknown) => {
    const { name, key, value } = typeof extension === "object" && extension !== null ? (extension as Record<string, unknown>) : {};
    if (typeof name !== "string" || !Number.isInteger(key) || value === undefined)
      throw unusable("an extension has a name, an integer as key and a value");
    return [name, value] as const;
  });
  if (new Set(entries.map(([name]) => name)).size !== entries.length) throw unusable("two extensions have one name");
  return Object.fromEntries(entries);
}

function unusable(message: string): PolicyError {
  return new PolicyError("ERR_POLICY_FAILED", { message: `the policy's answer is not usable: ${message}` });
}
