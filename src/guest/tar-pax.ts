import { malformedTar } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";
import { parseDecimal, parseTime } from "./tar-number.ts";

/** What a PAX extended header says about the entry after it; absent members are left to the ustar header. */
export interface PaxHeader {
  readonly path?: ByteString;
  readonly linkpath?: ByteString;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly atime?: number;
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
  /** GNU.sparse.* members by the part after the prefix. */
  readonly gnuSparse: ReadonlyMap<string, string>;
  /** GNU.sparse.offset and .numbytes of version 0.0, in stream order, alternating. */
  readonly gnuSparseRuns: readonly number[];
}

interface PaxRecord {
  readonly key: ByteString;
  readonly value: Buffer;
}

const xattrPrefix = "SCHILY.xattr.";
const sparsePrefix = "GNU.sparse.";
const maxRecordDigits = 8;

/**
 * Parses the records `"%d %s=%s\n"` strictly. Source: POSIX.1-2017, pax Extended Header.
 *
 * A key that counts twice, a value that does not parse and a length that does not fit are refused: readers that skip
 * such records see another archive than readers that do not (CVE-2025-62518). Keys that we do not know are ignored.
 */
export function parsePax(body: Buffer, offset: number): PaxHeader {
  const seen = new Set<ByteString>();
  const xattrs = new Map<ByteString, Buffer>();
  const gnuSparse = new Map<string, string>();
  const gnuSparseRuns: number[] = [];
  const known: { -readonly [K in "path" | "linkpath" | "size" | "uid" | "gid" | "mtime" | "atime"]?: PaxHeader[K] } = {};
  for (const { key, value } of records(body, offset)) {
    if (key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes") {
      const expected = gnuSparseRuns.length % 2 === 0 ? "GNU.sparse.offset" : "GNU.sparse.numbytes";
      if (key !== expected) throw malformedTar("sparse", offset, `${key} where ${expected} must stand`);
      gnuSparseRuns.push(integer(key, value, offset));
      continue;
    }
    if (seen.has(key)) throw malformedTar("pax-duplicate", offset, `PAX header has ${JSON.stringify(key.slice(0, 80))} twice`);
    seen.add(key);
    switch (key) {
      case "path":
      case "linkpath":
        known[key] = name(key, value, offset);
        break;
      case "size":
      case "uid":
      case "gid":
        known[key] = integer(key, value, offset);
        break;
      case "mtime":
      case "atime":
        known[key] = seconds(key, value, offset);
        break;
      default:
        if (key.startsWith(xattrPrefix)) xattrs.set(key.slice(xattrPrefix.length), value);
        else if (key.startsWith(sparsePrefix)) gnuSparse.set(key.slice(sparsePrefix.length), value.toString("latin1"));
    }
  }
  return { ...known, xattrs, gnuSparse, gnuSparseRuns };
}

/** Checks a global header's syntax. Its content is never applied: Go's reader, thus every container tool, ignores it. */
export function checkGlobalPax(body: Buffer, offset: number): void {
  for (const record of records(body, offset)) void record;
}

function* records(body: Buffer, offset: number): Generator<PaxRecord> {
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 || space - at > maxRecordDigits ? "" : body.toString("latin1", at, space);
    const length = parseDecimal(digits);
    const end = at + (length ?? 0);
    if (length === undefined || end <= space + 1 || end > body.length || body[end - 1] !== 0x0a) {
      throw malformedTar("pax-syntax", offset, "PAX record with a wrong length");
    }
    const equals = body.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end - 1 || equals === space + 1) throw malformedTar("pax-syntax", offset, "PAX record without a key");
    const key = body.toString("latin1", space + 1, equals);
    if (key.includes("\0")) throw malformedTar("pax-syntax", offset, "PAX key with a NUL");
    // A copy: the body's buffer goes back to the reader.
    yield { key, value: Buffer.from(body.subarray(equals + 1, end - 1)) };
    at = end;
  }
}

function name(key: string, value: Buffer, offset: number): ByteString {
  if (value.length === 0 || value.includes(0)) throw malformedTar("pax-value", offset, `PAX ${key} is empty or has a NUL`);
  return value.toString("latin1");
}

function integer(key: string, value: Buffer, offset: number): number {
  const number = parseDecimal(value.toString("latin1", 0, 32));
  if (number === undefined || value.length > 32) throw malformedTar("pax-value", offset, `PAX ${key} is not a decimal number`);
  return number;
}

function seconds(key: string, value: Buffer, offset: number): number {
  const number = value.length > 64 ? undefined : parseTime(value.toString("latin1"));
  if (number === undefined) throw malformedTar("pax-value", offset, `PAX ${key} is not a time`);
  return number;
}
