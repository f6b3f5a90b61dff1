import type { Digest } from "../../bytes/index.ts";
import type { Descriptor } from "../../oci/index.ts";
import type { CallOptions } from "../../store/index.ts";
import { SigningError } from "../errors.ts";
import { signatoriesOf } from "../policy/signatories.ts";
import type { PolicyRequirement } from "../policy/requirement.ts";
import type { CountedFinding } from "../report.ts";
import type { SignatoryRequirement } from "../requirement.ts";
import { verifyAttestation } from "../verify-image.ts";
import type { VerifyTarget } from "../verify-target.ts";
import type { VerifiedSignature } from "../verified.ts";
import { parseSealPredicate, sealPredicate, type SealFacts } from "./predicate.ts";

export interface VerifySealRequest extends VerifyTarget {
  /** Who must have sealed. Of a policy: each `sigstoreSigned` requirement of the image's scope. */
  readonly requirement: SignatoryRequirement | PolicyRequirement;
}

/** A verified statement of what a sealed image was made from. */
export interface VerifiedSeal {
  readonly target: Descriptor;
  readonly facts: SealFacts;
  readonly proof: VerifiedSignature;
}

/**
 * Demands the statement of {@link attestSeal} on a ciphertext digest, by the signatory that the requirement names.
 *
 * Several good statements must agree on plaintext and layers; two stories about one ciphertext are refused. Throws
 * `ERR_SEAL_ATTESTATION_AMBIGUOUS` and what {@link verifyAttestation} throws.
 */
export async function verifySealAttestation(request: VerifySealRequest, options: CallOptions = {}): Promise<VerifiedSeal> {
  const { requirement } = request;
  const signatories = requirement.kind === "policy" ? await signatoriesOf(requirement) : [requirement];
  const proofs: VerifiedSignature[] = [];
  for (const signatory of signatories)
    proofs.push(await verifyAttestation({ ...request, requirement: signatory, predicateType: sealPredicate }, options));
  const [proof] = proofs;
  if (proof === undefined) {
    throw new SigningError("ERR_SEAL_ATTESTATION_UNVERIFIABLE", {
      message: `the policy names nobody whose statement about ${request.target.digest} could be checked`,
      hint: "a policy that demands a seal attestation needs a sigstoreSigned requirement for the image",
    });
  }
  return {
    target: request.target,
    facts: agreed(
      proofs.flatMap(({ signatures }) => signatures),
      request.target,
    ),
    proof,
  };
}

function agreed(signatures: readonly CountedFinding[], target: Descriptor): SealFacts {
  const all = signatures.map(({ claims }) => parseSealPredicate(claims.predicate));
  const [first, ...more] = all;
  const story = (facts: SealFacts): string => JSON.stringify([facts.plaintext.digest, facts.layers]);
  if (first === undefined || more.some((facts) => story(facts) !== story(first))) {
    throw new SigningError("ERR_SEAL_ATTESTATION_AMBIGUOUS", {
      message: `${target.digest} has ${all.length} good statements of what it was made from, and they disagree`,
      hint: "somebody with the signing key attested twice; remove the wrong statement, or seal the image again",
    });
  }
  return first;
}

/**
 * Checks that decrypting gave exactly what was attested: the digest of the rebuilt plaintext manifest, or of the index.
 * Throws `ERR_SEAL_PLAINTEXT_MISMATCH`.
 */
export function requireSealedPlaintext({ facts, target }: VerifiedSeal, plaintext: Digest): void {
  if (facts.plaintext.digest === plaintext) return;
  throw new SigningError("ERR_SEAL_PLAINTEXT_MISMATCH", {
    message: `decrypting ${target.digest} gave ${plaintext}, and it was attested to be ${facts.plaintext.digest}`,
    hint: "do not use the image; whoever sealed it or whoever holds its keys changed its content",
  });
}

/** Checks one layer as {@link requireSealedPlaintext} the whole. Throws `ERR_SEAL_PLAINTEXT_MISMATCH`. */
export function requireSealedLayer(
  { facts, target }: VerifiedSeal,
  layer: { readonly ciphertext: Digest; readonly plaintext: Digest },
): void {
  const attested = facts.layers.find(({ ciphertext }) => ciphertext === layer.ciphertext);
  if (attested?.plaintext === layer.plaintext) return;
  throw new SigningError("ERR_SEAL_PLAINTEXT_MISMATCH", {
    message: `layer ${layer.ciphertext} of ${target.digest} decrypts to ${layer.plaintext}, and it was attested to be ${attested?.plaintext ?? "no layer of this image"}`,
    hint: "do not use the image; whoever sealed it or whoever holds its keys changed its content",
  });
}
