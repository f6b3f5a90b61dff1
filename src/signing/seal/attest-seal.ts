import type { CallOptions } from "../../store/index.ts";
import type { KeepOutcome, SignRequest } from "../sign-request.ts";
import type { Descriptor } from "../../oci/index.ts";
import { attestImage } from "../attest-image.ts";
import { sealPredicate, sealPredicateOf, type SealFacts } from "./predicate.ts";

/** Who seals: the signer of the image, and what is stated about it. */
export interface AttestSealRequest extends Pick<SignRequest, "store" | "target" | "signer" | "signatureStore" | "now"> {
  readonly facts: SealFacts;
}

export interface SealReceipt {
  readonly manifest: Descriptor;
  /** What became of the signature bundle that must stand beside every attestation. */
  readonly signature: KeepOutcome;
}

/**
 * Attaches the signed statement of what a sealed image was made from, and for whom, to the digest of the ciphertext.
 *
 * Never as the only bundle: where there is one, cosign 3 no longer looks at `.sig`, and takes any attestation of the key
 * for a signature. So the signature bundle of the same key is written first, unless it is there.
 */
export async function attestSeal({ facts, ...request }: AttestSealRequest, options: CallOptions = {}): Promise<SealReceipt> {
  return await attestImage({ ...request, predicateType: sealPredicate, predicate: sealPredicateOf(facts) }, options);
}
