import { generateKeyPairSync, sign, verify } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { derOfP256Signature, rawOfP256Signature } from "../../src/bytes/index.ts";

const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
const raw = { dsaEncoding: "ieee-p1363" } as const;

describe("ECDSA signatures on P-256", () => {
  it("are the same in both encodings for OpenSSL", () => {
    for (let i = 0; i < 300; i += 1) {
      const bytes = Buffer.from(`message ${i}`);
      expect(verify("sha256", bytes, { key: pair.publicKey, ...raw }, rawOfP256Signature(sign("sha256", bytes, pair.privateKey)))).toBe(
        true,
      );
      const signature = sign("sha256", bytes, { key: pair.privateKey, ...raw });
      expect(verify("sha256", bytes, pair.publicKey, derOfP256Signature(signature))).toBe(true);
    }
  });

  it("come back the same, with leading zeros and first bits set", () => {
    const half = fc.oneof(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.tuple(fc.nat({ max: 32 }), fc.uint8Array({ minLength: 32, maxLength: 32 })).map(([zeros, bytes]) => bytes.fill(0, 0, zeros)),
    );
    fc.assert(
      fc.property(half, half, (r, s) => {
        const signature = Buffer.concat([r, s]);
        expect(rawOfP256Signature(derOfP256Signature(signature))).toEqual(signature);
      }),
    );
  });

  it("of nought, or of another length, do not verify", () => {
    expect(verify("sha256", Buffer.alloc(1), pair.publicKey, derOfP256Signature(Buffer.alloc(64)))).toBe(false);
    for (const size of [0, 63, 65, 96]) expect(() => derOfP256Signature(Buffer.alloc(size))).toThrow("ECDSA");
    const der = sign("sha256", Buffer.alloc(1), pair.privateKey);
    for (let cut = 0; cut < der.length; cut += 1) expect(() => rawOfP256Signature(der.subarray(0, cut))).toThrow("ECDSA");
    expect(() => rawOfP256Signature(Buffer.concat([der, Buffer.of(0)]))).toThrow("ECDSA");
  });
});
