import { malformedTar, type Extent } from "./entry.ts";
import { blockSize } from "./tar-header.ts";
import { parseDecimal, parseNumber } from "./tar-number.ts";
import type { PaxHeader } from "./tar-pax.ts";

/** How a PAX header says that its file is sparse. `in-data`: the map stands before the data (version 1.0). */
export type PaxSparse =
  | { readonly kind: "in-header"; readonly size: number; readonly runs: readonly number[] }
  | { readonly kind: "in-data"; readonly size: number };

/** Reads GNU.sparse.* of versions 0.0, 0.1 and 1.0; `undefined` when the file is not sparse. Source: GNU tar manual, "Sparse Formats". */
export function paxSparse(pax: PaxHeader, offset: number): PaxSparse | undefined {
  const members = pax.gnuSparse;
  if (members.size === 0 && pax.gnuSparseRuns.length === 0) return undefined;
  const version = `${members.get("major") ?? "0"}.${members.get("minor") ?? "x"}`;
  const size = parseDecimal(members.get("realsize") ?? members.get("size") ?? "");
  if (size === undefined) throw malformedTar("sparse", offset, "a sparse file without its size");
  if (version === "1.0") return { kind: "in-data", size };
  if (!["0.x", "0.0", "0.1"].includes(version)) throw malformedTar("sparse", offset, "a sparse file of unknown version");
  const map = members.get("map");
  if (map !== undefined && pax.gnuSparseRuns.length > 0) throw malformedTar("sparse", offset, "a sparse file with two maps");
  const runs = map === undefined ? pax.gnuSparseRuns : map.split(",").map((item) => parseDecimal(item) ?? -1);
  const count = members.get("numblocks");
  if (count !== undefined && parseDecimal(count) !== runs.length / 2)
    throw malformedTar("sparse", offset, "a sparse map of the wrong length");
  return { kind: "in-header", size, runs };
}

/**
 * Turns a flat list of offsets and lengths into extents, checked: ascending, apart, inside the file, and together as long
 * as the data that is stored. Go's reader checks the same; without it a map could write anywhere or never end.
 */
export function checkExtents(runs: readonly number[], size: number, stored: number, offset: number): readonly Extent[] {
  if (runs.length % 2 !== 0) throw malformedTar("sparse", offset, "a sparse map of odd length");
  const extents: Extent[] = [];
  let end = 0;
  let total = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const start = runs[i] ?? -1;
    const length = runs[i + 1] ?? -1;
    if (start < end || length < 0 || start + length > size)
      throw malformedTar("sparse", offset, "a sparse map that is not ascending or leaves the file");
    end = start + length;
    total += length;
    if (length > 0) extents.push([start, length]);
  }
  if (total !== stored) throw malformedTar("sparse", offset, "a sparse map that does not match the stored data");
  return extents;
}

/** The map in an old GNU sparse header (4 pairs at byte 386) or in an extension block (21 pairs at byte 0). */
export function gnuSparsePairs(
  buffer: Buffer,
  at: number,
  kind: "header" | "extension",
  offset: number,
): { runs: number[]; more: boolean } {
  const start = kind === "header" ? at + 386 : at;
  const pairs = kind === "header" ? 4 : 21;
  const runs: number[] = [];
  for (let i = 0; i < pairs; i += 1) {
    const field = start + i * 24;
    if (buffer[field] === 0) break;
    const position = parseNumber(buffer, field, 12);
    const length = parseNumber(buffer, field + 12, 12);
    if (position === undefined || length === undefined) throw malformedTar("sparse", offset, "a sparse map with a malformed number");
    runs.push(position, length);
  }
  return { runs, more: (buffer[start + pairs * 24] ?? 0) !== 0 };
}

/** The expanded size in an old GNU sparse header. */
export function gnuSparseSize(buffer: Buffer, at: number, offset: number): number {
  const size = parseNumber(buffer, at + 483, 12);
  if (size === undefined || size < 0) throw malformedTar("sparse", offset, "a sparse file without its size");
  return size;
}

/** Collects the map of version 1.0, which stands in whole blocks before the data: a count, then pairs, each on a line. */
export class SparseMapReader {
  readonly #maxBytes: number;
  readonly #offset: number;
  #text = "";
  #numbers: number[] = [];
  /** Bytes of the entry's data that the map has taken. */
  taken = 0;

  constructor(maxBytes: number, offset: number) {
    this.#maxBytes = maxBytes;
    this.#offset = offset;
  }

  /** Adds a block; the flat list of offsets and lengths once it is whole. */
  add(buffer: Buffer, at: number): readonly number[] | undefined {
    this.taken += blockSize;
    if (this.taken > this.#maxBytes) throw malformedTar("sparse", this.#offset, "a sparse map beyond the limit");
    const lines = (this.#text + buffer.toString("latin1", at, at + blockSize)).split("\n");
    // The last piece has no line end yet; a digit string longer than this is no number.
    this.#text = (lines.pop() ?? "").slice(0, blockSize + 20);
    for (const line of lines) {
      const number = parseDecimal(line);
      if (number === undefined) throw malformedTar("sparse", this.#offset, "a sparse map with a malformed number");
      this.#numbers.push(number);
      if (this.#numbers.length === 1 + 2 * (this.#numbers[0] ?? 0)) return this.#numbers.slice(1);
    }
    return undefined;
  }
}
