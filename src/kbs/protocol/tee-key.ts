import { createPublicKey, ECDH, type KeyObject } from "node:crypto";
import { decodeBase64Url } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "./shape.ts";

/** The public key to which a guest wants its secrets wrapped; exactly these members are hashed into the evidence. */
export type TeePublicKey =
  | { readonly kty: "EC"; readonly crv: EcCurve; readonly alg: "ECDH-ES+A256KW"; readonly x: string; readonly y: string }
  | { readonly kty: "RSA"; readonly alg: "RSA-OAEP-256"; readonly n: string; readonly e: string };

export type EcCurve = "P-256" | "P-521";

/** Curves of `tee-pubkey`: OpenSSL's name and the field size in bytes. P-384 is not served by any peer. */
export const ecCurves = {
  "P-256": { openssl: "prime256v1", size: 32 },
  "P-521": { openssl: "secp521r1", size: 66 },
} as const satisfies Readonly<Record<EcCurve, { readonly openssl: string; readonly size: number }>>;

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

/** Refuses a point that is not on its curve, before anything is derived from it. */
function checkPoint(key: TeePublicKey): void {
  if (key.kty === "RSA") return void importTeePublicKey(key);
  const point = Buffer.concat([Buffer.of(4), bytesOf(key.x, "x"), bytesOf(key.y, "y")]);
  try {
    // Decoding a point checks it; a fifth of the cost of importing the key.
    ECDH.convertKey(point, ecCurves[key.crv].openssl);
  } catch (cause) {
    throw invalid("is not a point on its curve", cause);
  }
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
