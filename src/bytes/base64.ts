import { BytesError } from "./errors.ts";

const hex = /^(?:[0-9a-f]{2})*$/i;

/** Base64 with the standard alphabet and padding. Source: RFC 4648 section 4. */
export function encodeBase64(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("base64");
}

/** Base64 with the URL alphabet, without padding. Source: RFC 4648 section 5, RFC 7515 section 2. */
export function encodeBase64Url(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("base64url");
}

/** Strict: padding required, no white space, unused bits zero. Throws `ERR_ENCODING_MALFORMED`. The text is not repeated in the message: it may be a secret. */
export function decodeBase64(text: string, subject = "value"): Buffer {
  const bytes = Buffer.from(text, "base64");
  // Node reads several spellings and writes one: a text that comes back the same has the right alphabet and padding too.
  if (bytes.toString("base64") !== text) throw malformed(subject, "base64 with the standard alphabet and padding");
  return bytes;
}

/** Strict: no padding, no white space, unused bits zero. Throws `ERR_ENCODING_MALFORMED`. */
export function decodeBase64Url(text: string, subject = "value"): Buffer {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw malformed(subject, "base64url without padding");
  return bytes;
}

/** Either case, even length. Throws `ERR_ENCODING_MALFORMED`. */
export function decodeHex(text: string, subject = "value"): Buffer {
  if (!hex.test(text)) throw malformed(subject, "hex");
  return Buffer.from(text, "hex");
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function malformed(subject: string, expected: string): BytesError {
  return new BytesError("ERR_ENCODING_MALFORMED", { message: `${subject} is not ${expected}` });
}
