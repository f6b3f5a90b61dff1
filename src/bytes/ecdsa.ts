import { BytesError } from "./errors.ts";

/** Length of r and of s on P-256. */
const half = 32;

/**
 * An ECDSA signature on P-256 as DER, from r‖s. Source: RFC 3279 section 2.2.3, RFC 7518 section 3.4.
 *
 * For `verify` of node:crypto with a bare key: told the encoding in an options object instead, Node first throws and
 * catches two errors on the way to the key, which costs a sixth of a verification. Throws `ERR_ENCODING_MALFORMED` for
 * another length than 64 bytes.
 */
export function derOfP256Signature(raw: Uint8Array): Buffer {
  if (raw.length !== 2 * half) throw malformed("r and s of 32 bytes each");
  const [rSize, sSize] = [integerSize(raw, 0), integerSize(raw, half)];
  const der = Buffer.alloc(6 + rSize + sSize);
  der[0] = 0x30;
  der[1] = 4 + rSize + sSize;
  writeInteger(der, 2, raw, 0, rSize);
  writeInteger(der, 4 + rSize, raw, half, sSize);
  return der;
}

/** r‖s of an ECDSA signature on P-256 that node:crypto made. Throws `ERR_ENCODING_MALFORMED`. */
export function rawOfP256Signature(der: Uint8Array): Buffer {
  const raw = Buffer.alloc(2 * half);
  if (der[0] !== 0x30 || der[1] !== der.length - 2) throw malformed("a DER sequence");
  const next = readInteger(der, 2, raw, 0);
  if (readInteger(der, next, raw, half) !== der.length) throw malformed("a DER sequence of two integers");
  return raw;
}

/** Bytes of an INTEGER: without leading zeros, with one where the first bit is set. */
function integerSize(raw: Uint8Array, start: number): number {
  let first = start;
  while (first < start + half - 1 && raw[first] === 0) first += 1;
  return start + half - first + ((raw[first] ?? 0) >> 7);
}

function writeInteger(der: Buffer, at: number, raw: Uint8Array, start: number, size: number): void {
  der[at] = 0x02;
  der[at + 1] = size;
  const copied = Math.min(size, half);
  der.set(raw.subarray(start + half - copied, start + half), at + 2 + size - copied);
}

function readInteger(der: Uint8Array, at: number, raw: Buffer, start: number): number {
  const size = der[at + 1] ?? 0;
  const end = at + 2 + size;
  const from = size > half ? at + 2 + size - half : at + 2;
  if (der[at] !== 0x02 || size === 0 || size > half + 1 || end > der.length || (size > half && der[at + 2] !== 0))
    throw malformed("a DER integer");
  raw.set(der.subarray(from, end), start + half - (end - from));
  return end;
}

function malformed(expected: string): BytesError {
  return new BytesError("ERR_ENCODING_MALFORMED", { message: `an ECDSA signature is not ${expected}` });
}
