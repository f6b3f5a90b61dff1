import type { UnpackLimits } from "../src/guest/index.ts";
import { parseCount, parseSize } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { usage } from "./errors.ts";

interface Limit {
  readonly member: keyof UnpackLimits;
  readonly read: (text: string) => number;
  readonly min: number;
  readonly max: number;
  readonly takes: string;
}

/** What `--limit` changes; bytes and entries have flags of their own. */
const limits: Readonly<Record<string, Limit>> = {
  // Taking back a tree holds a descriptor for each level, and a process may have no more than 1024.
  depth: { member: "maxDepth", read: parseCount, min: 1, max: 768, takes: "a number of directories up to 768" },
  ratio: { member: "maxRatio", read: parseCount, min: 1, max: 1e9, takes: "a number" },
  pax: { member: "maxPaxBytes", read: parseSize, min: 1, max: 2 ** 30, takes: "a size up to 1G" },
  // Source: zstd.h, ZSTD_WINDOWLOG_MIN and ZSTD_WINDOWLOG_MAX_64.
  "zstd-window": { member: "maxZstdWindow", read: parseSize, min: 2 ** 10, max: 2 ** 31, takes: "a size from 1K to 2G" },
  time: { member: "maxTimeMs", read: (text) => parseDuration("--limit time", text), min: 1, max: Infinity, takes: "a time like 20m" },
};

/** Reads `--limit NAME=VALUE`, given any number of times. Throws `ERR_USAGE`. */
export function readLimits(values: readonly string[]): Partial<UnpackLimits> {
  const read: { -readonly [Member in keyof UnpackLimits]?: number } = {};
  for (const value of values) {
    const at = value.indexOf("=");
    const name = at < 0 ? value : value.slice(0, at);
    const limit = Object.hasOwn(limits, name) ? limits[name] : undefined;
    if (limit === undefined || at < 0) {
      throw usage(`--limit takes NAME=VALUE, not ${JSON.stringify(value)}`, `the names are ${Object.keys(limits).join(", ")}`);
    }
    const found = limit.read(value.slice(at + 1));
    if (Number.isNaN(found) || found < limit.min || found > limit.max)
      throw usage(`--limit ${name} takes ${limit.takes}, not ${JSON.stringify(value.slice(at + 1))}`);
    read[limit.member] = found;
  }
  return read;
}
