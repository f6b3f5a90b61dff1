import type { CallOptions } from "../store/index.ts";
import { noServices } from "./keyless/services.ts";
import type { ContentToSign, SignatureEvidence } from "./keyless/make-evidence.ts";
import type { ImageSigner } from "./sign-request.ts";

/**
 * Signs, and makes known what has to be: a key alone signs here; certificates, logs and timestamps load their client
 * first.
 */
export async function makeEvidence(signer: ImageSigner, content: ContentToSign, options: CallOptions): Promise<SignatureEvidence> {
  if (signer.kind === "key" && signer.services === undefined) {
    const signature = Buffer.from(await signer.sign(content.message, options));
    return { signature, certificatePem: undefined, logEntry: undefined, timestamps: [] };
  }
  const { signKeyless, signLogged } = await import("./keyless/make-evidence.ts");
  return signer.kind === "keyless"
    ? await signKeyless(signer, content, options)
    : await signLogged(signer, signer.services ?? noServices, content, options);
}
