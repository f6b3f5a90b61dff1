import { SigningError } from "../errors.ts";
import { verifyBytes } from "./key-types.ts";
import type { PublicKey } from "./public-key.ts";
import type { KeySigner } from "./signer.ts";

/**
 * A signer whose key is somewhere else. Each signature is verified under the public key before anybody sees it: a
 * rotated key, a wrong hash or a broken token must not end in a stored signature that nobody can verify.
 */
export function checkedSigner(publicKey: PublicKey, sign: KeySigner["sign"]): KeySigner {
  return {
    kind: "key",
    publicKey,
    sign: async (message, options) => {
      const signature = await sign(message, options);
      if (await verifyBytes(message, publicKey.key, publicKey.type, signature)) return signature;
      throw new SigningError("ERR_KEY_SERVICE", {
        message: `${publicKey.source} returned a signature that its own public key does not verify`,
        hint: "the key may have been rotated meanwhile, or it signs with another algorithm; try again, then look at the key",
      });
    },
  };
}

/** A key service that cannot be reached, refuses or answers nonsense. No secrets in `message`. */
export function keyServiceError(message: string, hint?: string, cause?: unknown): SigningError {
  return new SigningError("ERR_KEY_SERVICE", {
    message,
    hint: hint ?? "check the address, the credentials and that the key exists",
    cause,
  });
}
