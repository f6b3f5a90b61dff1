import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const signingErrors = {
  ERR_SIGNING_KEY_MALFORMED: { category: "no-key", summary: "A signing or verification key is malformed, or is not a key at all." },
  ERR_SIGNING_KEY_UNSUPPORTED: { category: "no-key", summary: "A signing or verification key is of a type or size that is not supported." },
  ERR_SIGNING_KEY_PASSWORD: { category: "no-key", summary: "The password of a private key is wrong or missing." },
  ERR_SIGNING_UNSUPPORTED: { category: "usage", summary: "What was asked cannot be signed in this format." },
  ERR_KEY_SERVICE: { category: "unavailable", summary: "A vault, token, plugin or cluster that holds a signing key cannot be used." },
  ERR_SIGNING_CONFIG_MALFORMED: { category: "usage", summary: "A signing config is malformed, or names no service that is valid now." },
  ERR_SIGNING_PACKAGE_MISSING: {
    category: "usage",
    summary: "An optional package is needed for this kind of signing and is not installed.",
  },
  ERR_SIGNING_SERVICE: { category: "unavailable", summary: "A service did not do its part of a signing." },
  ERR_IDENTITY_TOKEN: { category: "denied", summary: "There is no usable identity token." },
  ERR_TRUSTED_ROOT_MALFORMED: { category: "usage", summary: "A trusted root file is malformed." },
  ERR_IDENTITY_PATTERN: { category: "usage", summary: "A pattern for an identity is not a regular expression." },
  ERR_POLICY_MALFORMED: { category: "usage", summary: "A containers-policy.json is not valid; it is refused as a whole." },
  ERR_REGISTRIES_D_MALFORMED: { category: "usage", summary: "A file of registries.d is malformed." },
  ERR_POLICY_SUBJECT: { category: "usage", summary: "A policy cannot be asked about this image name." },
  ERR_POLICY_MATERIAL: { category: "integrity", summary: "A key or certificate that a policy names cannot be read." },
  ERR_POLICY_REJECTED: { category: "integrity", summary: "The signature policy does not allow the image." },
  ERR_SIGNATURE_MISSING: { category: "integrity", summary: "An image has no signature." },
  ERR_SIGNATURE_REJECTED: { category: "integrity", summary: "An image has signatures, and none of them counts." },
  ERR_SIGNATURE_MALFORMED: { category: "integrity", summary: "A signature, its payload or its bundle is malformed." },
  ERR_SIGNATURE_LIMIT: {
    category: "integrity",
    summary: "An image carries more signatures than are examined, and none of those examined counts.",
  },
  ERR_SEAL_ATTESTATION_AMBIGUOUS: { category: "integrity", summary: "Good statements of what a sealed image was made from disagree." },
  ERR_SEAL_ATTESTATION_UNVERIFIABLE: {
    category: "usage",
    summary: "A seal attestation is demanded, and the policy names nobody who could have made it.",
  },
  ERR_SEAL_PLAINTEXT_MISMATCH: { category: "integrity", summary: "Decrypting gave something else than what was attested." },
  ERR_SIGNATURE_NOT_KEPT: { category: "unavailable", summary: "A signature was written, and other writers removed it each time." },
} as const satisfies ErrorTable;

export type SigningErrorCode = keyof typeof signingErrors;

/** What signing and verifying throw on purpose. */
export class SigningError extends ToolError<SigningErrorCode> {
  constructor(code: SigningErrorCode, facts: ErrorFacts) {
    super(code, signingErrors[code].category, facts);
  }
}
