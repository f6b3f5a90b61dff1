import { verifySample } from "../../attestation/index.ts";
import { encodeBase64 } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { EvidenceClaims, EvidenceRequest, EvidenceVerifier } from "../protocol/evidence.ts";

/**
 * Judges the evidence of the sample TEE, which anybody can write: it proves that a client speaks the protocol, and
 * nothing about where it runs.
 */
export function sampleVerifier(): EvidenceVerifier {
  return { tees: ["sample", "sampledevice"], verify: (request) => Promise.resolve(claimsOf(request)) };
}

function claimsOf({ tee, evidence, reportData, initDataDigest }: EvidenceRequest): EvidenceClaims {
  if (tee !== "sample" && tee !== "sampledevice") throw new KbsError("ERR_KBS_EVIDENCE_INVALID", { message: `${tee} is not a sample TEE` });
  const result = verifySample({ tee, evidence, reportData, initData: initDataDigest });
  if (result.verdict === "reject") {
    throw new KbsError("ERR_KBS_EVIDENCE_INVALID", { message: result.findings.map(({ message }) => message).join("; ") });
  }
  return {
    claims: result.claims,
    reportData: encodeBase64(result.reportData),
    ...(result.initData === undefined ? {} : { initData: result.initData.toString("hex") }),
  };
}
