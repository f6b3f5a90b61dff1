import { createHash } from "node:crypto";
import type { CallOptions } from "../../store/index.ts";
import { checkedSigner } from "./checked-signer.ts";
import { openTokenKey, outputOf, type Pkcs11Access } from "./pkcs11-token.ts";
import type { KeySigner } from "./signer.ts";

/** A signer over a key in a token. Throws `ERR_KEY_SERVICE`. */
export async function openPkcs11Signer(reference: string, access: Pkcs11Access, options: CallOptions = {}): Promise<KeySigner> {
  const key = await openTokenKey(reference, access, options);
  const { publicKey } = key;
  return checkedSigner(publicKey, async (message, signOptions = {}) => {
    const sign = async (input: Uint8Array, ...mechanism: readonly string[]): Promise<Buffer> =>
      outputOf(key, await key.use(["--sign", "--mechanism", ...mechanism], input, signOptions));
    switch (publicKey.type) {
      case "rsa":
        return sign(message, "SHA256-RSA-PKCS");
      case "ed25519":
        return sign(message, "EDDSA");
      case "ecdsa-p256":
      case "ecdsa-p384":
      case "ecdsa-p521": {
        const digest = createHash("sha256").update(message).digest();
        return sign(digest, "ECDSA", "--signature-format", "openssl");
      }
    }
  });
}
