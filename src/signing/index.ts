/** Signing and verifying as cosign, skopeo and CoCo guests do: `.sig` tags, v0.3 bundles, keys, identities, policies. */
export { signingErrors, SigningError, type SigningErrorCode } from "./errors.ts";
export { signaturePredicate, signatureLimits, signatureTypes } from "./formats.ts";
export type { HashRule, KeyType } from "./keys/key-types.ts";
export { loadPublicKey, publicKeyOf, publicPemOf, type PublicKey, type PublicKeySource } from "./keys/public-key.ts";
export {
  exportCosignKeyPair,
  generateCosignKeyPair,
  loadPrivateKey,
  type CosignKeyPair,
  type Password,
  type PrivateKeySource,
} from "./keys/private-key.ts";
export { loadSigner, type KeySigner, type SignerSource } from "./keys/signer.ts";
export type { KeylessSigner } from "./keyless/keyless-signer.ts";
export { loadSigningConfig, publicGoodServices, type SigningConfigSource, type SigningServices } from "./keyless/services.ts";
export {
  checkIdentityToken,
  tokenFromDeviceFlow,
  tokenFromGithub,
  type DeviceFlowRequest,
  type DevicePrompt,
  type GithubTokenRequest,
  type IdentityTokenSource,
} from "./keyless/identity-token.ts";
export { signImage, signImageTree } from "./sign-image.ts";
export type { BundleReceipt, ImageSigner, KeepOutcome, LegacyReceipt, SignatureFormat, SignedImage, SignRequest } from "./sign-request.ts";
export { verifyAttestation, verifyImage, type VerifyAttestationRequest, type VerifyRequest } from "./verify-image.ts";
export type { VerifyTarget } from "./verify-target.ts";
export { acceptUnsigned, type SatisfiedPolicy, type SatisfiedRequirement, type VerifiedSignature } from "./verified.ts";
export { loadTrustedRoot, type TrustedRoot, type TrustedRootSource } from "./trust/trusted-root.ts";
export { exactly, matchingWhole } from "./trust/text-rule.ts";
export type { CertificateAnchors, CertificateAuthorities, CertificateIdentity, LogAnchors, TextRule } from "./trust/anchors.ts";
export { parsePolicy, type PolicySource } from "./policy/parse.ts";
export { chooseRequirements, type ChosenRequirements, type PolicySubject } from "./policy/scopes.ts";
export type { MaterialReader, PolicyRequirement } from "./policy/requirement.ts";
export type {
  Material,
  PolicyItem,
  PolicyTrust,
  RequirementList,
  SignaturePolicy,
  SignedIdentity,
  SigstoreSigned,
} from "./policy/model.ts";
export type {
  CertificateRequirement,
  ClaimRequirement,
  KeyRequirement,
  LogRule,
  ReferenceRule,
  SignatoryRequirement,
} from "./requirement.ts";
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
export { attestImage, type AttestReceipt, type AttestRequest } from "./attest-image.ts";
export { attestSeal, type AttestSealRequest, type SealReceipt } from "./seal/attest-seal.ts";
export {
  requireSealedLayer,
  requireSealedPlaintext,
  verifySealAttestation,
  type VerifiedSeal,
  type VerifySealRequest,
} from "./seal/verify-seal.ts";
export { sealPredicate, type BoundReferrer, type SealedLayer, type SealFacts, type SourceSignature } from "./seal/predicate.ts";
export {
  keepSourceSignatures,
  listCompanions,
  rebindReferrers,
  type Companion,
  type Companions,
  type FollowRequest,
  type RebindRequest,
} from "./seal/companions.ts";
export { checkPolicy, type PolicyCheck, type PolicyCheckRequest } from "./policy/check.ts";
export type { PolicyReader, PolicyRemark } from "./policy/remark.ts";
export { parseRegistriesD, usesAttachments, type RegistriesD, type RegistriesFile } from "./policy/registries-d.ts";
export { keyPlaceOf, openKeySigner, openPublicKey, type KeyAccess, type KeyPlace } from "./keys/open-key.ts";
export type { VaultAccess } from "./keys/vault.ts";
export type { KubernetesAccess } from "./keys/kubernetes.ts";
export type { PluginAccess } from "./keys/kms-plugin.ts";
export type { Pkcs11Access } from "./keys/pkcs11-token.ts";
export { openPkcs11Oaep, type Pkcs11Oaep } from "./keys/pkcs11-oaep.ts";
export { publicGoodTrustedRoot, refreshTrustedRoot, type RefreshRequest } from "./trust/refresh.ts";
