import { decodeBase64, equalBytes } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { EvidenceClaims, EvidenceRequest, EvidenceVerifier } from "../protocol/evidence.ts";
import { isObject } from "../protocol/shape.ts";

/**
 * Judges the evidence of the sample TEE, which anybody can write: it proves that a client speaks the protocol, and
 * nothing about where it runs. Source: Trustee, deps/verifier/src/sample.
 */
export function sampleVerifier(): EvidenceVerifier {
  return { tees: ["sample", "sampledevice"], verify: (request) => Promise.resolve(verifySample(request)) };
}

function verifySample(request: EvidenceRequest): EvidenceClaims {
  // Protocol 0.2.0 and older wrapped it into a text.
  const { evidence } = request;
  if (!isObject(evidence) || typeof evidence["svn"] !== "string" || typeof evidence["report_data"] !== "string") {
    throw invalid("is not of the form {svn, report_data}");
  }
  let reportData: Buffer;
  try {
    reportData = decodeBase64(evidence["report_data"], "report_data");
  } catch (cause) {
    throw invalid("has a report_data that is not base64", cause);
  }
  if (!equalBytes(reportData, request.reportData)) throw invalid("does not bind this handshake's nonce and key (report_data differs)");
  const common = { svn: evidence["svn"], debug: false };
  return {
    claims: request.tee === "sample" ? { ...common, launch_digest: "abcde", platform_version: { major: 1, minor: 4 } } : common,
    reportData: evidence["report_data"],
    ...(request.initDataDigest === undefined ? {} : { initData: Buffer.from(request.initDataDigest).toString("hex") }),
  };
}

function invalid(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_EVIDENCE_INVALID", { message: `the sample evidence ${what}`, cause });
}
