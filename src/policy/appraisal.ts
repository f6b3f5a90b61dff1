import { PolicyError } from "./errors.ts";

const maxExtensions = 100;
/** They travel in a token, in a header. */
const maxExtensionsLength = 32 * 1024;

/** What an attestation policy is asked: the evidence of one device. */
export interface AppraisalQuestion {
  /** `{ "<tee>": claims, report_data, init_data, runtime_data_claims, init_data_claims }`. */
  readonly input: Readonly<Record<string, unknown>>;
  readonly now: Date;
  /** A stored reference value, `undefined` when there is none. */
  referenceValue(name: string): unknown;
}

/** The claims of AR4SI, in the order of the specification. Source: RATS AR4SI, section 2.3. */
export const trustClaims = [
  "instance-identity",
  "configuration",
  "executables",
  "file-system",
  "hardware",
  "runtime-opaque",
  "storage-opaque",
  "sourced-data",
] as const;

/** Signed 8-bit values by claim. A claim that is left out says nothing. */
export type TrustVector = Readonly<Partial<Record<(typeof trustClaims)[number], number>>>;

export interface AppraisalOutcome {
  readonly vector: TrustVector;
  /** Which claims are not affirming; sentences. */
  readonly reasons: readonly string[];
  /** By name. Empty when the policy has no rule `extensions`. */
  readonly extensions: Readonly<Record<string, unknown>>;
}

/**
 * The outcome of an appraisal, of the JSON values of a policy's rules `trust_claims` and `extensions`; the latter is
 * `undefined` when there is no such rule. Throws `ERR_POLICY_FAILED` for whatever is no set of claims.
 */
export function appraisalOf(claims: unknown, extensions: unknown): AppraisalOutcome {
  const vector = vectorOf(claims);
  const reasons = Object.entries(vector).flatMap(([claim, value]) =>
    isAffirming(value) ? [] : [`the policy gives ${claim} the value ${value}`],
  );
  return { vector, reasons, extensions: extensionsOf(extensions) };
}

function vectorOf(claims: unknown): TrustVector {
  if (typeof claims !== "object" || claims === null || Array.isArray(claims))
    throw unusable(
      `trust_claims is ${claims === undefined ? "undefined" : Array.isArray(claims) ? "array" : typeof claims}, expected an object`,
    );
  const entries = Object.entries(claims).map(([key, value]: readonly [string, unknown]) => {
    const name = trustClaims.find((known) => known === key);
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
function extensionsOf(list: unknown): Readonly<Record<string, unknown>> {
  if (list === undefined) return {};
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

/** The error for an answer of a policy that is no appraisal. */
export function unusable(message: string): PolicyError {
  return new PolicyError("ERR_POLICY_FAILED", { message: `the policy's answer is not usable: ${message}` });
}
