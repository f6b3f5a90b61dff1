import type { Refusal } from "../errors.ts";
import { refuse } from "../refuse.ts";

/** A JSON object whose members have not been looked at yet. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** Strict readers for the vendor's JSON; each throws `COLLATERAL_MALFORMED` with the path of the member. */
export function readRecord(value: unknown, path: string): JsonRecord {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(path, "a JSON object");
  return value as JsonRecord;
}

export function readList(value: unknown, path: string, maxLength: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > maxLength) throw malformed(path, `a list of at most ${maxLength} items`);
  return value as readonly unknown[];
}

export function readString(value: unknown, path: string): string {
  if (typeof value !== "string") throw malformed(path, "a text");
  return value;
}

export function readCount(value: unknown, path: string, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max)
    throw malformed(path, `a whole number up to ${max}`);
  return value;
}

/** Hex in either case, of exactly `size` bytes. */
export function readHex(value: unknown, path: string, size: number): Buffer {
  if (typeof value !== "string" || value.length !== size * 2 || !/^[0-9a-fA-F]*$/.test(value))
    throw malformed(path, `${size} bytes of hex`);
  return Buffer.from(value, "hex");
}

const dateGrammar = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

/** `YYYY-MM-DDThh:mm:ssZ` as milliseconds since the epoch. */
export function readDate(value: unknown, path: string): number {
  const time = typeof value === "string" && dateGrammar.test(value) ? Date.parse(value) : Number.NaN;
  if (!Number.isFinite(time)) throw malformed(path, "a time of the form YYYY-MM-DDThh:mm:ssZ");
  return time;
}

/** Advisory ids; absent means none. */
export function readAdvisoryIds(value: unknown, path: string): readonly string[] {
  if (value === undefined) return [];
  return readList(value, path, 256).map((item, i) => readString(item, `${path}[${i}]`));
}

function malformed(path: string, expected: string): Refusal {
  return refuse("COLLATERAL_MALFORMED", { path, message: `a member of the collateral is not ${expected}` });
}
