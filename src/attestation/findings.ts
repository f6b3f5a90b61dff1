/** How much a finding weighs: a refusal decides, a warning is said aloud, a note explains. */
export type FindingSeverity = "refusal" | "warning" | "note";

/** One thing that verification or appraisal found. */
export interface Finding {
  /** Stable for ever; see {@link findingCodes}. */
  readonly code: FindingCode;
  readonly severity: FindingSeverity;
  /** Where: a dotted path into evidence (`quote.body.mrSignerSeam`), collateral (`collateral.pckCrl`) or policy (`policy.snp.vmpl`). */
  readonly path: string;
  /** What was found, for people; not stable. */
  readonly message: string;
  readonly expected?: string | undefined;
  readonly actual?: string | undefined;
  /** The next thing to do, or what would satisfy the check. */
  readonly hint?: string | undefined;
}

/** Every finding code with one sentence for the catalogue. */
export const findingCodes = {
  // Shape of what was handed over
  EVIDENCE_MALFORMED: "The evidence is not of the form that its kind has: length, magic, version or nesting.",
  EVIDENCE_UNKNOWN_TEE: "The evidence is of a TEE that is not known or not expected here.",
  EVIDENCE_TRAILING_DATA: "Bytes that are not zero padding follow the end of the evidence.",
  EVIDENCE_RESERVED_NOT_ZERO: "A reserved field of the evidence is not zero.",
  EVIDENCE_VERSION_UNKNOWN: "The evidence has a version that this verifier does not know.",
  SAMPLE_EVIDENCE: "The evidence is of the sample TEE, which proves nothing.",
  // What the caller expected of this evidence
  REPORT_DATA_MISMATCH: "The evidence binds other report data than expected: another key, nonce or statement.",
  REPORT_DATA_UNCHECKED: "Nobody said which report data to expect, so the evidence may have been made for somebody else.",
  INIT_DATA_MISMATCH: "The guest was started with other init-data than expected.",
  TRUST_ROOT_SUPPLIED: "The chain ends at a root that the caller supplied, not at the vendor's.",
  TRUST_ROOT_UNKNOWN: "The chain does not end at a trusted root.",
  // Encodings
  DER_MALFORMED: "A certificate or list is not strict DER, or lacks a required part.",
  DER_TRAILING_DATA: "Bytes follow the end of a DER value.",
  PEM_MALFORMED: "A PEM text is malformed or holds something else than certificates.",
  EXTENSION_DUPLICATE: "An extension occurs twice.",
  EXTENSION_CRITICAL_UNKNOWN: "A critical or vendor extension is not understood.",
  // Certificates and lists
  CERTIFICATE_MISSING: "A certificate is missing or empty.",
  CERTIFICATE_CHAIN_MALFORMED: "A chain has the wrong length or order, or a link is not issued by the next.",
  CERTIFICATE_ROLE_WRONG: "A certificate has another role than its place in the chain needs.",
  CERTIFICATE_EXPIRED: "A certificate has expired.",
  CERTIFICATE_NOT_YET_VALID: "A certificate is not valid yet.",
  CERTIFICATE_REVOKED: "A certificate authority or signer is revoked.",
  KEY_UNUSABLE: "A public key is of the wrong kind or not a point on its curve.",
  SIGNATURE_ALGORITHM_UNEXPECTED: "A signature algorithm or its parameters are not exactly the vendor's.",
  SIGNATURE_INVALID: "A signature on a certificate, list or document is wrong.",
  CRL_MISSING: "A revocation list is missing.",
  CRL_EMPTY: "A revocation list is empty.",
  CRL_EXPIRED: "A revocation list has expired.",
  CRL_FROM_THE_FUTURE: "A revocation list was issued after the time of verification.",
  CRL_WRONG_ISSUER: "A revocation list is of another issuer.",
  // Intel collateral
  COLLATERAL_MALFORMED: "A collateral document is malformed.",
  COLLATERAL_VERSION_UNKNOWN: "A collateral document has an unknown version or comparison type.",
  COLLATERAL_UNSIGNED: "A collateral document carries no signature.",
  TCB_INFO_MISSING: "The TCB info is missing.",
  TCB_INFO_EXPIRED: "The TCB info has expired.",
  TCB_INFO_FROM_THE_FUTURE: "The TCB info was issued after the time of verification.",
  TCB_INFO_MISMATCH: "The TCB info is for another platform or TEE.",
  QE_IDENTITY_MISSING: "The QE identity is missing.",
  QE_IDENTITY_EXPIRED: "The QE identity has expired.",
  QE_IDENTITY_FROM_THE_FUTURE: "The QE identity was issued after the time of verification.",
  QE_IDENTITY_MISMATCH: "The quoting enclave is not the one that Intel describes.",
  // Quotes
  QUOTE_KEY_TYPE_UNKNOWN: "The attestation key is of an unknown type.",
  QUOTE_VENDOR_UNKNOWN: "The quoting enclave is of an unknown vendor.",
  QUOTE_CERTIFICATION_UNKNOWN: "The certification data has an unknown type.",
  QUOTE_SIGNATURE_INVALID: "The quote is not signed by its attestation key.",
  QE_REPORT_SIGNATURE_INVALID: "The quoting enclave's report is not signed by the PCK.",
  QE_REPORT_DATA_MISMATCH: "The quoting enclave does not vouch for the attestation key.",
  PCK_MISSING: "The quote carries no PCK certificate and the collateral has none for it.",
  PCK_REVOKED: "The platform's PCK certificate is revoked.",
  TDX_MODULE_FOREIGN: "The TDX module is not signed by Intel.",
  TDX_MODULE_ATTRIBUTES: "The TDX module runs with attributes that production modules do not have.",
  TDX_MODULE_UNKNOWN: "The collateral does not know the TDX module.",
  TCB_NOT_SUPPORTED: "The platform, module or quoting enclave reaches no level that Intel lists.",
  TCB_REVOKED: "Intel has revoked the TCB.",
  TCB_STATUS_UNKNOWN: "The collateral uses an unknown status word.",
  // SNP
  VEK_MISSING: "The endorsement key certificate (VCEK or VLEK) is missing.",
  REPORT_SIGNATURE_INVALID: "The report is not signed by its endorsement key.",
  SNP_PRODUCT_UNKNOWN: "The processor or product line is unknown, or has no public certificates.",
  SNP_PRODUCT_MISMATCH: "Report and endorsement key are of different products.",
  SNP_SIGNING_KEY_MISMATCH: "The report says that another kind of key signed it, or none.",
  SNP_CHIP_ID_MISMATCH: "The report is of another chip than the VCEK.",
  SNP_CHIP_ID_MASKED: "The chip id is masked, so nothing ties the report to a chip.",
  SNP_TCB_MISMATCH: "The endorsement key was issued for another TCB than the report states.",
  SNP_TCB_IMPLAUSIBLE: "The TCB versions of the report contradict each other.",
  SNP_FIRMWARE_PROVISIONAL: "The platform runs firmware that can still be rolled back.",
  // Event logs
  EVENT_LOG_MALFORMED: "The event log is malformed.",
  EVENT_LOG_MISMATCH: "The event log does not lead to the registers of the quote.",
  // Policy
  POLICY_TEE_NOT_ALLOWED: "The policy has no rules for this TEE.",
  POLICY_TCB_STATUS: "The TCB status is not one that the policy allows.",
  POLICY_TCB_DATE: "The TCB is older than the policy allows.",
  POLICY_TCB_MINIMUM: "A security version is below the policy's minimum.",
  POLICY_ADVISORY: "A security advisory applies that the policy does not allow.",
  POLICY_MEASUREMENT: "A measurement is not one that the policy allows.",
  POLICY_SIGNER: "The signer or identity key of the guest is not one that the policy allows.",
  POLICY_IMAGE: "The image that the guest measured is not one that the policy allows.",
  POLICY_DEBUG: "The guest can be debugged by its host.",
  POLICY_MIGRATION: "The guest can be migrated by somebody else than its owner.",
  POLICY_ATTRIBUTES: "Attributes or features of the guest are not as the policy wants them.",
  POLICY_SERVICE_TD: "A service TD is bound to the guest that the policy does not allow.",
  POLICY_EVENT_LOG_MISSING: "The policy needs an event log and there is none.",
  POLICY_EVENT_MISSING: "The event log lacks an event that the policy asks for.",
  POLICY_EVENT_UNLISTED: "The event log holds an event that no rule lists, in a register where only listed ones may occur.",
  POLICY_SECURE_BOOT: "Secure boot is not proved.",
  POLICY_REPORT_DATA: "The policy wants report data compared, and nobody said what to expect.",
  POLICY_INIT_DATA: "The init-data is not one that the policy allows.",
  POLICY_HOST: "The host is not one that the policy allows.",
  POLICY_COLLATERAL_AGE: "The collateral was issued longer ago than the policy allows.",
  POLICY_COLLATERAL_NUMBER: "The TCB evaluation data number is below the policy's minimum.",
  POLICY_REVOCATION: "The policy wants revocation checked, and no list was given.",
  POLICY_VMPL: "The report was made at a privilege level that the policy does not allow.",
  POLICY_PRODUCT: "The product is not one that the policy allows.",
  POLICY_FIRMWARE: "The platform firmware is not as the policy wants it.",
  POLICY_GUEST: "The guest's launch policy is not as the policy wants it.",
  POLICY_PLATFORM: "The platform is not configured as the policy wants it.",
  POLICY_MITIGATIONS: "A mitigation that the policy wants is not active.",
  POLICY_UNCHECKED: "The policy says that something is deliberately not looked at.",
  POLICY_NO_MEASUREMENT: "The policy compares no measurement, so it does not say which guest this is.",
  POLICY_NO_MINIMUM_TCB: "The policy gives no minimum TCB, and AMD publishes no verdict of its own.",
  POLICY_NOT_ENFORCED: "The policy asks for something that attestation cannot enforce.",
  POLICY_UNSATISFIABLE: "No evidence can satisfy the policy.",
  // Certificate tables
  CERT_TABLE_MALFORMED: "The certificate table from the host is malformed.",
} as const satisfies Readonly<Record<string, string>>;

export type FindingCode = keyof typeof findingCodes;
