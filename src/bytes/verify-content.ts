import type { ByteStage, Chunks } from "./compose.ts";
import { digestAlgorithmOf, hashHere, type ContentHasher, type ContentHashing, type Digest } from "./digest.ts";
import { BytesError } from "./errors.ts";

/** Size in bytes of the stored form, and its digest. */
export interface ContentAddress {
  readonly digest: Digest;
  readonly size: number;
}

/**
 * Checks size and digest while passing content through.
 *
 * Ends with `ERR_CONTENT_TRUNCATED`, `ERR_CONTENT_TRAILING_DATA` or `ERR_CONTENT_DIGEST_MISMATCH` instead of a normal
 * end; chunks already yielded must not be acted on until the stream has ended. The last chunk is held back until the
 * digest is known to be right, so a reader that ignores the error still never holds the whole content.
 * Source: OCI image-spec, descriptor.md, "Digests".
 *
 * @param expected - size in bytes of the stored form, and its digest.
 * @param subject - what the content is, for the message: "layer 3 of docker://localhost:5000/app".
 * @param hashing - where the digest is computed.
 */
export function verifyContent(expected: ContentAddress, subject = "content", hashing: ContentHashing = hashHere): ByteStage {
  return async function* (source) {
    const hasher = hashing(digestAlgorithmOf(expected.digest));
    try {
      yield* verified(source, hasher);
    } finally {
      hasher.close();
    }
  };

  async function* verified(source: Chunks, hasher: ContentHasher): Chunks {
    let size = 0;
    let held: Uint8Array | undefined;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > expected.size) {
        throw new BytesError("ERR_CONTENT_TRAILING_DATA", {
          message: `${subject} is longer than declared (expected ${expected.size} bytes of ${expected.digest})`,
          hint: "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner",
        });
      }
      const taken = hasher.update(chunk);
      if (taken !== undefined) await taken;
      if (held !== undefined) yield held;
      held = chunk;
    }
    if (size < expected.size) {
      throw new BytesError("ERR_CONTENT_TRUNCATED", {
        message: `${subject} ended early (expected ${expected.size} bytes of ${expected.digest}, got ${size})`,
        hint: "the transfer broke or the stored file is cut; fetch it again",
      });
    }
    const got = await hasher.digest();
    if (got !== expected.digest) {
      throw new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
        message: `${subject} does not match its digest (expected ${expected.digest}, got ${got})`,
        hint: "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner",
      });
    }
    if (held !== undefined) yield held;
  }
}
