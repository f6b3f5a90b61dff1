/** Numeric header fields. Source: POSIX.1-2017 pax "ustar Interchange Format"; GNU tar manual, "Extensions" (base-256). */

const octal = /^ *([0-7]*)[ \0]*$/;

/**
 * A number in octal, or in base-256 when the first bit is set; `undefined` when it is neither or not a safe integer.
 *
 * Octal is leading spaces, digits, then spaces and NULs to the end: readers disagree about anything else. An empty field
 * is 0. Base-256 may be negative; whether that is meaningful is the caller's question.
 */
export function parseNumber(block: Buffer, offset: number, length: number): number | undefined {
  if ((block[offset] ?? 0) & 0x80) return parseBase256(block, offset, length);
  const digits = octal.exec(block.toString("latin1", offset, offset + length))?.[1];
  if (digits === undefined) return undefined;
  const value = digits === "" ? 0 : Number.parseInt(digits, 8);
  return Number.isSafeInteger(value) ? value : undefined;
}

function parseBase256(block: Buffer, offset: number, length: number): number | undefined {
  const first = block[offset] ?? 0;
  let value = BigInt(first & 0x7f);
  for (let i = offset + 1; i < offset + length; i += 1) value = (value << 8n) | BigInt(block[i] ?? 0);
  if (first & 0x40) value -= 1n << BigInt(8 * length - 1);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

const decimal = /^(?:0|[1-9][0-9]*)$/;

/** A PAX decimal integer: digits alone, no sign, no leading zero. */
export function parseDecimal(text: string): number | undefined {
  if (!decimal.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

const time = /^-?[0-9]{1,16}(?:\.[0-9]{0,32})?$/;

/** A PAX time: seconds with an optional fraction, maybe negative. */
export function parseTime(text: string): number | undefined {
  return time.test(text) ? Number(text) : undefined;
}
