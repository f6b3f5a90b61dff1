import { StoreError } from "../errors.ts";

/** One header block of a tar file, as far as archives of images need it. */
export interface TarHeader {
  readonly name: string;
  readonly linkName: string;
  readonly type: string;
  /** Bytes of content after the header, without padding. */
  readonly size: number;
}

export const tarBlock = 512;

/**
 * Reads a header block; `undefined` for a block of zeros, which ends an archive. Throws `ERR_STORE_MALFORMED`.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" (base-256 numbers).
 */
export function parseTarHeader(block: Buffer, where: string): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  // Only POSIX's ustar has a prefix; in GNU's format its place holds times.
  const isPosix = block.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isPosix ? text(block, 345, 155) : "";
  const name = text(block, 0, 100);
  if (number(block, 148, 8, where) !== checksum(block)) throw malformedTar(`${where}: a header's checksum is wrong`);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 100),
    type: String.fromCharCode(block.readUInt8(156)),
    size: number(block, 124, 12, where),
  };
}

/** The records of a pax extended header. Throws `ERR_STORE_MALFORMED`. Source: POSIX.1-2017, pax, "pax Extended Header". */
export function parsePax(bytes: Buffer, where: string): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 ? "" : bytes.toString("latin1", at, space);
    const end = at + Number(digits);
    const equals = bytes.indexOf(0x3d, space);
    if (!/^[1-9][0-9]{0,8}$/.test(digits) || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw malformedTar(`${where}: an extended header is malformed`);
    }
    records.set(bytes.toString("utf8", space + 1, equals), bytes.toString("utf8", equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** A whole number in octal, or in base 256 when the first bit is set. */
function number(block: Buffer, start: number, length: number, where: string): number {
  const field = block.subarray(start, start + length);
  if ((field.readUInt8(0) & 0x80) !== 0) {
    let value = BigInt(field.readUInt8(0) & 0x7f);
    for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformedTar(`${where}: a header's number is too large`);
    return Number(value);
  }
  const digits = field.toString("latin1").replaceAll("\0", " ").trim();
  if (!/^[0-7]*$/.test(digits)) throw malformedTar(`${where}: a header's number is not octal`);
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

/** The sum of all bytes, those of the checksum itself counted as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < tarBlock; i += 1) if (i < 148 || i >= 156) sum += block.readUInt8(i);
  return sum;
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? length : end);
}

export function malformedTar(message: string): StoreError {
  return new StoreError("ERR_STORE_MALFORMED", { message, hint: "the archive is damaged or not a tar file; save the image again" });
}
