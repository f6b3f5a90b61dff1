import { compose, verifyContent } from "../bytes/index.ts";
import type { OpenedLayer } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { requireSealedLayer, verifySealAttestation, type VerifiedSeal } from "../signing/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import type { AdmittedImage, Verification } from "./admit.ts";
import { GuestError } from "./errors.ts";
import type { LayerSource } from "./unpack-image.ts";

/**
 * Demands the signed statement of what the image was made from, by whoever had to sign the image. Throws
 * `ERR_GUEST_SEAL_UNVERIFIABLE`, `ERR_SEAL_ATTESTATION_*`, `ERR_SIGNATURE_*`.
 */
export async function demandSeal(
  request: { readonly store: ContentReader; readonly verification: Verification; readonly image: AdmittedImage },
  options: CallOptions,
): Promise<VerifiedSeal> {
  const { store, verification, image } = request;
  if (verification.kind === "insecure-accept-unsigned") {
    throw new GuestError("ERR_GUEST_SEAL_UNVERIFIABLE", {
      message: "a seal attestation was demanded, and nobody was named who must have signed it",
      hint: "name a key or a policy for the image",
    });
  }
  const { requirement, signatureStore } = verification;
  return verifySealAttestation({ store, target: image.target, requirement, signatureStore }, options);
}

/**
 * Lets layers pass only when they decrypt to exactly what was attested: at once where the layer's own digest binds, else
 * while it streams, before its last byte. Throws `ERR_SEAL_PLAINTEXT_MISMATCH`, ends with `ERR_CONTENT_DIGEST_MISMATCH`.
 */
export function sealedSource(
  seal: VerifiedSeal,
  layers: readonly Descriptor[],
  opened: readonly (OpenedLayer | undefined)[],
  source: LayerSource,
): LayerSource {
  for (const [index, layer] of layers.entries()) {
    const plaintext = opened[index]?.digest;
    if (plaintext !== undefined) requireSealedLayer(seal, { ciphertext: layer.digest, plaintext });
  }
  return async (layer, index) => {
    const plain = await source(layer, index);
    const key = opened[index];
    if (key === undefined || key.digest !== undefined) return plain;
    const attested = seal.facts.layers.find(({ ciphertext }) => ciphertext === layer.digest);
    if (attested === undefined) {
      plain.stream.destroy();
      throw new GuestError("ERR_GUEST_SEAL_UNVERIFIABLE", {
        message: `layer ${layer.digest} is encrypted, and the seal attestation does not name it`,
        hint: "the attestation is of another image, or the image was changed after it was sealed",
      });
    }
    const verify = verifyContent({ digest: attested.plaintext, size: key.size }, `the attested plaintext of layer ${index}`);
    return { ...plain, stream: compose(plain.stream, verify) };
  };
}
