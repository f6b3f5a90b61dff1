import { createHash, createPublicKey } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseTrustRoots, verifyEvidence, type VerificationResult, type VerifyRequest } from "../../src/attestation/index.ts";
import type { IntelCollateral } from "../../src/attestation/intel/collateral.ts";
import { converge, joinRelaunch } from "../../src/attestation/intel/tcb-status.ts";
import { componentStatuses, platformStatuses } from "../../src/attestation/intel/tcb-info.ts";
import { sequence, integer, octets } from "./generator/der.ts";
import {
  dcapPki,
  intelCollateral,
  makeQuote,
  now,
  qeIdentityJson,
  serials,
  sgxExtension,
  tcbInfoJson,
  window,
  type DcapPki,
  type PkiOptions,
  type QuoteOptions,
  type TcbInfoOptions,
} from "./generator/dcap.ts";
import { certificate, ecKey, pem, revocationList } from "./generator/pki.ts";

const unchecked = { kind: "unchecked", reason: "not of interest here" } as const;
const pki = dcapPki();

function verify(quote: Buffer, intel: IntelCollateral, overrides: Partial<VerifyRequest> = {}, of: DcapPki = pki): VerificationResult {
  return verifyEvidence({
    evidence: quote,
    at: now,
    reportData: unchecked,
    initData: unchecked,
    intel,
    roots: parseTrustRoots([of.root.der]),
    ...overrides,
  });
}

const refusals = (result: VerificationResult) => result.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => code);

describe("a quote", () => {
  it.each(["v4", "v5-td10", "v5-td15", "v5-td15ex"] as const)("of form %s verifies", (form) => {
    expect(verify(makeQuote(pki, { form }), intelCollateral(pki))).toMatchObject({ verdict: "accept", tee: "tdx", tcbStatus: "UpToDate" });
  });

  it.each(["v3", "v4-sgx", "v5-sgx"] as const)("of form %s verifies", (form) => {
    const intel = intelCollateral(pki, { tcbInfo: tcbInfoJson({ tee: "sgx" }), qeIdentity: qeIdentityJson({ tee: "sgx" }) });
    expect(verify(makeQuote(pki, { form }), intel)).toMatchObject({
      verdict: "accept",
      tee: "sgx",
      tcbStatus: "UpToDate",
      claims: { debug: false },
    });
  });

  it("may carry any length of QE authentication data, and zero padding behind it", () => {
    for (const qeAuth of [Buffer.alloc(0), Buffer.alloc(7, 1), Buffer.alloc(1000, 2)]) {
      const quote = makeQuote(pki, { qeAuth, trailing: Buffer.alloc(70) });
      expect(verify(quote, intelCollateral(pki))).toMatchObject({ verdict: "accept", claims: { trailing_bytes: 70 } });
    }
  });

  it("that names its PCK only by PPID verifies with the chain from the collateral, and not without", () => {
    const quote = makeQuote(pki, { certification: { type: 3, data: Buffer.alloc(404) } });
    const chain = pem(pki.pck.der, pki.intermediate.der, pki.root.der);
    expect(verify(quote, { ...intelCollateral(pki), pckChain: chain })).toMatchObject({ verdict: "accept" });
    expect(refusals(verify(quote, intelCollateral(pki)))).toEqual(["PCK_MISSING"]);
  });

  it("binds report data over its whole field", () => {
    const reportData = Buffer.alloc(48, 0x5a);
    const quote = makeQuote(pki, { reportData });
    const check = (value: Uint8Array) => refusals(verify(quote, intelCollateral(pki), { reportData: { kind: "equals", value } }));
    expect(check(reportData)).toEqual([]);
    expect(check(Buffer.concat([reportData, Buffer.alloc(16)]))).toEqual([]);
    for (const other of [
      reportData.subarray(0, 47),
      Buffer.concat([reportData, Buffer.from([1])]),
      Buffer.alloc(65, 0x5a),
      Buffer.alloc(0),
    ]) {
      expect(check(other)).toEqual(["REPORT_DATA_MISMATCH"]);
    }
  });

  it("binds init-data in MRCONFIGID", () => {
    const digest = createHash("sha256").update("init-data").digest();
    const quote = makeQuote(pki, { body: (body) => body.set(digest, 184) });
    const check = (value: Uint8Array) => refusals(verify(quote, intelCollateral(pki), { initData: { kind: "equals", value } }));
    expect(check(digest)).toEqual([]);
    expect(check(createHash("sha256").update("other").digest())).toEqual(["INIT_DATA_MISMATCH"]);
    expect(check(Buffer.alloc(0))).toEqual(["INIT_DATA_MISMATCH"]);
  });

  it("is refused under the built-in roots", () => {
    expect(refusals(verify(makeQuote(pki), intelCollateral(pki), { roots: undefined }))).toContain("TRUST_ROOT_UNKNOWN");
  });
});

describe("bad quotes, each with its own finding", () => {
  const rows: readonly (readonly [string, string, QuoteOptions | ((quote: Buffer) => Buffer)])[] = [
    ["an unknown version", "EVIDENCE_VERSION_UNKNOWN", { header: (header) => void header.writeUInt16LE(6, 0) }],
    ["a P-384 attestation key type", "QUOTE_KEY_TYPE_UNKNOWN", { header: (header) => void header.writeUInt16LE(3, 2) }],
    ["a reserved header byte", "EVIDENCE_RESERVED_NOT_ZERO", { header: (header) => void (header[9] = 1) }],
    ["another vendor", "QUOTE_VENDOR_UNKNOWN", { header: (header) => void (header[12] = 0) }],
    ["trailing data", "EVIDENCE_TRAILING_DATA", { trailing: Buffer.from("more") }],
    ["a cut end", "EVIDENCE_MALFORMED", (quote) => quote.subarray(0, -1)],
    ["a foreign TDX module", "TDX_MODULE_FOREIGN", { body: (body) => void (body[64] = 1) }],
    ["SEAM attributes", "TDX_MODULE_ATTRIBUTES", { body: (body) => void (body[112] = 1) }],
    ["an unknown TDX module", "TDX_MODULE_UNKNOWN", { teeTcbSvn: [6, 9, 3] }],
    ["a module older than the table", "TCB_NOT_SUPPORTED", { teeTcbSvn: [3, 1, 3] }],
    ["a current module that is not supported", "TCB_NOT_SUPPORTED", { form: "v5-td15", teeTcbSvn2: [3, 1, 3] }],
    ["another quoting enclave", "QE_IDENTITY_MISMATCH", { qeReport: (report) => void (report[128] = 0) }],
    ["a debug quoting enclave", "QE_IDENTITY_MISMATCH", { qeReport: (report) => void (report[48] = 0x13) }],
    ["a quoting enclave with other MISCSELECT", "QE_IDENTITY_MISMATCH", { qeReport: (report) => void (report[16] = 1) }],
    ["a quoting enclave older than the table", "TCB_NOT_SUPPORTED", { qeIsvSvn: 3 }],
    ["a QE report for another key", "QE_REPORT_DATA_MISMATCH", { qeReport: (report) => void (report[320] = (report[320] ?? 0) ^ 1) }],
    ["a QE report with more report data", "QE_REPORT_DATA_MISMATCH", { qeReport: (report) => void (report[360] = 1) }],
    ["reserved bytes of the QE report", "EVIDENCE_RESERVED_NOT_ZERO", { qeReport: (report) => void (report[100] = 1) }],
    ["unknown certification data", "QUOTE_CERTIFICATION_UNKNOWN", { certification: { type: 9, data: Buffer.alloc(4) } }],
    ["certification data that is no PEM", "PEM_MALFORMED", { certification: { type: 5, data: Buffer.from("not PEM") } }],
    [
      "a chain without its root",
      "CERTIFICATE_CHAIN_MALFORMED",
      { certification: { type: 5, data: Buffer.from(pem(pki.pck.der, pki.intermediate.der)) } },
    ],
    [
      "a chain in another order",
      "CERTIFICATE_CHAIN_MALFORMED",
      { certification: { type: 5, data: Buffer.from(pem(pki.intermediate.der, pki.pck.der, pki.root.der)) } },
    ],
    [
      "a chain that ends elsewhere",
      "TRUST_ROOT_UNKNOWN",
      { certification: { type: 5, data: Buffer.from(pem(pki.pck.der, pki.intermediate.der, pki.intermediate.der)) } },
    ],
    [
      "a TCB signer in place of the PCK",
      "CERTIFICATE_CHAIN_MALFORMED",
      { certification: { type: 5, data: Buffer.from(pem(pki.signer.der, pki.intermediate.der, pki.root.der)) } },
    ],
  ];
  it.each(rows)("%s: %s", (_what, code, change) => {
    const quote = typeof change === "function" ? change(makeQuote(pki)) : makeQuote(pki, change);
    expect(refusals(verify(quote, intelCollateral(pki)))).toContain(code);
  });

  it("does not take a swapped, reversed or zero signature", () => {
    const quote = makeQuote(pki);
    const at = 48 + 584 + 4;
    const signature = Buffer.from(quote.subarray(at, at + 64));
    const swapped = Buffer.concat([signature.subarray(32), signature.subarray(0, 32)]);
    for (const wrong of [swapped, Buffer.from(signature).reverse(), Buffer.alloc(64), Buffer.alloc(64, 0xff)]) {
      const changed = Buffer.from(quote);
      changed.set(wrong, at);
      expect(refusals(verify(changed, intelCollateral(pki)))).toEqual(["QUOTE_SIGNATURE_INVALID"]);
    }
  });

  it("does not take an attestation key off the curve", () => {
    const quote = makeQuote(pki);
    quote.fill(0, 48 + 584 + 4 + 64, 48 + 584 + 4 + 128);
    expect(refusals(verify(quote, intelCollateral(pki)))).toContain("KEY_UNUSABLE");
    expect(() => createPublicKey({ key: { kty: "EC", crv: "P-256", x: "AA", y: "AA" }, format: "jwk" })).toThrow();
  });
});

describe("bad certificates, each with its own finding", () => {
  const stranger = ecKey();
  const twice = { oid: "1.2.3.4", value: octets(Buffer.alloc(1)) };
  const rows: readonly (readonly [string, string, PkiOptions])[] = [
    ["an expired PCK", "CERTIFICATE_EXPIRED", { pck: { notAfter: new Date("2027-05-31T23:59:59Z") } }],
    ["a PCK of the future", "CERTIFICATE_NOT_YET_VALID", { pck: { notBefore: new Date("2027-06-01T00:00:01Z") } }],
    ["an expired intermediate", "CERTIFICATE_EXPIRED", { intermediate: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["an expired root", "CERTIFICATE_EXPIRED", { root: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["an expired TCB signer", "CERTIFICATE_EXPIRED", { signer: { notAfter: new Date("2027-05-01T00:00:00Z") } }],
    ["a PCK that is a CA", "CERTIFICATE_ROLE_WRONG", { pck: { ca: true, keyUsage: "ca" } }],
    ["an intermediate that is no CA", "CERTIFICATE_ROLE_WRONG", { intermediate: { ca: false } }],
    ["a PCK signed by a stranger", "SIGNATURE_INVALID", { pck: { issuer: { subject: "Intel SGX PCK Platform CA", key: stranger } } }],
    [
      "an intermediate signed by a stranger",
      "SIGNATURE_INVALID",
      { intermediate: { issuer: { subject: "Intel SGX Root CA", key: stranger } } },
    ],
    ["a PCK without the SGX extension", "CERTIFICATE_ROLE_WRONG", { pck: { extensions: [] } }],
    ["a PCK of another name", "CERTIFICATE_ROLE_WRONG", { pck: { subject: "Intel SGX TCB Signing" } }],
    ["an unknown critical extension", "EXTENSION_CRITICAL_UNKNOWN", { pck: { extensions: [{ ...twice, critical: true }] } }],
    ["a duplicate extension", "EXTENSION_DUPLICATE", { pck: { extensions: [twice, twice] } }],
    ["a duplicate member in the SGX extension", "EXTENSION_DUPLICATE", { sgx: sgxExtension({ twice: "3" }) }],
    ["an SVN above 255", "DER_MALFORMED", { sgx: sgxExtension({ components: [256, ...Array.from({ length: 15 }, () => 0)] }) }],
    ["trailing data in the SGX extension", "DER_TRAILING_DATA", { sgx: Buffer.concat([sgxExtension(), Buffer.from([5, 0])]) }],
    ["an empty SGX extension", "DER_MALFORMED", { sgx: sequence() }],
    ["an SGX extension that is no sequence", "DER_MALFORMED", { sgx: integer(1) }],
    ["another platform family", "TCB_INFO_MISMATCH", { sgx: sgxExtension({ fmspc: "000000000000" }) }],
    ["another PCE", "TCB_INFO_MISMATCH", { sgx: sgxExtension({ pceId: "0100" }) }],
    ["a TCB signer of another name", "CERTIFICATE_ROLE_WRONG", { signer: { subject: "Intel SGX PCK Certificate" } }],
    ["a TCB signer that is a CA", "CERTIFICATE_ROLE_WRONG", { signer: { ca: true } }],
    ["a TCB signer signed by a stranger", "SIGNATURE_INVALID", { signer: { issuer: { subject: "Intel SGX Root CA", key: stranger } } }],
  ];
  it.each(rows)("%s: %s", (_what, code, options) => {
    const bent = dcapPki(options);
    expect(refusals(verify(makeQuote(bent), intelCollateral(bent), {}, bent))).toContain(code);
  });

  it("does not let a PCK vouch for TCB levels, however its chain is dressed up", () => {
    const intel = intelCollateral({ ...pki, signer: { key: pki.pck.key, der: pki.pck.der } });
    expect(refusals(verify(makeQuote(pki), intel))).toEqual(["CERTIFICATE_ROLE_WRONG", "CERTIFICATE_ROLE_WRONG"]);
  });

  it("does not let a PCK act as a CA for another PCK", () => {
    const leaf = certificate({
      subject: "Intel SGX PCK Certificate",
      key: stranger,
      issuer: { subject: "Intel SGX PCK Certificate", key: pki.pck.key },
      extensions: [{ oid: "1.2.840.113741.1.13.1", value: sgxExtension() }],
    });
    const quote = makeQuote(pki, { certification: { type: 5, data: Buffer.from(pem(leaf, pki.pck.der, pki.root.der)) } });
    expect(refusals(verify(quote, intelCollateral(pki)))).toContain("CERTIFICATE_CHAIN_MALFORMED");
  });
});

describe("bad collateral, each with its own finding", () => {
  const good = intelCollateral(pki);
  const later = new Date("2027-06-10T00:00:00Z");
  const rootList = (spec: Partial<Parameters<typeof revocationList>[0]>) =>
    revocationList({ issuer: pki.root, nextUpdate: new Date("2028-01-01T00:00:00Z"), ...spec });
  const pckList = (spec: Partial<Parameters<typeof revocationList>[0]>) => revocationList({ issuer: pki.intermediate, ...spec });
  const info = (options: TcbInfoOptions) => intelCollateral(pki, { tcbInfo: tcbInfoJson(options) });
  const resign = (text: string) => intelCollateral(pki, { tcbInfo: text });
  const flip = (bytes: Uint8Array, at: number) => Buffer.from(bytes.map((byte, i) => (i === at ? byte ^ 1 : byte)));
  const rows: readonly (readonly [string, string, IntelCollateral])[] = [
    ["no PCK list", "CRL_MISSING", { ...good, pckCrl: undefined }],
    ["no root list", "CRL_MISSING", { ...good, rootCaCrl: undefined }],
    ["an empty PCK list", "CRL_EMPTY", { ...good, pckCrl: Buffer.alloc(0) }],
    ["an empty root list", "CRL_EMPTY", { ...good, rootCaCrl: Buffer.alloc(0) }],
    ["a garbage list", "DER_MALFORMED", { ...good, pckCrl: Buffer.from("garbage") }],
    ["an expired PCK list", "CRL_EXPIRED", { ...good, pckCrl: pckList({ nextUpdate: new Date("2027-05-31T00:00:00Z") }) }],
    ["an expired root list", "CRL_EXPIRED", { ...good, rootCaCrl: rootList({ nextUpdate: new Date("2027-05-31T00:00:00Z") }) }],
    ["a PCK list of the future", "CRL_FROM_THE_FUTURE", { ...good, pckCrl: pckList({ thisUpdate: later }) }],
    [
      "a list signed by another key",
      "SIGNATURE_INVALID",
      { ...good, pckCrl: revocationList({ issuer: { subject: "Intel SGX PCK Platform CA", key: pki.signer.key } }) },
    ],
    [
      "a root list signed by another key",
      "SIGNATURE_INVALID",
      { ...good, rootCaCrl: rootList({ issuer: { subject: "Intel SGX Root CA", key: pki.signer.key } }) },
    ],
    ["a list whose signature was cut off", "DER_MALFORMED", { ...good, pckCrl: (good.pckCrl ?? Buffer.alloc(0)).subarray(0, -8) }],
    [
      "trailing data behind a list",
      "DER_TRAILING_DATA",
      { ...good, pckCrl: Buffer.concat([good.pckCrl ?? Buffer.alloc(0), Buffer.alloc(1)]) },
    ],
    [
      "the processor CA's list for a platform CA's PCK",
      "CRL_WRONG_ISSUER",
      { ...good, pckCrl: revocationList({ issuer: { subject: "Intel SGX PCK Processor CA", key: pki.intermediate.key } }) },
    ],
    ["the root's list in place of the PCK list", "CRL_WRONG_ISSUER", { ...good, pckCrl: rootList({}) }],
    ["a revoked PCK", "PCK_REVOKED", { ...good, pckCrl: pckList({ revoked: [5n, serials.pck] }) }],
    ["a revoked intermediate", "CERTIFICATE_REVOKED", { ...good, rootCaCrl: rootList({ revoked: [serials.intermediate] }) }],
    ["a revoked TCB signer", "CERTIFICATE_REVOKED", { ...good, rootCaCrl: rootList({ revoked: [serials.signer] }) }],
    [
      "a list with an unknown critical extension",
      "EXTENSION_CRITICAL_UNKNOWN",
      { ...good, pckCrl: pckList({ extensions: [{ oid: "2.5.29.28", critical: true, value: sequence() }] }) },
    ],
    ["a list without a number", "DER_MALFORMED", { ...good, pckCrl: pckList({ extensions: [{ oid: "1.2.3", value: sequence() }] }) }],
    ["no TCB info", "TCB_INFO_MISSING", { ...good, tcbInfo: undefined }],
    ["no QE identity", "QE_IDENTITY_MISSING", { ...good, qeIdentity: undefined }],
    [
      "unsigned TCB info",
      "COLLATERAL_UNSIGNED",
      { ...good, tcbInfo: good.tcbInfo === undefined ? undefined : { ...good.tcbInfo, signature: Buffer.alloc(0) } },
    ],
    [
      "wrongly signed TCB info",
      "SIGNATURE_INVALID",
      { ...good, tcbInfo: good.tcbInfo === undefined ? undefined : { ...good.tcbInfo, signature: Buffer.alloc(64, 1) } },
    ],
    [
      "TCB info with one byte changed",
      "SIGNATURE_INVALID",
      {
        ...good,
        tcbInfo:
          good.tcbInfo === undefined
            ? undefined
            : {
                ...good.tcbInfo,
                bytes: Buffer.from(
                  Buffer.from(good.tcbInfo.bytes).toString().replace('"tcbEvaluationDataNumber":19', '"tcbEvaluationDataNumber":20'),
                ),
              },
      },
    ],
    [
      "a QE identity signed for something else",
      "SIGNATURE_INVALID",
      {
        ...good,
        qeIdentity:
          good.qeIdentity === undefined || good.tcbInfo === undefined
            ? undefined
            : { ...good.qeIdentity, signature: good.tcbInfo.signature },
      },
    ],
    ["expired TCB info", "TCB_INFO_EXPIRED", info({ members: { nextUpdate: "2027-05-31T00:00:00Z" } })],
    ["TCB info of the future", "TCB_INFO_FROM_THE_FUTURE", info({ members: { issueDate: "2027-06-02T00:00:00Z" } })],
    [
      "an expired QE identity",
      "QE_IDENTITY_EXPIRED",
      intelCollateral(pki, { qeIdentity: qeIdentityJson({ members: { nextUpdate: "2027-05-31T00:00:00Z" } }) }),
    ],
    [
      "a QE identity of the future",
      "QE_IDENTITY_FROM_THE_FUTURE",
      intelCollateral(pki, { qeIdentity: qeIdentityJson({ members: { issueDate: "2027-06-02T00:00:00Z" } }) }),
    ],
    ["SGX TCB info for a TD", "TCB_INFO_MISMATCH", info({ tee: "sgx" })],
    ["TCB info of another family", "TCB_INFO_MISMATCH", info({ members: { fmspc: "00906ed50000" } })],
    ["an SGX QE identity for a TD", "QE_IDENTITY_MISMATCH", intelCollateral(pki, { qeIdentity: qeIdentityJson({ tee: "sgx" }) })],
    ["an unknown status word", "TCB_STATUS_UNKNOWN", info({ levels: [{ status: "Fine" }] })],
    ["an unknown status word of the module", "TCB_STATUS_UNKNOWN", info({ modules: [[6, "ConfigurationNeeded"]] })],
    ["an unknown TCB info version", "COLLATERAL_VERSION_UNKNOWN", info({ members: { version: 4 } })],
    ["an unknown comparison type", "COLLATERAL_VERSION_UNKNOWN", info({ members: { tcbType: 1 } })],
    [
      "an unknown QE identity version",
      "COLLATERAL_VERSION_UNKNOWN",
      intelCollateral(pki, { qeIdentity: qeIdentityJson({ members: { version: 1 } }) }),
    ],
    ["a repeated member", "COLLATERAL_MALFORMED", resign(tcbInfoJson().replace('"version":3', '"version":3,"version":3'))],
    ["15 components", "COLLATERAL_MALFORMED", resign(tcbInfoJson().replace('{"svn":4},', ""))],
    ["a date that is none", "COLLATERAL_MALFORMED", info({ members: { issueDate: "yesterday" } })],
    ["a revoked platform", "TCB_REVOKED", info({ levels: [{ status: "Revoked" }] })],
    ["a revoked module", "TCB_REVOKED", info({ modules: [[6, "Revoked"]] })],
    ["a revoked quoting enclave", "TCB_REVOKED", intelCollateral(pki, { qeIdentity: qeIdentityJson({ levels: [[4, "Revoked"]] }) })],
    ["no level at all", "TCB_NOT_SUPPORTED", info({ levels: [] })],
    [
      "an issuer chain without its root",
      "CERTIFICATE_CHAIN_MALFORMED",
      {
        ...good,
        tcbInfo:
          good.tcbInfo === undefined
            ? undefined
            : { ...good.tcbInfo, issuerChain: pem(pki.signer.der, pki.intermediate.der, pki.root.der) },
      },
    ],
    [
      "swapped issuer chain",
      "TRUST_ROOT_UNKNOWN",
      { ...good, tcbInfo: good.tcbInfo === undefined ? undefined : { ...good.tcbInfo, issuerChain: pem(pki.root.der, pki.signer.der) } },
    ],
    [
      "no issuer chain",
      "PEM_MALFORMED",
      { ...good, qeIdentity: good.qeIdentity === undefined ? undefined : { ...good.qeIdentity, issuerChain: "" } },
    ],
    [
      "a list with a flipped bit",
      "SIGNATURE_INVALID",
      { ...good, pckCrl: flip(good.pckCrl ?? Buffer.alloc(0), (good.pckCrl?.length ?? 0) - 1) },
    ],
  ];
  it.each(rows)("%s: %s", (_what, code, intel) => {
    const quote = makeQuote(pki);
    expect(verify(quote, good).verdict).toBe("accept");
    expect(refusals(verify(quote, intel))).toContain(code);
  });

  it("names every reason at once", () => {
    const codes = refusals(
      verify(
        makeQuote(pki),
        { ...good, pckCrl: undefined, tcbInfo: undefined, qeIdentity: undefined },
        { reportData: { kind: "equals", value: Buffer.alloc(64, 1) } },
      ),
    );
    expect(codes).toEqual(["REPORT_DATA_MISMATCH", "TRUST_ROOT_UNKNOWN", "TCB_INFO_MISSING", "QE_IDENTITY_MISSING", "CRL_MISSING"]);
  });

  it("never accepts later what was refused as expired", () => {
    const quote = makeQuote(pki);
    const end = Date.parse(window.nextUpdate);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 400 }), (days) => {
        const at = new Date(end + days * 86_400_000);
        expect(verify(quote, good, { at }).verdict).toBe("reject");
      }),
      { numRuns: 30 },
    );
  });
});

describe("the status algorithm", () => {
  const up = { status: "UpToDate" } as const;
  const rows: readonly (readonly [string, string, TcbInfoOptions, QuoteOptions, string])[] = [
    ["current", "UpToDate", {}, {}, ""],
    ["an outdated module", "OutOfDate", {}, { teeTcbSvn: [4, 1, 3] }, "INTEL-SA-01192"],
    [
      "an outdated module on a platform to be configured",
      "OutOfDateConfigurationNeeded",
      { levels: [{ status: "ConfigurationNeeded" }] },
      { teeTcbSvn: [4, 1, 3] },
      "INTEL-SA-01192",
    ],
    [
      "software hardening",
      "SWHardeningNeeded",
      { levels: [{ status: "SWHardeningNeeded", advisories: ["INTEL-SA-00615"] }] },
      {},
      "INTEL-SA-00615",
    ],
    [
      "an outdated platform under a current module",
      "OutOfDate",
      {
        levels: [
          { status: "UpToDate", sgx: [9] },
          { status: "OutOfDate", sgx: [1], tdx: [0] },
        ],
      },
      {},
      "",
    ],
    ["module components are not the platform's", "UpToDate", { levels: [{ status: "UpToDate", tdx: [9, 9, 3] }] }, {}, ""],
    [
      "module components are the platform's while the major version is 0",
      "OutOfDate",
      {
        levels: [
          { status: "UpToDate", tdx: [9, 0, 3] },
          { status: "OutOfDate", tdx: [0] },
        ],
      },
      { teeTcbSvn: [6, 0, 3] },
      "",
    ],
    ["relaunch advised", "TDRelaunchAdvised", {}, { form: "v5-td15", teeTcbSvn: [4, 1, 3], teeTcbSvn2: [6, 1, 3] }, "INTEL-SA-01192"],
    [
      "relaunch advised with configuration",
      "TDRelaunchAdvisedConfigurationNeeded",
      { levels: [{ status: "ConfigurationNeeded" }] },
      { form: "v5-td15", teeTcbSvn: [4, 1, 3], teeTcbSvn2: [6, 1, 3] },
      "INTEL-SA-01192",
    ],
    [
      "no relaunch while the current module is outdated, too",
      "OutOfDate",
      {},
      { form: "v5-td15ex", teeTcbSvn: [4, 1, 3], teeTcbSvn2: [4, 1, 3] },
      "INTEL-SA-01192",
    ],
    ["levels in any order", "UpToDate", { levels: [{ sgx: [1], tdx: [1], pceSvn: 5, status: "OutOfDate" }, up] }, {}, ""],
  ];
  it.each(rows)("%s: %s", (_what, status, info, quote, advisories) => {
    const result = verify(makeQuote(pki, quote), intelCollateral(pki, { tcbInfo: tcbInfoJson(info) }));
    expect(result).toMatchObject({ verdict: "accept", tcbStatus: status });
    expect(result.advisoryIds.join(",")).toBe(advisories);
  });

  it("does not depend on the order of levels", () => {
    const levels = [
      { sgx: [4, 4, 2, 2, 4, 1, 0, 5], status: "UpToDate" },
      { sgx: [4, 4, 2, 2, 3, 1, 0, 5], status: "SWHardeningNeeded" },
      { sgx: [3, 3, 2, 2, 3, 1, 0, 5], pceSvn: 11, status: "OutOfDate" },
      { sgx: [2, 2], pceSvn: 5, tdx: [0], status: "OutOfDateConfigurationNeeded" },
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(levels, { minLength: 4 }), (shuffled) => {
        expect(verify(makeQuote(pki), intelCollateral(pki, { tcbInfo: tcbInfoJson({ levels: shuffled }) })).tcbStatus).toBe("UpToDate");
      }),
      { numRuns: 24 },
    );
  });

  it("takes the earliest date of platform, module and quoting enclave", () => {
    const result = verify(
      makeQuote(pki),
      intelCollateral(pki, { tcbInfo: tcbInfoJson({ levels: [{ status: "UpToDate", date: "2025-01-02T00:00:00Z" }] }) }),
    );
    expect(result).toMatchObject({ claims: { tcb_date: "2025-01-02T00:00:00Z", tcb_eval_num: 19 } });
  });

  it("says what is lacking when nothing fits", () => {
    const result = verify(
      makeQuote(pki),
      intelCollateral(pki, { tcbInfo: tcbInfoJson({ levels: [{ status: "UpToDate", sgx: [4, 4, 3], pceSvn: 14 }] }) }),
    );
    expect(result.findings.find(({ code }) => code === "TCB_NOT_SUPPORTED")?.expected).toBe(
      "SGX component 3: have 2, need 3; PCE SVN: have 13, need 14 for UpToDate",
    );
  });

  it("converges as Intel's table", () => {
    const table: Readonly<Record<string, readonly [string, string, string]>> = {
      UpToDate: ["UpToDate", "OutOfDate", "Revoked"],
      SWHardeningNeeded: ["SWHardeningNeeded", "OutOfDate", "Revoked"],
      ConfigurationNeeded: ["ConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"],
      ConfigurationAndSWHardeningNeeded: ["ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded", "Revoked"],
      OutOfDate: ["OutOfDate", "OutOfDate", "Revoked"],
      OutOfDateConfigurationNeeded: ["OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"],
      Revoked: ["Revoked", "Revoked", "Revoked"],
    };
    for (const platform of platformStatuses) {
      expect(componentStatuses.map((component) => converge(platform, component))).toEqual(table[platform]);
    }
  });

  it("advises a relaunch exactly when launch was outdated and now is not", () => {
    for (const launch of platformStatuses) {
      for (const current of platformStatuses) {
        const joined = joinRelaunch(launch, current);
        const outdated = launch.startsWith("OutOfDate");
        const fresh = !current.startsWith("OutOfDate") && current !== "Revoked";
        expect(joined.startsWith("TDRelaunch")).toBe(outdated && fresh);
        expect(joined.endsWith("AdvisedConfigurationNeeded")).toBe(
          outdated && fresh && (launch.includes("Configuration") || current.includes("Configuration")),
        );
      }
    }
  });
});
