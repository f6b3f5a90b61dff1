import { createPublicKey } from "node:crypto";
import type { CallOptions } from "../../store/index.ts";
import type { SigningServices } from "../keyless/services.ts";
import { signBytes, type HashRule } from "./key-types.ts";
import { loadPrivateKey, type PrivateKeySource } from "./private-key.ts";
import { publicKeyOf, type PublicKey } from "./public-key.ts";

/**
 * Signs with a key: in memory, in a vault or in a token.
 *
 * `sign` is given the message, not its hash, and returns the signature as verifiers expect it: ECDSA as ASN.1 DER, RSA
 * as PKCS#1 v1.5 over SHA-256, Ed25519 pure.
 */
export interface KeySigner {
  readonly kind: "key";
  readonly publicKey: PublicKey;
  sign(message: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  /** Where each signature is made known; nowhere unless told. */
  readonly services?: SigningServices | undefined;
}

export interface SignerSource extends PrivateKeySource {
  /** For P-384 and P-521; `sha256` unless told, which is what cosign and skopeo verify by default. */
  readonly hash?: HashRule | undefined;
}

/**
 * A signer over a private key in PEM.
 *
 * Throws `ERR_SIGNING_KEY_MALFORMED`, `ERR_SIGNING_KEY_UNSUPPORTED` or `ERR_SIGNING_KEY_PASSWORD`.
 */
export async function loadSigner(source: SignerSource): Promise<KeySigner> {
  const key = await loadPrivateKey(source);
  const publicKey = publicKeyOf(createPublicKey(key), source.source);
  const rule = source.hash ?? "sha256";
  return { kind: "key", publicKey, sign: async (message) => signBytes(message, key, publicKey.type, rule) };
}
