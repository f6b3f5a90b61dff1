import { malformedTar } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";
import { parseNumber } from "./tar-number.ts";

export const blockSize = 512;

/** A header block as it stands, before PAX and GNU extensions. */
export interface TarHeader {
  readonly type: string;
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly size: number;
  readonly mode: number;
  /** `undefined` where the field does not parse: a PAX header may still say it. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly mtime: number | undefined;
  readonly devMajor: number | undefined;
  readonly devMinor: number | undefined;
  readonly format: "v7" | "ustar" | "gnu";
}

const zeros = Buffer.alloc(blockSize);

export function isZeroBlock(buffer: Buffer, at: number): boolean {
  return buffer[at] === 0 && zeros.compare(buffer, at, at + blockSize) === 0;
}

/**
 * Reads one header block. Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 *
 * @param offset - where the block stands in the stream, for messages.
 */
export function parseHeader(buffer: Buffer, at: number, offset: number): TarHeader {
  const stored = parseNumber(buffer, at + 148, 8);
  if (stored !== checksum(buffer, at)) throw malformedTar("checksum", offset, "the header's checksum is wrong");
  const format = formatOf(buffer, at, offset);
  const size = parseNumber(buffer, at + 124, 12);
  if (size === undefined || size < 0) throw malformedTar("number", offset, "the size is not a number");
  const mode = parseNumber(buffer, at + 100, 8);
  if (mode === undefined || mode < 0) throw malformedTar("number", offset, "the mode is not a number");
  const base = text(buffer, at, 100);
  const prefix = format === "ustar" ? text(buffer, at + 345, prefixLength(buffer, at)) : "";
  return {
    type: buffer.toString("latin1", at + 156, at + 157),
    name: prefix === "" ? base : `${prefix}/${base}`,
    linkName: text(buffer, at + 157, 100),
    size,
    // Some writers add the file type bits of st_mode; the type flag alone counts.
    mode: mode % 0o10000,
    uid: parseNumber(buffer, at + 108, 8),
    gid: parseNumber(buffer, at + 116, 8),
    mtime: parseNumber(buffer, at + 136, 12),
    devMajor: parseNumber(buffer, at + 329, 8),
    devMinor: parseNumber(buffer, at + 337, 8),
    format,
  };
}

/** Unsigned sum of all bytes, the checksum field counted as spaces. */
function checksum(buffer: Buffer, at: number): number {
  let sum = 8 * 0x20;
  for (let i = at; i < at + 148; i += 1) sum += buffer[i] ?? 0;
  for (let i = at + 156; i < at + blockSize; i += 1) sum += buffer[i] ?? 0;
  return sum;
}

function formatOf(buffer: Buffer, at: number, offset: number): TarHeader["format"] {
  const magic = buffer.toString("latin1", at + 257, at + 265);
  if (magic === "ustar\x0000" || magic === "ustar\0\0\0") return "ustar";
  if (magic === "ustar  \0") return "gnu";
  if (magic === "\0\0\0\0\0\0\0\0") return "v7";
  throw malformedTar("magic", offset, "the header's magic is unknown");
}

/** star ends its prefix earlier and marks the block at byte 508; reading on would add times to the name. */
function prefixLength(buffer: Buffer, at: number): number {
  return buffer.toString("latin1", at + 508, at + 512) === "tar\0" ? 131 : 155;
}

function text(buffer: Buffer, at: number, length: number): ByteString {
  const field = buffer.toString("latin1", at, at + length);
  const nul = field.indexOf("\0");
  return nul < 0 ? field : field.slice(0, nul);
}
