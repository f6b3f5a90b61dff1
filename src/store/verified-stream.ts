import { compose, verifyContent, type ByteStream, type ContentAddress } from "../bytes/index.ts";

const verifiedFor: unique symbol = Symbol("the digest that a stream ends only with");

/**
 * A stream that ends normally only when its content has this size and digest, marked as such, so that a store that
 * receives it need not hash it again. Every `fetch` without a range returns one.
 */
export function verifiedStream(source: ByteStream, expected: ContentAddress, subject: string): ByteStream {
  return markVerified(compose(source, verifyContent(expected, subject)), expected);
}

/** Only for a stream that passes on a verified stream's bytes unchanged, and its failure. */
export function markVerified(stream: ByteStream, expected: ContentAddress): ByteStream {
  Object.defineProperty(stream, verifiedFor, { value: `${expected.digest} ${expected.size}` });
  return stream;
}

/** Whether a stream was made by {@link verifiedStream} for this address. */
export function isVerifiedFor(stream: ByteStream, expected: ContentAddress): boolean {
  return verifiedFor in stream && stream[verifiedFor] === `${expected.digest} ${expected.size}`;
}

/** The stream itself when it is already verified for this address, else verified now. */
export function ensureVerified(stream: ByteStream, expected: ContentAddress, subject: string): ByteStream {
  return isVerifiedFor(stream, expected) ? stream : verifiedStream(stream, expected, subject);
}
