import { usage } from "./errors.ts";

/** Parses repeated `KEY=VALUE`; a key twice is an error. */
export function keyValues(flag: string, values: readonly string[] = []): Readonly<Record<string, string>> {
  const result: Record<string, string> = {};
  for (const value of values) {
    const at = value.indexOf("=");
    const key = value.slice(0, Math.max(at, 0));
    if (at < 1) throw usage(`${flag} takes KEY=VALUE, not ${value.slice(0, 100)}`);
    if (Object.hasOwn(result, key)) throw usage(`${flag} names ${key} twice`);
    result[key] = value.slice(at + 1);
  }
  return result;
}
