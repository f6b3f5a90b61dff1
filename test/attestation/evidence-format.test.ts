import { describe, expect, it } from "vitest";
import { parseTrustRoots, recogniseEvidence, verifyEvidence, type VerifyRequest } from "../../src/attestation/index.ts";
import { dcapPki, intelCollateral, makeQuote, now, uint32 } from "./generator/dcap.ts";
import { amdPki, makeReport } from "./generator/snp.ts";

const unchecked = { kind: "unchecked", reason: "the test has no challenge" } as const;
const pki = dcapPki();
const quote = makeQuote(pki);
const report = makeReport();
const amd = amdPki();
const base = {
  at: now,
  reportData: unchecked,
  initData: unchecked,
  intel: intelCollateral(pki),
  endorsements: amd,
  roots: parseTrustRoots([pki.root.der, amd.ark]),
} as const;
const verify = (evidence: VerifyRequest["evidence"], more: Partial<VerifyRequest> = {}) => verifyEvidence({ ...base, evidence, ...more });
const codes = (evidence: VerifyRequest["evidence"], more: Partial<VerifyRequest> = {}) =>
  verify(evidence, more).findings.map(({ code }) => code);

/** Azure's wrapper around a hardware report. */
function hcl(type: number, inner: Buffer): Buffer {
  const bytes = Buffer.alloc(1236);
  bytes.write("HCLA", 0, "latin1");
  bytes.set(inner.subarray(0, 1184), 32);
  bytes.writeUInt32LE(type, 1224);
  return Buffer.concat([bytes, Buffer.from("{}")]);
}

describe("a file of evidence", () => {
  it.each([
    ["raw", quote, "tdx"],
    ["hex", Buffer.from(quote.toString("hex")), "tdx"],
    ["hex with 0x and a newline", Buffer.from(`0x${quote.toString("hex").toUpperCase()}\n`), "tdx"],
    ["base64 with line breaks", Buffer.from(quote.toString("base64").replaceAll(/(.{64})/g, "$1\n")), "tdx"],
    ["the JSON of RCAR", Buffer.from(JSON.stringify({ quote: quote.toString("base64"), cc_eventlog: null })), "tdx"],
    ["a raw report", report, "snp"],
    ["a report in hex", Buffer.from(report.toString("hex")), "snp"],
    ["a report in JSON", Buffer.from(JSON.stringify({ attestation_report: report.toString("base64"), cert_chain: null })), "snp"],
    ["Azure's wrapper", hcl(2, report), "snp"],
    [
      "what the command line prints",
      Buffer.from(JSON.stringify({ tee: "tdx", evidence: { quote: quote.toString("base64"), cc_eventlog: null } })),
      "tdx",
    ],
  ])("is recognised as %s", (_what, file, tee) => {
    expect(verify(file)).toMatchObject({ verdict: "accept", tee });
  });

  it("is refused when it is none, and called unrecognised by those who only ask", () => {
    for (const file of [
      Buffer.alloc(0),
      Buffer.from("hello"),
      Buffer.alloc(100, 9),
      Buffer.from("{}"),
      Buffer.from('{"quote":4}'),
      Buffer.from("[1]"),
    ]) {
      expect(verify(file)).toMatchObject({ verdict: "reject" });
    }
    expect(() => recogniseEvidence(Buffer.from("hello"))).toThrow(expect.objectContaining({ code: "ERR_EVIDENCE_UNRECOGNISED" }) as Error);
    expect(codes(Buffer.alloc(9 * 1024 * 1024))).toContain("EVIDENCE_MALFORMED");
    expect(codes(Buffer.from("hello"), { tee: "tdx" })).toContain("EVIDENCE_MALFORMED");
  });

  it("is refused when it is of another TEE than expected, or of none that is known", () => {
    expect(codes(quote, { tee: "snp" })).toContain("EVIDENCE_UNKNOWN_TEE");
    expect(codes(hcl(4, report))).toContain("EVIDENCE_UNKNOWN_TEE");
    expect(codes(hcl(9, report))).toContain("EVIDENCE_UNKNOWN_TEE");
    expect(codes({ json: { tpm_quote: {} } })).toContain("EVIDENCE_UNKNOWN_TEE");
    expect(codes({ json: { tee: "sample", evidence: { svn: "1", report_data: "" } } })).toContain("EVIDENCE_UNKNOWN_TEE");
    const unknown = Buffer.from(quote);
    unknown.set(uint32(0x82), 4);
    expect(codes(unknown)).toContain("EVIDENCE_UNKNOWN_TEE");
  });

  it("says aloud when nobody compared report data, and why", () => {
    expect(verify(quote).findings).toContainEqual(
      expect.objectContaining({
        code: "REPORT_DATA_UNCHECKED",
        severity: "warning",
        message: expect.stringContaining("the test has no challenge") as unknown,
      }),
    );
  });

  it("whose QE report is not signed by the PCK is refused", () => {
    const at = 48 + 584 + 4 + 128 + 6 + 384;
    const bent = Buffer.from(quote);
    bent[at + 10] = (bent[at + 10] ?? 0) ^ 1;
    expect(codes(bent)).toContain("QE_REPORT_SIGNATURE_INVALID");
  });
});
