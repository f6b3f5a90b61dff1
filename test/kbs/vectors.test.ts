import { flattenedDecrypt, importJWK } from "jose";
import { describe, expect, it } from "vitest";
import { sealResponse, openResponse, type ResponseJwe, type TeePrivateKey } from "../../src/kbs/protocol/response-jwe.ts";
import { deviceReportData, primaryReportData } from "../../src/kbs/protocol/runtime-data.ts";
import { parseTeePublicKey, type EcCurve, type TeePublicKey } from "../../src/kbs/protocol/tee-key.ts";
import { jsonDigest, sampleAttester } from "../../src/attestation/index.ts";

const plaintext = Buffer.from("test-image-kek-0123456789abcdef!!");

interface Vector {
  readonly crv: EcCurve;
  readonly scalar: Buffer;
  readonly x: string;
  readonly y: string;
  readonly ephemeral: Buffer;
  readonly jwe: ResponseJwe;
}

const vectors: readonly Vector[] = [
  {
    crv: "P-256",
    scalar: Buffer.alloc(32, 7),
    x: "HhhTL9R1TALzBB2cdc6zO4P_2BrHzk_ogsyxyYvFiW4",
    y: "pGwxHE4v9A3ZajZT5uRURdMt_khuztdcepDGoYiBwKM",
    ephemeral: Buffer.alloc(32, 5),
    jwe: {
      protected:
        "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsiY3J2IjoiUC0yNTYiLCJrdHkiOiJFQyIsIngiOiJCNEVPcVhUT3BYYy1ZN2lYODM0NzZhQ2VlbF9wdVhHa1RSQmxyQ282a3hFIiwieSI6IlkzNUhwUG1VWktEOXprU29qc2ZYQTZrWVBCMEdWUzJlTFd0MkJwU0J4WGMifX0",
      encrypted_key: "hGlKByyw2XcvQ61J2vWX1RinZADpaMQav5R-W5Yq3eM0MFK4DsMarw",
      iv: "IiIiIiIiIiIiIiIi",
      ciphertext: "Y5J0Pe2m8j6CWvNXLc3E5S6h_tZft5tzay5oi22EAyJk",
      tag: "tD3wGh3HWnKV2Ef8jM4DKg",
    },
  },
  {
    crv: "P-521",
    scalar: Buffer.concat([Buffer.alloc(1), Buffer.alloc(65, 7)]),
    x: "AOiFrkAMlnTuyozzH2hkGaMxONtKroogBn1iyU1gC7KkjZiaqV-WFdTlus3AROF5gDBy-PEz4RXSXpbFVuRpvYrT",
    y: "AA4Hrx95yZtax1pJ8SDNfozJldAJKd8NN9lD2BtVowbWyMDu34cyBB8D0HNiWu-B9Z7BZaao9qhtt9KqclNtPJu3",
    ephemeral: Buffer.alloc(65, 5),
    jwe: {
      protected:
        "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsiY3J2IjoiUC01MjEiLCJrdHkiOiJFQyIsIngiOiJBSDB4Qk5HYzA0NjRzWmpheFV3aUctTzV3ZXlPOU1qb3RGVWtLX09FWDhnbm5CSUM1bnBJQ2RRdTNDTHNndDRXYVB6YTZPTFY3b3JnUFVaclhJSUhUUzEyIiwieSI6IkFjUE12cERPUGFyTkd2M3RmaURLOF9takRIY2FEZERZQVNNOERrQnlDWGhreFRPRHJuRHZ1aEUzcXJna0VlbEpUdGVQYjVpYzRzUUF3Ymp3ZmkxU09TNU4ifX0",
      encrypted_key: "iY65Xbm1iuIwsr_6HPJHZeI9MuTaBmDIcXkC70e3SNz85FVdFjNvRw",
      iv: "IiIiIiIiIiIiIiIi",
      ciphertext: "Y5J0Pe2m8j6CWvNXLc3E5S6h_tZft5tzay5oi22EAyJk",
      tag: "QzxJEIh27GBYxIA-T_0gvQ",
    },
  },
];

function publicKeyOf(vector: Vector): TeePublicKey {
  return parseTeePublicKey({ kty: "EC", crv: vector.crv, alg: "ECDH-ES+A256KW", x: vector.x, y: vector.y });
}

function privateKeyOf(vector: Vector): TeePrivateKey {
  return { kty: "EC", crv: vector.crv, scalar: vector.scalar, public: publicKeyOf(vector) };
}

describe.each(vectors)("the response JWE on $crv", (vector) => {
  it("is byte for byte the known answer", () => {
    const sealed = sealResponse(plaintext, publicKeyOf(vector), {
      cek: Buffer.alloc(32, 0x11),
      iv: Buffer.alloc(12, 0x22),
      ephemeralScalar: vector.ephemeral,
    });
    expect(sealed).toEqual(vector.jwe);
  });

  it("opens the known answer", () => {
    expect(openResponse(vector.jwe, privateKeyOf(vector))).toEqual(plaintext);
  });

  it("is opened by jose", async () => {
    const { jwe } = vector;
    const key = await importJWK(
      { kty: "EC", crv: vector.crv, x: vector.x, y: vector.y, d: vector.scalar.toString("base64url") },
      "ECDH-ES+A256KW",
    );
    const opened = await flattenedDecrypt(jwe, key);
    expect(Buffer.from(opened.plaintext)).toEqual(plaintext);
  });

  it("has its header members in the order that every build of a guest serialises again", () => {
    const header = Buffer.from(sealResponse(plaintext, publicKeyOf(vector)).protected, "base64url").toString();
    expect(header).toMatch(/^\{"alg":"ECDH-ES\+A256KW","enc":"A256GCM","epk":\{"crv":"P-\d+","kty":"EC","x":"[\w-]+","y":"[\w-]+"\}\}$/);
    const parsed: unknown = JSON.parse(header);
    expect(JSON.stringify(parsed)).toBe(header);
  });

  it.each(["protected", "encrypted_key", "iv", "ciphertext", "tag"] as const)("detects a changed %s", (member) => {
    const bytes = Buffer.from(vector.jwe[member], "base64url");
    const last = bytes.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
    const changed = { ...vector.jwe, [member]: bytes.toString("base64url") };
    expect(() => openResponse(changed, privateKeyOf(vector))).toThrow(expect.objectContaining({ category: "integrity" }));
  });
});

describe("the runtime data digest", () => {
  const [vector] = vectors;
  const nonce = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
  const data = { nonce, teePublicKey: publicKeyOf(vector ?? fail()), additionalEvidence: "" };

  it("is the known answer for 0.2.0 and for devices", () => {
    const expected = "d9d82a3ea04dd1fd1016d8058d402b2572c80fa61c86eb7e0acba91716fa6c443017ab9cd50957841ee55ee017ce3498";
    expect(primaryReportData(data, "0.2.0").toString("hex")).toBe(expected);
    expect(deviceReportData(data).toString("hex")).toBe(expected);
  });

  it("is the known answer for 0.4.0", () => {
    const expected = "67549961b25745c7fe24353ba2fdc5da74f5c7fb10541030891de475f60db4719083a24a7f31e6176e4e8d527daac18e";
    expect(primaryReportData(data, "0.4.0").toString("hex")).toBe(expected);
  });

  it("makes the sample evidence of the known answer", async () => {
    const evidence = await sampleAttester().collect(primaryReportData(data, "0.4.0"));
    expect(evidence).toEqual({ svn: "1", report_data: "Z1SZYbJXRcf+JDU7ov3F2nT1x/sQVBAwiR3kdfYNtHGQg6JKfzHmF25OjVJ9qsGO" });
  });

  it("agrees with the vector of Trustee's own test", () => {
    expect(jsonDigest({ b: 1, a: "test", c: { d: "e" } }).toString("hex")).toBe(
      "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3",
    );
  });
});

function fail(): never {
  throw new Error("no vector");
}
