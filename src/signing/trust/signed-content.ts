import { createHash } from "node:crypto";
import { equalBytes } from "../../bytes/index.ts";
import type { SignedEntity } from "@sigstore/verify";

/** What was signed, and the signature. */
export interface SignedMessage {
  /** The signed bytes: the legacy payload, or the pre-authentication encoding of an envelope. */
  readonly message: Buffer;
  /** The payload inside: the same bytes, or the statement of an envelope. */
  readonly payload: Buffer;
  readonly signature: Buffer;
}

/** The seam of `@sigstore/verify`: what its log checks ask of a signature. */
export type SignatureContent = SignedEntity["signature"];

/**
 * Our own answer to the questions of `@sigstore/verify` about a signature.
 *
 * A log entry of an envelope carries the hash of the payload (`dsse`) or of the signed encoding (`hashedrekord`, as
 * cosign 3 logs it at Rekor v2), by SHA-256 or by the hash of the key's curve. `verifySignature` answers for a signature that the caller verifies by the
 * trusted key's own rules (the library knows fewer key types): it records the key that the library derived, nothing more.
 */
export function signatureContent(
  { message, payload, signature }: SignedMessage,
  sawKey: (key: Parameters<SignatureContent["verifySignature"]>[0]) => void,
): SignatureContent {
  const isDigestOf = (bytes: Buffer, digest: Buffer): boolean =>
    ["sha256", "sha384", "sha512"].some((hash) => equalBytes(createHash(hash).update(bytes).digest(), digest));
  return {
    signature,
    compareSignature: (other) => equalBytes(signature, other),
    compareDigest: (digest) => equalBytes(createHash("sha256").update(payload).digest(), digest) || isDigestOf(message, digest),
    compareSignedDigest: (digest) => isDigestOf(message, digest),
    verifySignature: (key) => {
      sawKey(key);
      return true;
    },
  };
}
