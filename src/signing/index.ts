/** Signing and verifying as cosign, skopeo and CoCo guests do: `.sig` tags, v0.3 bundles, keys, identities, policies. */
export { signingErrors, SigningError, type SigningErrorCode } from "./errors.ts";
export { signaturePredicate, signatureLimits, signatureTypes } from "./formats.ts";
export type { HashRule, KeyType } from "./key-types.ts";
export { loadPublicKey, publicKeyOf, publicPemOf, type PublicKey, type PublicKeySource } from "./public-key.ts";
export {
  exportCosignKeyPair,
  generateCosignKeyPair,
  loadPrivateKey,
  type CosignKeyPair,
  type Password,
  type PrivateKeySource,
} from "./private-key.ts";
export { loadSigner, type KeySigner, type SignerSource } from "./signer.ts";
export { signImage, signImageTree } from "./sign-image.ts";
export type { BundleReceipt, KeepOutcome, LegacyReceipt, SignatureFormat, SignedImage, SignRequest } from "./sign-request.ts";
export {
  verifyAttestation,
  verifyImage,
  type VerifiedSignature,
  type VerifyAttestationRequest,
  type VerifyRequest,
} from "./verify-image.ts";
export type { ClaimRequirement, KeyRequirement, LogRule, SignatoryRequirement } from "./requirement.ts";
export type {
  CountedFinding,
  FailedCheck,
  Finding,
  LogEvidence,
  Signatory,
  SignatureFormatFound,
  SignatureReport,
  SignedClaims,
} from "./report.ts";
