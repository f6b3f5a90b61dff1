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
} as const satisfies Readonly<Record<string, string>>;

export type FindingCode = keyof typeof findingCodes;
