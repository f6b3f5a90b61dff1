import type { Descriptor } from "../oci/index.ts";
import type { CallOptions } from "../store/index.ts";
import { signBundle } from "./sign-bundle.ts";
import type { KeepOutcome, SignRequest } from "./sign-request.ts";
import { serializeStatement } from "./statement.ts";
import { signaturePredicate } from "./formats.ts";
import { SigningError } from "./errors.ts";
import type { JsonObject } from "./shape.ts";
import { ensureSignatureBundle, keepBundle } from "./write-bundle.ts";

export interface AttestRequest extends Pick<SignRequest, "store" | "target" | "signer" | "signatureStore" | "now"> {
  /** A URI; not the one of image signatures. */
  readonly predicateType: string;
  readonly predicate: JsonObject;
}

export interface AttestReceipt {
  readonly manifest: Descriptor;
  readonly signature: KeepOutcome;
}

/**
 * Signs an in-toto statement about a manifest and stores it as a bundle beside a signature bundle of the same signer,
 * which is written first unless it is there: an attestation alone would hide `.sig` signatures from cosign 3.
 */
export async function attestImage(request: AttestRequest, options: CallOptions = {}): Promise<AttestReceipt> {
  const { target, predicateType, predicate, now } = request;
  if (predicateType === signaturePredicate) {
    throw new SigningError("ERR_SIGNING_UNSUPPORTED", {
      message: `an attestation of type ${predicateType} would be an image signature`,
      hint: "sign the image instead (ociseal sign)",
    });
  }
  const signature = await ensureSignatureBundle(request, options);
  const store = request.signatureStore ?? request.store;
  const payload = serializeStatement({ digest: target.digest, predicateType, predicate, annotations: {} });
  const bundle = await signBundle(request.signer, payload, options);
  return { manifest: await keepBundle({ store, target, bundle, predicateType, now }, options), signature };
}
