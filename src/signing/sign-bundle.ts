import type { CallOptions } from "../store/index.ts";
import { preAuthEncoding, serializeKeyBundle } from "./bundle.ts";
import { signatureTypes } from "./formats.ts";
import type { KeySigner } from "./keys/signer.ts";

/** Signs a statement and wraps it in a v0.3 bundle. */
export async function signBundle(signer: KeySigner, payload: Buffer, options: CallOptions): Promise<Buffer> {
  const signature = Buffer.from(await signer.sign(preAuthEncoding(signatureTypes.inToto, payload), options));
  return serializeKeyBundle({ payloadType: signatureTypes.inToto, payload, signature }, signer.publicKey);
}
