import { usage } from "./errors.ts";

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `90s`, `30m`, `12h` or `7d`. Throws `ERR_USAGE`. */
export function parseDuration(flag: string, text: string): number {
  const [, count = "", unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const unitMs = units[unit];
  if (unitMs === undefined)
    throw usage(`${flag} takes a time, not ${JSON.stringify(text)}`, "give a number and s, m, h or d, for example 24h");
  return Number(count) * unitMs;
}
