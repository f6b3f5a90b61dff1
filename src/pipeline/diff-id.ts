import type { ByteStage, Digest } from "../bytes/index.ts";
import { CipherError, uncompressedHasher } from "../cipher/index.ts";
import { describeCause } from "../errors/index.ts";
import { compressionOf } from "../layer/index.ts";
import { PipelineError } from "./errors.ts";

/**
 * Compares the digest of an uncompressed layer with the diffID that the image configuration names. Throws
 * `ERR_DIFF_ID_MISMATCH`. Source: OCI image-spec, config.md, "Layer DiffID".
 */
export function compareDiffId(expected: Digest, got: Digest, where: string): void {
  if (got !== expected) throw mismatch(expected, `${where} has diffID ${got}`);
}

/**
 * Passes a plain layer through and compares what it uncompresses to. The last chunk is held back until it fits, so a
 * wrong layer is never whole. Ends with `ERR_DIFF_ID_MISMATCH`.
 */
export function checkDiffId(mediaType: string, expected: Digest, where: string): ByteStage {
  return async function* (source) {
    const hasher = uncompressedHasher(compressionOf(mediaType));
    let held: Uint8Array | undefined;
    try {
      for await (const chunk of source) {
        await hasher.update(chunk);
        if (held !== undefined) yield held;
        held = chunk;
      }
      compareDiffId(expected, await hasher.digest(), where);
    } catch (cause) {
      if (!(cause instanceof CipherError)) throw cause;
      throw mismatch(expected, `${where} cannot be uncompressed (${describeCause(cause.cause)})`, cause);
    }
    if (held !== undefined) yield held;
  };
}

function mismatch(expected: Digest, got: string, cause?: unknown): PipelineError {
  return new PipelineError("ERR_DIFF_ID_MISMATCH", {
    message: `${got}; the image configuration says ${expected}`,
    hint: "the layers were exchanged, reordered or encrypted with another layer's key; ask the image's owner",
    cause,
  });
}
