import { AttestationError } from "../errors.ts";

/** A JSON value, as evidence and runtime data carry it. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [member: string]: JsonValue };
/** A JSON object. */
export type JsonObject = { readonly [member: string]: JsonValue };

const maxDepth = 64;

/**
 * Canonical JSON: members sorted by UTF-16 code units, no white space, ECMAScript numbers.
 *
 * Throws `ERR_RUNTIME_DATA_MALFORMED` for what has no canonical form (a lone surrogate, NaN, more than 64 levels).
 * Source: RFC 8785 (JCS), sections 3.2.2 and 3.2.3.
 */
export function canonicalJson(value: JsonValue): string {
  return write(value, 0);
}

function write(value: JsonValue, depth: number): string {
  if (depth > maxDepth) throw malformed(`is nested deeper than ${maxDepth}`);
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw malformed("holds a number that JSON cannot say");
    return JSON.stringify(value);
  }
  if (typeof value === "string") return writeString(value);
  if (isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(",")}]`;
  let members = "";
  // Unless told otherwise, sort compares UTF-16 code units.
  for (const name of Object.keys(value).sort()) {
    const member = value[name];
    // As JSON.stringify does it.
    if (member !== undefined) members += `${members === "" ? "" : ","}${writeString(name)}:${write(member, depth + 1)}`;
  }
  return `{${members}}`;
}

function isArray(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

/** Nothing to escape, as nearly always. */
const plain = /^[ !#-[\]-~]*$/;

function writeString(text: string): string {
  if (plain.test(text)) return `"${text}"`;
  if (!text.isWellFormed()) throw malformed("holds a lone surrogate");
  return JSON.stringify(text);
}

function malformed(what: string): AttestationError {
  return new AttestationError("ERR_RUNTIME_DATA_MALFORMED", { message: `a JSON value ${what}` });
}
