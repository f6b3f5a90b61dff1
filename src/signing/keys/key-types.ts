import { sign, verify, type KeyObject } from "node:crypto";
import { SigningError } from "../errors.ts";

/** The key types that cosign knows. */
export type KeyType = "ecdsa-p256" | "ecdsa-p384" | "ecdsa-p521" | "rsa" | "ed25519";

/** `sha256` is what every released verifier reads by default; `curve` is what cosign 3 and image-rs use for P-384 and P-521. */
export type HashRule = "sha256" | "curve";

interface KeyTypeRow {
  /** Node's hash name; `undefined` where the algorithm hashes by itself. */
  readonly hashes: Readonly<Record<HashRule, string | undefined>>;
  /** Beyond the hashes: the pre-hashed variant that cosign 3 writes for Ed25519. RFC 8032 section 5.1. */
  readonly prehashed: "ed25519ph" | "none";
  /** Name in Sigstore's documents, with the `sha256` rule; `{bits}` stands for the size of an RSA key. */
  readonly details: string;
}

/**
 * Everything about a key type in one row. What a signature says about its own algorithm is never asked: the trusted
 * key decides.
 *
 * Measured: cosign 2.5 and 3.1 and skopeo 1.18 and 1.22 verify EC keys of every curve with SHA-256 by default, and pure
 * Ed25519; cosign 3.1 writes the curve's hash and Ed25519ph, which it cannot verify itself.
 */
const keyTypes: Readonly<Record<KeyType, KeyTypeRow>> = {
  "ecdsa-p256": { hashes: { sha256: "sha256", curve: "sha256" }, prehashed: "none", details: "PKIX_ECDSA_P256_SHA_256" },
  "ecdsa-p384": { hashes: { sha256: "sha256", curve: "sha384" }, prehashed: "none", details: "PKIX_ECDSA_P384_SHA_256" },
  "ecdsa-p521": { hashes: { sha256: "sha256", curve: "sha512" }, prehashed: "none", details: "PKIX_ECDSA_P521_SHA_256" },
  rsa: { hashes: { sha256: "sha256", curve: "sha256" }, prehashed: "none", details: "PKIX_RSA_PKCS1V15_{bits}_SHA256" },
  ed25519: { hashes: { sha256: undefined, curve: undefined }, prehashed: "ed25519ph", details: "PKIX_ED25519" },
};

/** Node's names of curves and of types without curve. */
const namedTypes: Readonly<Record<string, KeyType>> = {
  prime256v1: "ecdsa-p256",
  secp384r1: "ecdsa-p384",
  secp521r1: "ecdsa-p521",
  rsa: "rsa",
  ed25519: "ed25519",
};

const rsaBits = { min: 2048, max: 8192 } as const;

/** The row of a key. Throws `ERR_SIGNING_KEY_UNSUPPORTED`. */
export function keyTypeOf(key: KeyObject, subject: string): KeyType {
  const { namedCurve = "unnamed", modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const name = key.asymmetricKeyType ?? "secret";
  const type = Object.hasOwn(namedTypes, name === "ec" ? namedCurve : name) ? namedTypes[name === "ec" ? namedCurve : name] : undefined;
  if (type === undefined) throw unsupported(subject, name === "ec" ? `an EC key on curve ${namedCurve}` : `a key of type ${name}`);
  if (type === "rsa" && (modulusLength < rsaBits.min || modulusLength > rsaBits.max)) {
    throw unsupported(subject, `an RSA key of ${modulusLength} bits`);
  }
  return type;
}

/** Signs as verifiers expect it: ECDSA as ASN.1 DER, RSA as PKCS#1 v1.5, Ed25519 pure. */
export function signBytes(message: Uint8Array, key: KeyObject, type: KeyType, rule: HashRule): Buffer {
  return sign(keyTypes[type].hashes[rule], message, key);
}

/**
 * Whether a signature over the message is good under a trusted key, by any hash that is in use for that key's type.
 * A signature of the wrong form is a bad signature, not an error.
 */
export async function verifyBytes(message: Uint8Array, key: KeyObject, type: KeyType, signature: Uint8Array): Promise<boolean> {
  if (verifyBytesNow(message, key, type, signature)) return true;
  if (keyTypes[type].prehashed === "none" || signature.length !== 64) return false;
  return await verifyEd25519ph(message, key, signature);
}

/** As {@link verifyBytes} for everything that node:crypto can do: all but Ed25519ph. */
export function verifyBytesNow(message: Uint8Array, key: KeyObject, type: KeyType, signature: Uint8Array): boolean {
  const { hashes } = keyTypes[type];
  return [...new Set([hashes.sha256, hashes.curve])].some((hash) => verify(hash, message, key, signature));
}

/** How Sigstore's documents name a key's algorithm. Source: sigstore/protobuf-specs protos/sigstore_common.proto, `PublicKeyDetails`. */
export function keyDetailsOf(key: KeyObject, type: KeyType): string {
  return keyTypes[type].details.replace("{bits}", String(key.asymmetricKeyDetails?.modulusLength ?? ""));
}

// node:crypto has no Ed25519ph, and only cosign 3 writes it: whoever verifies it installs the package.
async function verifyEd25519ph(message: Uint8Array, key: KeyObject, signature: Uint8Array): Promise<boolean> {
  const curve = await import("@noble/curves/ed25519.js").catch((cause: unknown) => {
    throw new SigningError("ERR_SIGNING_KEY_UNSUPPORTED", {
      message: "the signature is not pure Ed25519, and Ed25519ph (as cosign 3 writes it) needs the package @noble/curves",
      hint: "install it (npm install @noble/curves), or sign with a P-256 key, which every verifier reads",
      cause,
    });
  });
  const raw = key.export({ format: "jwk" }).x;
  if (raw === undefined) return false;
  return curve.ed25519ph.verify(signature, message, Buffer.from(raw, "base64url"));
}

function unsupported(subject: string, what: string): SigningError {
  return new SigningError("ERR_SIGNING_KEY_UNSUPPORTED", {
    message: `${subject} is ${what} (expected ECDSA on P-256, P-384 or P-521, RSA of ${rsaBits.min} to ${rsaBits.max} bits, or Ed25519)`,
    hint: "a P-256 key is what every verifier accepts: ociseal key generate cosign",
  });
}
