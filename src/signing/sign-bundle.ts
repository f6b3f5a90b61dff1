import type { CallOptions } from "../store/index.ts";
import { preAuthEncoding } from "./bundle.ts";
import { makeEvidence } from "./evidence.ts";
import { bundleEvidence } from "./evidence-forms.ts";
import { signatureTypes } from "./formats.ts";
import type { ImageSigner } from "./sign-request.ts";

/** Signs a statement and wraps it, with everything that vouches for it, in a v0.3 bundle. */
export async function signBundle(signer: ImageSigner, payload: Buffer, options: CallOptions): Promise<Buffer> {
  const payloadType = signatureTypes.inToto;
  const message = preAuthEncoding(payloadType, payload);
  const evidence = await makeEvidence(signer, { message, form: { kind: "envelope", payloadType, payload } }, options);
  return bundleEvidence(
    { payloadType, payload, signature: evidence.signature },
    evidence,
    signer.kind === "key" ? signer.publicKey : undefined,
  );
}
