import { AttestationError } from "../errors.ts";
import type { Constraint, MaskedValue, Unchecked } from "./schema.ts";

/** A JSON object of a policy, with its path, whose members are all known. */
export interface PolicyObject {
  readonly path: string;
  readonly members: Readonly<Record<string, unknown>>;
}

/** The object, if it has no member but the known ones. Throws `ERR_ATTESTATION_POLICY_MALFORMED`. */
export function readObject(value: unknown, path: string, known: readonly string[]): PolicyObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(path, "is not a JSON object");
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw malformed(path, `has the unknown member ${JSON.stringify(unknown.slice(0, 60))}`, `known members: ${known.join(", ")}`);
  }
  return { path, members: value as Readonly<Record<string, unknown>> };
}

/** Reads a member if it is there. */
export function optional<Value>(object: PolicyObject, name: string, read: (value: unknown, path: string) => Value): Value | undefined {
  const value = object.members[name];
  return value === undefined ? undefined : read(value, `${object.path}.${name}`);
}

export function readFlag(value: unknown, path: string): boolean {
  if (typeof value !== "boolean") throw malformed(path, "is not true or false");
  return value;
}

export function flag(object: PolicyObject, name: string, otherwise: boolean): boolean {
  return optional(object, name, readFlag) ?? otherwise;
}

export function readText(value: unknown, path: string): string {
  if (typeof value !== "string" || value === "" || value.length > 4096) throw malformed(path, "is not a text");
  return value;
}

/** Whole numbers up to `max`. */
export function readNumber(max: number): (value: unknown, path: string) => number {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max)
      throw malformed(path, `is not a whole number from 0 to ${max}`);
    return value;
  };
}

/** Hex of exactly `size` bytes, with or without `0x`; gives lower case. */
export function readHex(size: number): (value: unknown, path: string) => string {
  return (value, path) => {
    const text = readText(value, path).replace(/^0x/i, "").toLowerCase();
    if (text.length !== size * 2 || !/^[0-9a-f]*$/.test(text)) throw malformed(path, `is not ${size} bytes of hex`);
    return text;
  };
}

/** A measurement: hex of `size` bytes, with or without the name of its algorithm before a colon. */
export function readDigest(size: number): (value: unknown, path: string) => string {
  const algorithm = { 32: "sha256", 48: "sha384", 64: "sha512" }[size];
  return (value, path) => {
    const text = readText(value, path);
    const [, prefix, hex] = /^(?:(sha\d+):)?([0-9a-fA-F]+)$/.exec(text) ?? [];
    if (hex === undefined || hex.length !== size * 2 || (prefix !== undefined && prefix !== algorithm)) {
      throw malformed(path, `is not a measurement of ${size} bytes (${algorithm ?? "hex"}: and ${size * 2} hex digits)`);
    }
    return hex.toLowerCase();
  };
}

/** One of some words. */
export function readWord<Word extends string>(words: readonly Word[]): (value: unknown, path: string) => Word {
  return (value, path) => {
    const word = words.find((candidate) => candidate === value);
    if (word === undefined) throw malformed(path, `is not one of ${words.join(", ")}`);
    return word;
  };
}

export function readList<Value>(read: (value: unknown, path: string) => Value): (value: unknown, path: string) => readonly Value[] {
  return (value, path) => {
    if (!Array.isArray(value) || value.length > 10_000) throw malformed(path, "is not a list");
    return (value as readonly unknown[]).map((item, i) => read(item, `${path}[${i}]`));
  };
}

/** Whether a value is `{"kind": "unchecked", …}`; the reason is required. */
export function readUnchecked(value: unknown, path: string): Unchecked | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value) || !("kind" in value)) return undefined;
  const object = readObject(value, path, ["kind", "reason"]);
  if (object.members["kind"] !== "unchecked") throw malformed(path, 'has a kind that is not "unchecked"');
  return { kind: "unchecked", reason: readText(object.members["reason"], `${path}.reason`) };
}

/** A list of allowed values, a single value, or `unchecked` with its reason. */
export function readConstraint<Value>(read: (value: unknown, path: string) => Value): (value: unknown, path: string) => Constraint<Value> {
  return (value, path) => {
    const unchecked = readUnchecked(value, path);
    if (unchecked !== undefined) return unchecked;
    return { kind: "one-of", values: Array.isArray(value) ? readList(read)(value, path) : [read(value, path)] };
  };
}

export function readMasked(size: number): (value: unknown, path: string) => MaskedValue {
  return (value, path) => {
    const object = readObject(value, path, ["mask", "value"]);
    const mask = readHex(size)(object.members["mask"], `${path}.mask`);
    const wanted = readHex(size)(object.members["value"], `${path}.value`);
    if ((BigInt(`0x${wanted}`) & ~BigInt(`0x${mask}`)) !== 0n)
      throw malformed(path, "wants bits that its mask leaves out, so nothing could satisfy it");
    return { mask, value: wanted };
  };
}

const durationUnits = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `30d`, `12h`, `90m`, `10s`; gives milliseconds. */
export function readDuration(value: unknown, path: string): number {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(readText(value, path)) ?? [];
  if (count === undefined || unit === undefined) throw malformed(path, "is not a duration such as 30d, 12h or 90m");
  return Number(count) * durationUnits[unit as keyof typeof durationUnits];
}

/** `2025-08-13` or a full RFC 3339 time; gives milliseconds since the epoch. */
export function readMoment(value: unknown, path: string): number {
  const text = readText(value, path);
  const time = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?Z)?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isFinite(time)) throw malformed(path, "is not a date such as 2025-08-13");
  return time;
}

export function malformed(path: string, what: string, hint?: string): AttestationError {
  return new AttestationError("ERR_ATTESTATION_POLICY_MALFORMED", { message: `${path} ${what}`, hint, details: { path } });
}
