import { describe, expect, it } from "vitest";
import { parseTrustRoots, verifyEvidence, type VerificationResult, type VerifyRequest } from "../../src/attestation/index.ts";
import type { AmdEndorsements } from "../../src/attestation/amd/chain.ts";
import { parseCertTable } from "../../src/attestation/amd/cert-table.ts";
import { parseSnpReport } from "../../src/attestation/amd/report.ts";
import { reportToParsedJson } from "../../src/attestation/amd/report-json.ts";
import { now } from "./generator/dcap.ts";
import { ia5, integer, sequence } from "./generator/der.ts";
import { ecKey, pem, pkcs1Sha384, pssSha256, type ExtensionSpec } from "./generator/pki.ts";
import { amdPki, askKey, makeReport, type Product, type ReportOptions, type SnpOptions } from "./generator/snp.ts";

const unchecked = { kind: "unchecked", reason: "not of interest here" } as const;
const milan = amdPki();

function verify(report: Uint8Array, endorsements: AmdEndorsements, overrides: Partial<VerifyRequest> = {}): VerificationResult {
  const roots = parseTrustRoots([endorsements.ark ?? milan.ark]);
  return verifyEvidence({ evidence: report, at: now, reportData: unchecked, initData: unchecked, endorsements, roots, ...overrides });
}

const refusals = (result: VerificationResult) => result.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => code);

describe("an SNP report", () => {
  const products: readonly Product[] = ["Milan", "Genoa", "Turin"];
  it.each(products.flatMap((product) => ([2, 3, 4, 5] as const).map((version) => [product, version] as const)))(
    "of %s, version %i, verifies",
    (product, version) => {
      const result = verify(makeReport({ product, version }), amdPki({ product }));
      expect(refusals(result)).toEqual([]);
      expect(result).toMatchObject({ verdict: "accept", claims: { product, version, debug: false } });
    },
  );

  it("signed by a VLEK verifies, and takes its own intermediate", () => {
    const pki = amdPki({ kind: "VLEK" });
    expect(verify(makeReport({ kind: "VLEK" }), pki)).toMatchObject({
      verdict: "accept",
      claims: { csp_id: "CN=cc-test.example", chip_id_masked: true },
    });
    expect(refusals(verify(makeReport({ kind: "VLEK" }), { ...pki, ask: milan.ask }))).toContain("CERTIFICATE_ROLE_WRONG");
  });

  it("takes certificates and lists in PEM, and AMD's chain file as it is served", () => {
    const crl = `-----BEGIN X509 CRL-----\n${milan.crl.toString("base64")}\n-----END X509 CRL-----\n`;
    const text = {
      vek: Buffer.from(pem(milan.vek)),
      ask: Buffer.from(pem(milan.ask, milan.ark)),
      ark: Buffer.from(pem(milan.ark)),
      crl: Buffer.from(crl),
    };
    const roots = parseTrustRoots([milan.ark]);
    expect(refusals(verify(makeReport(), text, { roots }))).toEqual([]);
    expect(refusals(verify(makeReport(), { ...text, vek: Buffer.from(pem(milan.vek, milan.ask)) }, { roots }))).toEqual([
      "CERTIFICATE_CHAIN_MALFORMED",
    ]);
    expect(refusals(verify(makeReport(), { ...text, ask: Buffer.from(pem(milan.ark, milan.ask)) }, { roots }))).toEqual([
      "CERTIFICATE_ROLE_WRONG",
    ]);
    expect(refusals(verify(makeReport(), { ...text, crl: Buffer.from(pem(milan.ask)) }, { roots }))).toEqual(["PEM_MALFORMED"]);
  });

  it("takes a hardware id in an OCTET STRING", () => {
    expect(verify(makeReport(), amdPki({ hwidForm: "octets" }))).toMatchObject({ verdict: "accept" });
    expect(verify(makeReport({ product: "Turin" }), amdPki({ product: "Turin", hwidForm: "octets" }))).toMatchObject({ verdict: "accept" });
  });

  it("is understood in the parsed JSON of guest-components, with its certificates", () => {
    const report = makeReport({ product: "Turin", version: 5, change: (bytes) => void bytes.writeBigUInt64LE(3n, 0x1f8) });
    const { ask, ark, vek, crl } = amdPki({ product: "Turin" });
    const json = {
      attestation_report: reportToParsedJson(parseSnpReport(report), "Turin"),
      cert_chain: [
        { cert_type: "VCEK", data: [...vek] },
        { cert_type: "ASK", data: [...ask] },
        { cert_type: "CRL", data: [...crl] },
        { cert_type: { OTHER: "…" }, data: [1] },
      ],
    };
    const request = { at: now, reportData: unchecked, initData: unchecked, roots: parseTrustRoots([ark]) };
    expect(verifyEvidence({ ...request, evidence: { json: JSON.parse(JSON.stringify(json)) as unknown } })).toMatchObject({
      verdict: "accept",
    });
    expect(verifyEvidence({ ...request, evidence: { json: { ...json, attestation_report: report.toString("base64") } } })).toMatchObject({
      verdict: "accept",
    });
    const bent = { ...json, attestation_report: { ...json.attestation_report, guest_svn: 1 } };
    expect(refusals(verifyEvidence({ ...request, evidence: { json: bent } }))).toEqual(["REPORT_SIGNATURE_INVALID"]);
  });

  it("warns when nobody gave a revocation list", () => {
    const result = verify(makeReport(), { ...milan, crl: undefined });
    expect(result).toMatchObject({ verdict: "accept", claims: { revocation_checked: false } });
    expect(result.findings.map(({ code }) => code)).toContain("CRL_MISSING");
  });

  it("notes provisional firmware", () => {
    const result = verify(makeReport({ change: (report) => void (report[0x1e0] = 3) }), milan);
    expect(result.findings.map(({ code }) => code)).toContain("SNP_FIRMWARE_PROVISIONAL");
    expect(result).toMatchObject({ verdict: "accept", claims: { provisional_firmware: true } });
  });

  it("leaves a masked chip id to the policy only when told so", () => {
    const masked = makeReport({ change: (report) => void report.fill(0, 0x1a0, 0x1e0) });
    expect(refusals(verify(masked, milan))).toEqual(["SNP_CHIP_ID_MASKED"]);
    expect(verify(masked, milan, { maskedChipId: "leave-to-policy" })).toMatchObject({
      verdict: "accept",
      claims: { chip_id_masked: true },
    });
  });
});

describe("bad reports, each with its own finding", () => {
  const set = (at: number, value: number) => (report: Buffer) => void (report[at] = value);
  const rows: readonly (readonly [string, string, ReportOptions | ((report: Buffer) => Buffer)])[] = [
    ["one byte short", "EVIDENCE_MALFORMED", (report) => report.subarray(0, -1)],
    ["one byte long", "EVIDENCE_TRAILING_DATA", (report) => Buffer.concat([report, Buffer.alloc(1)])],
    ["version 1", "EVIDENCE_VERSION_UNKNOWN", { change: set(0, 1) }],
    ["version 6", "EVIDENCE_VERSION_UNKNOWN", { change: set(0, 6) }],
    ["VMPL 4", "EVIDENCE_MALFORMED", { change: set(0x30, 4) }],
    ["an unknown signature algorithm", "EVIDENCE_MALFORMED", { change: set(0x34, 2) }],
    ["policy bit 17 clear", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(10, 1) }],
    ["policy bit 26 set", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(11, 4) }],
    ["a reserved byte", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(0x208, 1) }],
    ["mitigations before version 5", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(0x1f8, 1) }],
    ["a CPUID in version 2", "EVIDENCE_RESERVED_NOT_ZERO", { version: 2, change: set(0x188, 0x19) }],
    ["reserved key information", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(0x48, 0x20) }],
    ["an unknown signing key", "EVIDENCE_MALFORMED", { change: set(0x48, 2 << 2) }],
    ["a reserved byte of the TCB", "EVIDENCE_RESERVED_NOT_ZERO", { change: set(0x182, 1) }],
    ["an unknown processor", "SNP_PRODUCT_UNKNOWN", { change: set(0x188, 0x20) }],
    ["a processor without public certificates", "SNP_PRODUCT_UNKNOWN", { change: (report) => report.set([0x1a, 0x50], 0x188) }],
    ["another product than the key's", "SNP_PRODUCT_MISMATCH", { change: set(0x189, 0x11) }],
    ["no signing key", "SNP_SIGNING_KEY_MISMATCH", { change: set(0x48, 7 << 2) }],
    ["another kind of signing key", "SNP_SIGNING_KEY_MISMATCH", { change: set(0x48, 1 << 2) }],
    ["another chip", "SNP_CHIP_ID_MISMATCH", { change: set(0x1a0, 0) }],
    ["another reported TCB than the key's", "SNP_TCB_MISMATCH", { change: set(0x187, 200) }],
    ["a reported TCB above the current one", "SNP_TCB_IMPLAUSIBLE", { change: set(0x3f, 200) }],
    ["a committed TCB above the current one", "SNP_TCB_IMPLAUSIBLE", { change: set(0x1e7, 250) }],
    [
      "Turin's chip id in a version 2 report of Milan",
      "SNP_PRODUCT_MISMATCH",
      { version: 2, change: (report) => void report.fill(0, 0x1a8, 0x1e0) },
    ],
    ["a measurement changed after signing", "REPORT_SIGNATURE_INVALID", (report) => ((report[0x90] = 0), report)],
    ["a signature component above 48 bytes", "EVIDENCE_MALFORMED", (report) => ((report[0x2a0 + 48] = 1), report)],
    ["bytes behind the signature", "EVIDENCE_RESERVED_NOT_ZERO", (report) => ((report[1183] = 1), report)],
    ["a zero signature", "REPORT_SIGNATURE_INVALID", (report) => report.fill(0, 0x2a0)],
  ];
  it.each(rows)("%s: %s", (_what, code, change) => {
    const report = typeof change === "function" ? change(makeReport()) : makeReport(change);
    expect(refusals(verify(report, milan, { evidence: report, tee: "snp" }))).toContain(code);
  });
});

describe("bad endorsements, each with its own finding", () => {
  const arc = "1.3.6.1.4.1.3704.1";
  const replaceExtension = (oid: string, value: Buffer | undefined) => (extensions: readonly ExtensionSpec[]) =>
    value === undefined
      ? extensions.filter((item) => item.oid !== oid)
      : extensions.map((item) => (item.oid === oid ? { ...item, value } : item));
  const stranger = ecKey("P-384");
  const rows: readonly (readonly [string, string, SnpOptions])[] = [
    ["an expired VCEK", "CERTIFICATE_EXPIRED", { vek: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["a VCEK of the future", "CERTIFICATE_NOT_YET_VALID", { vek: { notBefore: new Date("2027-07-01T00:00:00Z") } }],
    ["an expired ASK", "CERTIFICATE_EXPIRED", { ask: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["an expired ARK", "CERTIFICATE_EXPIRED", { ark: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["an ASK that is no CA", "CERTIFICATE_ROLE_WRONG", { ask: { ca: false } }],
    ["a VCEK that is a CA", "CERTIFICATE_ROLE_WRONG", { vek: { ca: true } }],
    ["a VCEK of another name", "CERTIFICATE_ROLE_WRONG", { vek: { subject: "SEV-Milan" } }],
    ["an ASK signed by itself", "SIGNATURE_INVALID", { ask: { issuer: { subject: "ARK-Milan", key: askKey() } } }],
    ["a VCEK chain with PKCS#1 v1.5", "SIGNATURE_ALGORITHM_UNEXPECTED", { vek: { algorithm: pkcs1Sha384 } }],
    ["a VCEK chain with PSS and SHA-256", "SIGNATURE_ALGORITHM_UNEXPECTED", { vek: { algorithm: pssSha256 } }],
    ["an ASK with PKCS#1 v1.5", "SIGNATURE_ALGORITHM_UNEXPECTED", { ask: { algorithm: pkcs1Sha384 } }],
    ["a VCEK on another curve", "KEY_UNUSABLE", { vek: { key: ecKey("P-256") } }],
    ["a VCEK without a hardware id", "CERTIFICATE_ROLE_WRONG", { vekExtensions: replaceExtension(`${arc}.4`, undefined) }],
    [
      "a VCEK with a CSP id",
      "CERTIFICATE_ROLE_WRONG",
      { vekExtensions: (extensions) => [...extensions, { oid: `${arc}.5`, value: ia5("CN=x") }] },
    ],
    ["a hardware id of another length", "DER_MALFORMED", { vekExtensions: replaceExtension(`${arc}.4`, Buffer.alloc(63)) }],
    ["an unknown product", "SNP_PRODUCT_UNKNOWN", { vekExtensions: replaceExtension(`${arc}.2`, ia5("Rome-B0")) }],
    ["a product that only starts like one", "SNP_PRODUCT_UNKNOWN", { vekExtensions: replaceExtension(`${arc}.2`, ia5("Milano")) }],
    ["a missing level", "DER_MALFORMED", { vekExtensions: replaceExtension(`${arc}.3.8`, undefined) }],
    [
      "an FMC level on Milan",
      "DER_MALFORMED",
      { vekExtensions: (extensions) => [...extensions, { oid: `${arc}.3.9`, value: integer(0) }] },
    ],
    ["a reserved level that is not zero", "DER_MALFORMED", { vekExtensions: replaceExtension(`${arc}.3.4`, integer(1)) }],
    [
      "an unknown AMD extension",
      "EXTENSION_CRITICAL_UNKNOWN",
      { vekExtensions: (extensions) => [...extensions, { oid: `${arc}.99`, value: integer(1) }] },
    ],
    [
      "a duplicate extension",
      "EXTENSION_DUPLICATE",
      { vekExtensions: (extensions) => [...extensions, { oid: `${arc}.1`, value: integer(0) }] },
    ],
    [
      "an unknown critical extension",
      "EXTENSION_CRITICAL_UNKNOWN",
      { vekExtensions: (extensions) => [...extensions, { oid: "1.2.3", critical: true, value: sequence() }] },
    ],
    ["a revoked ASK", "CERTIFICATE_REVOKED", { crl: { revoked: [0x10001n] } }],
    ["an expired list", "CRL_EXPIRED", { crl: { nextUpdate: new Date("2027-05-31T00:00:00Z") } }],
    ["a list of the future", "CRL_FROM_THE_FUTURE", { crl: { thisUpdate: new Date("2027-06-02T00:00:00Z") } }],
    ["a list with PKCS#1 v1.5", "SIGNATURE_ALGORITHM_UNEXPECTED", { crl: { algorithm: pkcs1Sha384 } }],
    ["a list of the ASK", "CRL_WRONG_ISSUER", { crl: { issuer: { subject: "SEV-Milan", key: askKey() } } }],
    ["a list signed by the ASK in the ARK's name", "SIGNATURE_INVALID", { crl: { issuer: { subject: "ARK-Milan", key: askKey() } } }],
  ];
  it.each(rows)("%s: %s", (_what, code, options) => {
    expect(refusals(verify(makeReport(), amdPki(options)))).toContain(code);
  });

  it("refuses missing, empty and swapped parts", () => {
    const report = makeReport();
    expect(refusals(verify(report, { ...milan, vek: undefined }))).toEqual(["VEK_MISSING"]);
    expect(refusals(verify(report, { ...milan, ask: undefined }))).toEqual(["CERTIFICATE_MISSING"]);
    expect(refusals(verify(report, { ...milan, crl: Buffer.alloc(0) }))).toEqual(["CRL_EMPTY"]);
    expect(refusals(verify(report, { ...milan, crl: Buffer.from("garbage") }))).toEqual(["DER_MALFORMED"]);
    expect(refusals(verify(report, { ...milan, crl: milan.vek }))).toContain("DER_MALFORMED");
    expect(refusals(verify(report, { ...milan, ask: milan.ark }))).toEqual(["CERTIFICATE_ROLE_WRONG"]);
    expect(refusals(verify(report, { ...milan, vek: milan.ask }))).toEqual(["CERTIFICATE_ROLE_WRONG"]);
    expect(refusals(verify(report, { ...milan, vek: Buffer.concat([milan.vek, Buffer.from([0])]) }))).toEqual(["DER_TRAILING_DATA"]);
    expect(refusals(verify(report, milan, { roots: undefined }))).toEqual(["TRUST_ROOT_UNKNOWN"]);
    expect(refusals(verify(report, milan, { roots: parseTrustRoots([amdPki({ product: "Genoa" }).ark]) }))).toEqual(["TRUST_ROOT_UNKNOWN"]);
    expect(refusals(verify(report, amdPki({ vek: { key: stranger } })))).toEqual(["REPORT_SIGNATURE_INVALID"]);
  });
});

describe("the certificate table", () => {
  const guid = (text: string) => Buffer.from(text.replaceAll("-", ""), "hex");
  const vcek = guid("63da758d-e664-4564-adc5-f4b93be8accd");
  const ask = guid("4ab7b379-bbac-4fe4-a02f-05aef327c782");
  const unknown = guid("ecae0c0f-9502-43b1-afa2-0ae2e0d565b6");
  const table = (...entries: readonly (readonly [Buffer, number, number])[]) =>
    Buffer.concat([
      ...entries.flatMap(([id, offset, length]) => {
        const numbers = Buffer.alloc(8);
        numbers.writeUInt32LE(offset, 0);
        numbers.writeUInt32LE(length, 4);
        return [id, numbers];
      }),
      Buffer.alloc(24),
    ]);

  it("gives certificates in DER, whether the host stored DER or PEM, and skips what it does not know", () => {
    const text = Buffer.from(pem(milan.ask));
    const start = 4 * 24;
    const bytes = Buffer.concat([
      table(
        [vcek, start, milan.vek.length],
        [ask, start + milan.vek.length, text.length],
        [unknown, start + milan.vek.length + text.length, 8],
      ),
      milan.vek,
      text,
      Buffer.alloc(8, 1),
    ]);
    expect(parseCertTable(bytes)).toMatchObject({ vek: milan.vek, ask: milan.ask, ark: undefined, crl: undefined });
    expect(parseCertTable(Buffer.alloc(0)).vek).toBeUndefined();
  });

  it.each([
    ["no end", Buffer.alloc(23)],
    ["an entry inside the header", Buffer.concat([table([vcek, 24, 8]), Buffer.alloc(8)])],
    ["an entry outside the table", Buffer.concat([table([vcek, 48, 9]), Buffer.alloc(8)])],
    ["overlapping entries", Buffer.concat([table([vcek, 72, 8], [ask, 79, 8]), Buffer.alloc(16)])],
    ["an entry twice", Buffer.concat([table([vcek, 72, 8], [vcek, 80, 8]), Buffer.alloc(16, 1)])],
  ])("refuses %s", (_what, bytes) => {
    expect(() => parseCertTable(bytes)).toThrow(
      expect.objectContaining({ finding: expect.objectContaining({ code: "CERT_TABLE_MALFORMED" }) as unknown }) as Error,
    );
  });
});

describe("trust roots", () => {
  it("must be self-signed certificates of the vendors' kinds", () => {
    expect(() => parseTrustRoots([milan.ask])).toThrow("not self-signed");
    expect(() => parseTrustRoots([milan.vek])).toThrow("not a certificate authority");
    expect(() => parseTrustRoots([Buffer.from("x")])).toThrow("cannot be used");
    expect(() => parseTrustRoots([])).toThrow(expect.objectContaining({ code: "ERR_TRUST_ROOT_MALFORMED" }) as Error);
    expect(parseTrustRoots([Buffer.from(pem(milan.ark))]).amd.map(({ product }) => product)).toEqual(["Milan"]);
  });
});
