import { mkdtemp, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  canonicalJson,
  detectTee,
  jsonDigest,
  parseTeePubkey,
  reportDataField,
  runtimeDataDigest,
  sampleAttester,
  verifySample,
} from "../../src/attestation/index.ts";

const nonce = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const teePubkey = parseTeePubkey({
  alg: "ECDH-ES+A256KW",
  crv: "P-256",
  kty: "EC",
  x: "HhhTL9R1TALzBB2cdc6zO4P_2BrHzk_ogsyxyYvFiW4",
  y: "pGwxHE4v9A3ZajZT5uRURdMt_khuztdcepDGoYiBwKM",
});

describe("runtime data", () => {
  it("hashes as the reference's client and server of each version do", () => {
    expect(runtimeDataDigest({ nonce, teePubkey }, "0.2.0").toString("hex")).toBe(
      "d9d82a3ea04dd1fd1016d8058d402b2572c80fa61c86eb7e0acba91716fa6c443017ab9cd50957841ee55ee017ce3498",
    );
    expect(runtimeDataDigest({ nonce, teePubkey }, "0.4.0").toString("hex")).toBe(
      "67549961b25745c7fe24353ba2fdc5da74f5c7fb10541030891de475f60db4719083a24a7f31e6176e4e8d527daac18e",
    );
    expect(jsonDigest({ b: 1, a: "test", c: { d: "e" } }).toString("hex")).toBe(
      "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3",
    );
  });

  it("writes JSON as RFC 8785's own example", () => {
    const value = { numbers: [333333333.3333333, 1e30, 4.5, 2e-3, 1e-27], string: '€$\u000f\nA\'B"\\\\"/', literals: [null, true, false] };
    expect(canonicalJson(value)).toBe(
      String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
    );
    expect(canonicalJson({ "\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\u{1f600}": 5, "\u0080": 6, "\u00f6": 7 })).toBe(
      '{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"\u{1f600}":5,"\ufb33":3}',
    );
    expect(() => canonicalJson("\ud800")).toThrow("surrogate");
  });

  it("does not depend on the order in which members were written", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: "grapheme" }), fc.integer()), (object) => {
        const reversed = Object.fromEntries(Object.entries(object).toReversed());
        expect(canonicalJson(reversed)).toBe(canonicalJson(object));
        expect(JSON.parse(canonicalJson(object))).toEqual(object);
      }),
    );
  });

  it("refuses a key with one member more than is hashed", () => {
    expect(() => parseTeePubkey({ ...teePubkey, kid: "1" })).toThrow('extra member "kid"');
    expect(() => parseTeePubkey({ ...teePubkey, y: 4 })).toThrow('text member "y"');
    expect(() => parseTeePubkey({ kty: "oct", k: "" })).toThrow("kty");
    expect(() => parseTeePubkey([])).toThrow(expect.objectContaining({ code: "ERR_RUNTIME_DATA_MALFORMED" }) as Error);
  });

  it("pads report data to the field and never cuts it", () => {
    expect(reportDataField("tdx", Buffer.alloc(48, 1)).toString("hex")).toBe("01".repeat(48) + "00".repeat(16));
    expect(reportDataField("sample", Buffer.alloc(48, 1))).toHaveLength(48);
    expect(() => reportDataField("snp", Buffer.alloc(65))).toThrow("65 bytes");
  });
});

describe("the sample TEE", () => {
  it("writes evidence as the reference's guest does", async () => {
    const evidence = await sampleAttester().collect(runtimeDataDigest({ nonce, teePubkey }, "0.4.0"));
    expect(evidence).toEqual({ svn: "1", report_data: "Z1SZYbJXRcf+JDU7ov3F2nT1x/sQVBAwiR3kdfYNtHGQg6JKfzHmF25OjVJ9qsGO" });
  });

  it("is accepted only when it binds the expected bytes, and always with a warning", async () => {
    const reportData = Buffer.alloc(48, 7);
    const evidence = await sampleAttester().collect(reportData);
    const accepted = verifySample({ tee: "sample", evidence, reportData });
    expect(accepted).toMatchObject({ verdict: "accept", claims: { svn: "1", debug: false }, findings: [{ code: "SAMPLE_EVIDENCE" }] });
    const refused = verifySample({ tee: "sample", evidence, reportData: Buffer.alloc(48, 8) });
    expect(refused).toMatchObject({ verdict: "reject", findings: [{ code: "REPORT_DATA_MISMATCH", severity: "refusal" }] });
    for (const broken of [null, [], "x", { svn: 1 }, { svn: "1" }, { svn: "1", report_data: "*" }]) {
      expect(verifySample({ tee: "sample", evidence: broken, reportData })).toMatchObject({
        verdict: "reject",
        findings: [{ code: "EVIDENCE_MALFORMED" }],
      });
    }
  });
});

describe("detection", () => {
  it("finds the TEE by its device and finds none where there is none", async () => {
    const root = await mkdtemp(join(tmpdir(), "ociseal-detect-"));
    try {
      expect(await detectTee({ root })).toBeUndefined();
      await mkdir(join(root, "sys/devices/platform/sev-guest"), { recursive: true });
      expect(await detectTee({ root })).toBe("snp");
      await mkdir(join(root, "dev/tdx_guest"), { recursive: true });
      expect(await detectTee({ root })).toBe("tdx");
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
});
