import { SigningError } from "./errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** An object of foreign origin. Throws `ERR_SIGNATURE_MALFORMED`, naming `where`. */
export function anObject(value: unknown, where: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformedSignature(`${where} is not an object`);
  return value as JsonObject;
}

/** An object with exactly these members: one missing or one more is refused, as skopeo does. */
export function exactObject(value: unknown, where: string, members: readonly string[]): JsonObject {
  const object = anObject(value, where);
  const missing = members.find((name) => !Object.hasOwn(object, name));
  if (missing !== undefined) throw malformedSignature(`${where} lacks the member ${missing}`);
  const extra = Object.keys(object).find((name) => !members.includes(name));
  if (extra !== undefined) throw malformedSignature(`${where} has the unexpected member ${JSON.stringify(extra.slice(0, 80))}`);
  return object;
}

export function aText(value: unknown, where: string): string {
  if (typeof value !== "string") throw malformedSignature(`${where} is not text`);
  return value;
}

export function exactText(value: unknown, where: string, expected: string): string {
  const text = aText(value, where);
  if (text !== expected)
    throw malformedSignature(`${where} is ${JSON.stringify(text.slice(0, 120))} (expected ${JSON.stringify(expected)})`);
  return text;
}

export function aList(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw malformedSignature(`${where} is not a list`);
  return value;
}

/** Something that a signer or a stranger wrote is not of the agreed form. */
export function malformedSignature(message: string, cause?: unknown): SigningError {
  return new SigningError("ERR_SIGNATURE_MALFORMED", { message, cause });
}
