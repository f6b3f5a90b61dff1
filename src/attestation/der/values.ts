import { expectTag, malformed, tags, type DerNode } from "./reader.ts";

/** An object identifier in dotted form. Source: X.690 section 8.19. */
export function readOid(node: DerNode | undefined, path: string): string {
  const { content } = expectTag(node, tags.oid, path);
  const last = content.at(-1);
  if (last === undefined || last >= 0x80 || content.length > 64) throw malformed(path, "an object identifier is malformed");
  const arcs: number[] = [];
  let value = 0;
  let fresh = true;
  for (const byte of content) {
    if (fresh && byte === 0x80) throw malformed(path, "an object identifier is not in its shortest form");
    value = value * 128 + (byte & 0x7f);
    if (value > 0xff_ff_ff_ff) throw malformed(path, "an object identifier has an arc above 32 bits");
    fresh = byte < 0x80;
    if (fresh) {
      arcs.push(value);
      value = 0;
    }
  }
  const [first = 0, ...rest] = arcs;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...rest].join(".");
}

/** The content of an INTEGER in its shortest form, at most 64 bytes. */
export function readIntegerBytes(node: DerNode | undefined, path: string, tag: number = tags.integer): Buffer {
  const { content } = expectTag(node, tag, path);
  const [first, second] = content;
  if (first === undefined || content.length > 64) throw malformed(path, "an integer is empty or longer than 64 bytes");
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw malformed(path, "an integer is not in its shortest form");
  }
  return content;
}

/** An INTEGER (or ENUMERATED) between 0 and `max`. */
export function readSmallInteger(node: DerNode | undefined, path: string, max: number, tag: number = tags.integer): number {
  const content = readIntegerBytes(node, path, tag);
  if ((content[0] ?? 0x80) >= 0x80 || content.length > 5) throw malformed(path, `an integer is not between 0 and ${max}`);
  const value = content.readUIntBE(0, content.length);
  if (value > max) throw malformed(path, `an integer is not between 0 and ${max}`);
  return value;
}

/** A serial number as lower-case hex without leading zeros, so that certificate and list compare as numbers. */
export function readSerial(node: DerNode | undefined, path: string): string {
  const content = readIntegerBytes(node, path);
  return content.toString("hex").replace(/^0+(?=.)/, "");
}

/** A BOOLEAN: 0x00 or 0xff. */
export function readBoolean(node: DerNode | undefined, path: string): boolean {
  const { content } = expectTag(node, tags.boolean, path);
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw malformed(path, "a boolean is neither 0x00 nor 0xff");
  return content[0] === 0xff;
}

/** A BIT STRING that is a whole number of bytes. */
export function readBitStringBytes(node: DerNode | undefined, path: string): Buffer {
  const { content } = expectTag(node, tags.bitString, path);
  if (content[0] !== 0) throw malformed(path, "a bit string is not a whole number of bytes");
  return content.subarray(1);
}

/** A named BIT STRING of at most 16 bits; bit 0 is the highest bit of the first byte. */
export function readNamedBits(node: DerNode | undefined, path: string): ReadonlySet<number> {
  const { content } = expectTag(node, tags.bitString, path);
  const unused = content[0];
  const bits = content.subarray(1);
  const lastByte = bits.at(-1);
  if (unused === undefined || unused > 7 || bits.length > 2 || (lastByte === undefined && unused !== 0)) {
    throw malformed(path, "a bit string is malformed");
  }
  // Unused bits are zero. That a named bit list ends in a one (X.690 section 11.2.2) is not asked for: AMD's own ASK and
  // ASVK certificates write trailing zeros.
  if (lastByte !== undefined && (lastByte & ((1 << unused) - 1)) !== 0) throw malformed(path, "unused bits of a bit string are not zero");
  const set = new Set<number>();
  for (let i = 0; i < bits.length * 8; i += 1) {
    if (((bits[i >> 3] ?? 0) & (0x80 >> (i & 7))) !== 0) set.add(i);
  }
  return set;
}

/** The text of a UTF8String, PrintableString or IA5String. */
export function readText(node: DerNode | undefined, path: string): string {
  if (node === undefined) throw malformed(path, "a text is missing");
  const { tag, content } = node;
  if (tag === tags.utf8String) {
    const text = content.toString("utf8");
    if (!Buffer.from(text, "utf8").equals(content)) throw malformed(path, "a text is not UTF-8");
    return text;
  }
  if (tag !== tags.printableString && tag !== tags.ia5String) throw malformed(path, `tag 0x${tag.toString(16)} is not a text`);
  if (content.some((byte) => byte > 0x7e || byte < 0x20)) throw malformed(path, "a text is not ASCII");
  return content.toString("latin1");
}

const utcGrammar = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;
const generalizedGrammar = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/** A Time in milliseconds since the epoch. UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280 section 4.1.2.5). */
export function readTime(node: DerNode | undefined, path: string): number {
  if (node === undefined) throw malformed(path, "a time is missing");
  const text = node.content.toString("latin1");
  const short = node.tag === tags.utcTime;
  if (!short && node.tag !== tags.generalizedTime) throw malformed(path, `tag 0x${node.tag.toString(16)} is not a time`);
  const match = (short ? utcGrammar : generalizedGrammar).exec(text);
  if (match === null) throw malformed(path, "a time is malformed");
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  const fullYear = short ? year + (year < 50 ? 2000 : 1900) : year;
  if (!short && fullYear < 2050) throw malformed(path, "a time before 2050 is not written as UTCTime");
  const time = Date.UTC(fullYear, month - 1, day, hour, minute, second);
  const check = new Date(time);
  if (
    check.getUTCMonth() !== month - 1 ||
    check.getUTCDate() !== day ||
    check.getUTCHours() !== hour ||
    check.getUTCMinutes() !== minute ||
    second > 59
  ) {
    throw malformed(path, "a time names a moment that does not exist");
  }
  return time;
}
