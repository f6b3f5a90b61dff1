import { createECDH, ECDH } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KbsError } from "../../src/kbs/errors.ts";
import { ecCurves, parseTeePublicKey, type EcCurve } from "../../src/kbs/protocol/tee-key.ts";

function keyOf(crv: EcCurve, x: Buffer, y: Buffer): unknown {
  return { kty: "EC", crv, alg: "ECDH-ES+A256KW", x: x.toString("base64url"), y: y.toString("base64url") };
}

/** Whether a key is taken; what is refused is refused for its point. */
function isTaken(crv: EcCurve, x: Buffer, y: Buffer): boolean {
  try {
    parseTeePublicKey(keyOf(crv, x, y));
    return true;
  } catch (error) {
    if (error instanceof KbsError && error.message.includes("not a point on its curve")) return false;
    throw error;
  }
}

function isTakenByOpenSsl(crv: EcCurve, x: Buffer, y: Buffer): boolean {
  try {
    ECDH.convertKey(Buffer.concat([Buffer.of(4), x, y]), ecCurves[crv].openssl);
    return true;
  } catch {
    return false;
  }
}

const bytesOf = (value: bigint, size: number): Buffer => Buffer.from(value.toString(16).padStart(2 * size, "0"), "hex");

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (const bit of exponent.toString(2)) result = (result * result * (bit === "1" ? base : 1n)) % modulus;
  return result;
}

/** The first points of a curve by their x, both with either y. */
function smallPoints(crv: EcCurve): readonly (readonly [bigint, bigint])[] {
  const { p, b } = ecCurves[crv];
  return Array.from({ length: 40 }, (_, i) => BigInt(i)).flatMap((x) => {
    const square = (((x * x - 3n) * x + b) % p) + p;
    // Both primes are 3 modulo 4.
    const y = power(square % p, (p + 1n) / 4n, p);
    return (y * y - square) % p === 0n ? [[x, y] as const, [x, p - y] as const] : [];
  });
}

describe.each(["P-256", "P-521"] as const)("a guest's key on %s", (crv) => {
  const { openssl, size, p } = ecCurves[crv];

  it("is a point of the curve, and no other, as OpenSSL sees it", () => {
    const ecdh = createECDH(openssl);
    for (let i = 0; i < 50; i += 1) {
      const point = ecdh.generateKeys();
      const [x, y] = [point.subarray(1, 1 + size), point.subarray(1 + size)];
      expect(isTaken(crv, x, y)).toBe(true);
      fc.assert(
        fc.property(fc.nat(8 * size - 1), fc.constantFrom(0, 1), (bit, which) => {
          const changed = [Buffer.from(x), Buffer.from(y)] as const;
          const target = changed[which === 0 ? 0 : 1];
          target[bit >> 3] = (target[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          expect(isTaken(crv, ...changed)).toBe(isTakenByOpenSsl(crv, ...changed));
        }),
        { numRuns: 20 },
      );
    }
  });

  it("is written in one way only: coordinates below the prime", () => {
    const points = smallPoints(crv);
    expect(points.length).toBeGreaterThan(10);
    for (const [x, y] of points) {
      expect(isTaken(crv, bytesOf(x, size), bytesOf(y, size))).toBe(true);
      expect(isTakenByOpenSsl(crv, bytesOf(x, size), bytesOf(y, size))).toBe(true);
      expect(isTaken(crv, bytesOf(x + p, size), bytesOf(y, size))).toBe(false);
      expect(isTakenByOpenSsl(crv, bytesOf(x + p, size), bytesOf(y, size))).toBe(false);
    }
  });

  it.each([
    ["nothing", 0n, 0n],
    ["the prime", p, p],
    ["the prime and nothing", 0n, p],
    ["one", 1n, 1n],
    ["all ones", 2n ** BigInt(8 * size) - 1n, 2n ** BigInt(8 * size) - 1n],
  ] as const)("is not %s", (_what, x, y) => {
    expect(isTaken(crv, bytesOf(x, size), bytesOf(y, size))).toBe(false);
    expect(isTakenByOpenSsl(crv, bytesOf(x, size), bytesOf(y, size))).toBe(false);
  });
});
