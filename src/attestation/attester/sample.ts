import { decodeBase64, encodeBase64, equalBytes } from "../../bytes/index.ts";
import { Refusal } from "../errors.ts";
import type { Finding } from "../findings.ts";
import type { VerificationResult } from "../result.ts";
import type { Attester } from "./attester.ts";

/** Longest base64 text of report data that is looked at; the protocol needs 64. */
const maxReportDataText = 1024;

/**
 * The sample TEE of development: evidence that anybody can write. It stands for a TEE where there is none, and every
 * result that it leads to says so. Source: confidential-containers guest-components, attester/src/sample.
 */
export function sampleAttester(tee: "sample" | "sampledevice" = "sample"): Attester {
  return {
    tee,
    collect: (reportData) => Promise.resolve({ svn: svnOf[tee], report_data: encodeBase64(reportData) }),
  };
}

const svnOf = { sample: "1", sampledevice: "2" } as const;

/** What to check sample evidence against. */
export interface SampleRequest {
  readonly tee: "sample" | "sampledevice";
  /** The evidence as RCAR carries it: `{"svn","report_data"}`. */
  readonly evidence: unknown;
  /** The bytes that the evidence must bind, unpadded. */
  readonly reportData: Uint8Array;
  /** Digest of the init-data that the client sent, if any. The sample TEE cannot bind it: it is only reported. */
  readonly initData?: Uint8Array | undefined;
}

/**
 * Checks sample evidence: its form, and that it binds the expected bytes. The result carries the finding
 * `SAMPLE_EVIDENCE` as a warning: the caller decides whether development evidence is welcome at all.
 */
export function verifySample(request: SampleRequest): VerificationResult {
  try {
    return check(request);
  } catch (error) {
    if (error instanceof Refusal) {
      return { verdict: "reject", tee: request.tee, tcbStatus: undefined, advisoryIds: [], findings: [error.finding] };
    }
    throw error;
  }
}

function check({ tee, evidence, reportData, initData }: SampleRequest): VerificationResult {
  const { svn, bound } = parseSample(evidence);
  if (!equalBytes(bound, reportData)) {
    throw refuse("REPORT_DATA_MISMATCH", "evidence.report_data", "the sample evidence binds other report data than expected");
  }
  return {
    verdict: "accept",
    tee,
    tcbStatus: undefined,
    advisoryIds: [],
    claims: { svn, launch_digest: "abcde", platform_version: { major: 1, minor: 4 }, debug: false, secureBoot: null },
    reportData: bound,
    initData: initData === undefined ? undefined : Buffer.from(initData),
    checked: { reportData: true, initData: false },
    detail: { kind: "sample" },
    findings: [
      {
        code: "SAMPLE_EVIDENCE",
        severity: "warning",
        path: "evidence",
        message: "the evidence is of the sample TEE: anybody can write it, it proves nothing",
        hint: "use it in development only",
      },
    ],
  };
}

function parseSample(evidence: unknown): { readonly svn: string; readonly bound: Buffer } {
  if (typeof evidence !== "object" || evidence === null || Array.isArray(evidence)) {
    throw refuse("EVIDENCE_MALFORMED", "evidence", "sample evidence is not a JSON object");
  }
  const record = evidence as Readonly<Record<string, unknown>>;
  const svn = record["svn"];
  const text = record["report_data"];
  if (typeof svn !== "string" || svn.length > 64) throw refuse("EVIDENCE_MALFORMED", "evidence.svn", "sample evidence has no svn text");
  if (typeof text !== "string" || text.length > maxReportDataText) {
    throw refuse("EVIDENCE_MALFORMED", "evidence.report_data", "sample evidence has no report_data text");
  }
  try {
    return { svn, bound: decodeBase64(text, "report_data") };
  } catch {
    throw refuse("EVIDENCE_MALFORMED", "evidence.report_data", "report_data of the sample evidence is not base64");
  }
}

function refuse(code: Finding["code"], path: string, message: string): Refusal {
  return new Refusal({ code, severity: "refusal", path, message });
}
