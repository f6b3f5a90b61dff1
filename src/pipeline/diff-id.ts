import type { Digest } from "../bytes/index.ts";
import { PipelineError } from "./errors.ts";

/**
 * Compares the digest of an uncompressed layer with the diffID that the image configuration names. Throws
 * `ERR_DIFF_ID_MISMATCH`. Source: OCI image-spec, config.md, "Layer DiffID".
 */
export function compareDiffId(expected: Digest, got: Digest, where: string): void {
  if (got === expected) return;
  throw new PipelineError("ERR_DIFF_ID_MISMATCH", {
    message: `${where} has diffID ${got}; the image configuration says ${expected}`,
    hint: "the layers were exchanged, reordered or encrypted with another layer's key; ask the image's owner",
  });
}
