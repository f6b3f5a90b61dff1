import type { TeeName } from "./tee-names.ts";

/** Evidence of one device, with what it must bind. */
export interface EvidenceRequest {
  readonly tee: TeeName;
  /** Parsed JSON of foreign origin. */
  readonly evidence: unknown;
  /** The 48 bytes of the runtime-data digest; the verifier fits them to the field of its TEE and compares. */
  readonly reportData: Uint8Array;
  /** Digest of the init-data document, where the guest sent one; the verifier fits it to its field and compares. */
  readonly initDataDigest?: Uint8Array | undefined;
  readonly now: Date;
  readonly signal?: AbortSignal | undefined;
}

/** What verified evidence says. */
export interface EvidenceClaims {
  /** The claims under Trustee's names; they appear in the token under the TEE's name. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** The report data field as the verifier shows it (hex, for the sample TEE base64). */
  readonly reportData: string;
  /** The init-data field in hex, where the TEE has one. */
  readonly initData?: string | undefined;
}

/**
 * Verifies evidence of some TEEs: authenticity and freshness, not whether its measurements are welcome.
 *
 * Throws a `ToolError` of category `attestation` when the evidence is refused, of category `unavailable` when it could
 * not be judged now (collateral away). Anything else that it throws counts as a defect.
 */
export interface EvidenceVerifier {
  readonly tees: readonly TeeName[];
  verify(request: EvidenceRequest): Promise<EvidenceClaims>;
}
