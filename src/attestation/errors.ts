import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";
import type { Finding } from "./findings.ts";

/** Every code that this room throws. What is wrong with *evidence* is a finding (see `findings.ts`), not a code of its own. */
export const attestationErrors = {
  ERR_EVIDENCE_REFUSED: { category: "attestation", summary: "Attestation evidence was refused; the findings say why." },
  ERR_EVIDENCE_UNRECOGNISED: {
    category: "attestation",
    summary: "A file is neither a TDX or SGX quote, an SNP report, nor a wrapper around one.",
  },
  ERR_REPORT_DATA_LENGTH: { category: "usage", summary: "Report data does not fit the field of the TEE." },
  ERR_RUNTIME_DATA_MALFORMED: { category: "integrity", summary: "Runtime data of the RCAR protocol is malformed or has unknown members." },
  ERR_INIT_DATA_MALFORMED: { category: "integrity", summary: "Init-data is not the TOML document that CoCo guests are started with." },
  ERR_ATTESTER_UNAVAILABLE: { category: "attestation", summary: "No TEE, or no way to ask it for evidence, was found here." },
  ERR_ATTESTER_FAILED: {
    category: "attestation",
    summary: "The TEE, its kernel driver or the attestation agent failed to produce evidence.",
  },
  ERR_ATTESTATION_POLICY_MALFORMED: { category: "usage", summary: "An attestation policy is malformed or has unknown members." },
  ERR_COLLATERAL_MALFORMED: { category: "integrity", summary: "A collateral file is malformed or of unknown form." },
  ERR_COLLATERAL_UNAVAILABLE: { category: "unavailable", summary: "Collateral could not be fetched from the vendor's service." },
  ERR_COLLATERAL_NOT_FOUND: { category: "not-found", summary: "The vendor's service knows no collateral for this platform." },
  ERR_TRUST_ROOT_MALFORMED: { category: "usage", summary: "A trust root is not a self-signed certificate of a kind that TEEs use." },
} as const satisfies ErrorTable;

export class AttestationError extends ToolError<keyof typeof attestationErrors> {
  constructor(code: keyof typeof attestationErrors, facts: ErrorFacts) {
    super(code, attestationErrors[code].category, facts);
  }
}

/**
 * Why one piece of evidence, certificate, list or log cannot be accepted: the only thing that a parser or check in this
 * room throws. The verifying calls catch it and return it among the findings; `error.finding` is for those who call a
 * parser directly.
 */
export class Refusal extends AttestationError {
  readonly finding: Finding;

  constructor(finding: Finding) {
    super("ERR_EVIDENCE_REFUSED", { message: finding.message, hint: finding.hint, details: { findings: [finding] } });
    this.finding = finding;
  }
}
