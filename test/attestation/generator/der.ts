/** A small DER writer for tests; it can also write what no writer should. */
export function tlv(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const length = body.length;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), body]);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length, ...bytes]), body]);
}

export const sequence = (...items: readonly Uint8Array[]) => tlv(0x30, ...items);
export const set = (...items: readonly Uint8Array[]) => tlv(0x31, ...items);
export const octets = (content: Uint8Array) => tlv(0x04, content);
export const bits = (content: Uint8Array, unused = 0) => tlv(0x03, Buffer.from([unused]), content);
export const boolean = (value: boolean) => tlv(0x01, Buffer.from([value ? 0xff : 0]));
export const utf8 = (text: string) => tlv(0x0c, Buffer.from(text, "utf8"));
export const ia5 = (text: string) => tlv(0x16, Buffer.from(text, "latin1"));
export const enumerated = (value: number) => tlv(0x0a, Buffer.from([value]));
export const explicit = (number: number, ...content: readonly Uint8Array[]) => tlv(0xa0 | number, ...content);

export function integer(value: number | bigint): Buffer {
  let hex = BigInt(value).toString(16);
  if (hex.length % 2 === 1) hex = `0${hex}`;
  const bytes = Buffer.from(hex, "hex");
  return tlv(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const groups = [arc & 0x7f];
    for (let value = Math.floor(arc / 128); value > 0; value = Math.floor(value / 128)) groups.unshift((value & 0x7f) | 0x80);
    return groups;
  });
  return tlv(0x06, Buffer.from(bytes));
}

/** UTCTime through 2049, GeneralizedTime after. */
export function time(moment: Date): Buffer {
  const text = moment
    .toISOString()
    .replaceAll(/[-:T]/g, "")
    .replace(/\.\d+Z$/, "Z");
  return moment.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(text.slice(2), "latin1")) : tlv(0x18, Buffer.from(text, "latin1"));
}

export const name = (commonName: string) =>
  sequence(set(sequence(oid("2.5.4.3"), utf8(commonName))), set(sequence(oid("2.5.4.10"), utf8("Test Corporation"))));
