import { createPublicKey, type KeyObject } from "node:crypto";
import { decodeBase64Url } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "./shape.ts";

/** The public key to which a guest wants its secrets wrapped; exactly these members are hashed into the evidence. */
export type TeePublicKey =
  | { readonly kty: "EC"; readonly crv: EcCurve; readonly alg: "ECDH-ES+A256KW"; readonly x: string; readonly y: string }
  | { readonly kty: "RSA"; readonly alg: "RSA-OAEP-256"; readonly n: string; readonly e: string };

export type EcCurve = "P-256" | "P-521";

/**
 * Curves of `tee-pubkey`: OpenSSL's name, the field size in bytes, and p and b of y² = x³ - 3x + b. P-384 is not served by
 * any peer. Source: NIST SP 800-186 section 3.2.1.
 */
export const ecCurves = {
  "P-256": {
    openssl: "prime256v1",
    size: 32,
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8_aa3a93e7_b3ebbd55_769886bc_651d06b0_cc53b0f6_3bce3c3e_27d2604bn,
  },
  "P-521": {
    openssl: "secp521r1",
    size: 66,
    p: 2n ** 521n - 1n,
    b: 0x0051_953eb961_8e1c9a1f_929a21a0_b68540ee_a2da725b_99b315f3_b8b48991_8ef109e1_56193951_ec7e937b_1652c0bd_3bb1bf07_3573df88_3d2c34f1_ef451fd4_6b503f00n,
  },
} as const satisfies Readonly<Record<EcCurve, EcCurveRow>>;

interface EcCurveRow {
  readonly openssl: string;
  readonly size: number;
  readonly p: bigint;
  readonly b: bigint;
}

const ecMembers = ["alg", "crv", "kty", "x", "y"];
const rsaMembers = ["alg", "e", "kty", "n"];
const minModulusBits = 2048;
const maxModulusBits = 8192;

/**
 * Parses a guest's `tee-pubkey`. Throws `ERR_KBS_EVIDENCE_INVALID`.
 *
 * Members beyond the five (EC) or four (RSA) are refused: peers drop them before hashing, so whoever sends them would
 * fail later with a digest mismatch that nobody can explain. RSA1_5 is refused (CVE-2023-46809).
 */
export function parseTeePublicKey(value: unknown): TeePublicKey {
  const key = readTeePublicKey(value);
  checkPoint(key);
  return key;
}

/** As {@link parseTeePublicKey}, for a key that stood in a token of ours: its point was checked when the token was made. */
export function readTeePublicKey(value: unknown): TeePublicKey {
  if (!isObject(value)) throw invalid("is not a JSON object");
  const text = (name: string): string => {
    const member = value[name];
    if (typeof member !== "string") throw invalid(`has no text member ${JSON.stringify(name)}`);
    return member;
  };
  const key = value["kty"] === "EC" ? parseEc(text) : value["kty"] === "RSA" ? parseRsa(text) : undefined;
  if (key === undefined) throw invalid("has an unsupported kty (expected EC or RSA)");
  const known = key.kty === "EC" ? ecMembers : rsaMembers;
  const extra = Object.keys(value).filter((name) => !known.includes(name));
  if (extra.length > 0) {
    throw invalid(
      `has members that are not hashed: ${extra.map((name) => name.slice(0, 40)).join(", ")} (send exactly ${known.join(", ")})`,
    );
  }
  return key;
}

function parseEc(text: (name: string) => string): TeePublicKey {
  const crv = text("crv");
  if (crv !== "P-256" && crv !== "P-521") throw invalid("has an unsupported crv (expected P-256 or P-521)");
  if (text("alg") !== "ECDH-ES+A256KW") throw invalid("has an unsupported alg (expected ECDH-ES+A256KW)");
  const { size } = ecCurves[crv];
  const coordinate = (name: string): string => {
    if (bytesOf(text(name), name).length !== size) throw invalid(`has a member ${name} that is not ${size} bytes`);
    return text(name);
  };
  return { kty: "EC", crv, alg: "ECDH-ES+A256KW", x: coordinate("x"), y: coordinate("y") };
}

function parseRsa(text: (name: string) => string): TeePublicKey {
  if (text("alg") !== "RSA-OAEP-256") throw invalid("has an unsupported alg (expected RSA-OAEP-256)");
  const modulus = bytesOf(text("n"), "n");
  const bits = modulus.length * 8;
  if (bits < minModulusBits || bits > maxModulusBits)
    throw invalid(`has a modulus of ${bits} bits (expected ${minModulusBits} to ${maxModulusBits})`);
  const exponent = bytesOf(text("e"), "e");
  // Public operations are done for strangers: a huge exponent would be a cheap way to burn our time.
  if (exponent.length > 4 || exponent.length === 0 || exponent.readUIntBE(0, exponent.length) < 65537)
    throw invalid("has an unsuitable public exponent");
  return { kty: "RSA", alg: "RSA-OAEP-256", n: text("n"), e: text("e") };
}

function bytesOf(text: string, name: string): Buffer {
  try {
    return decodeBase64Url(text, name);
  } catch (cause) {
    throw invalid(`has a member ${name} that is not base64url`, cause);
  }
}

/**
 * Refuses a point that is not on its curve, before it gets into a token. Everything here is public, and the equation is
 * solved in a tenth of the time in which OpenSSL sets the curve up to look at a point; it looks again when it derives from it.
 */
function checkPoint(key: TeePublicKey): void {
  if (key.kty === "RSA") return void importTeePublicKey(key);
  const { p, b } = ecCurves[key.crv];
  const [x, y] = [numberOf(key.x, "x"), numberOf(key.y, "y")];
  if (x >= p || y >= p || (y * y - (x * x - 3n) * x - b) % p !== 0n) throw invalid("is not a point on its curve");
}

function numberOf(text: string, name: string): bigint {
  return BigInt(`0x${bytesOf(text, name).toString("hex")}`);
}

/** The key as Node holds it. Throws `ERR_KBS_EVIDENCE_INVALID`. */
export function importTeePublicKey(key: TeePublicKey): KeyObject {
  try {
    return createPublicKey({ key: { ...key }, format: "jwk" });
  } catch (cause) {
    throw invalid("is not a valid key", cause);
  }
}

function invalid(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_EVIDENCE_INVALID", { message: `tee-pubkey ${what}`, cause });
}
