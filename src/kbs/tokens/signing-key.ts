import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { isObject } from "../protocol/shape.ts";
import { KbsError } from "../errors.ts";

/** The public half of a signing key, as it stands in token headers and in the JWKS. */
export interface PublicSigningJwk {
  readonly alg: "ES256" | "EdDSA";
  readonly kty: "EC" | "OKP";
  readonly crv: "P-256" | "Ed25519";
  readonly x: string;
  readonly y?: string | undefined;
}

/** The public half. */
export interface VerifyingKey {
  /** RFC 7638 thumbprint, base64url. */
  readonly kid: string;
  readonly algorithm: "ES256" | "EdDSA";
  readonly publicKey: KeyObject;
  readonly jwk: PublicSigningJwk;
}

export interface SigningKey extends VerifyingKey {
  readonly privateKey: KeyObject;
}

/** Makes a key pair. */
export function generateSigningKey(algorithm: "ES256" | "EdDSA"): SigningKey {
  const { privateKey } = algorithm === "ES256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("ed25519");
  return signingKeyOf(privateKey);
}

/** Takes a P-256 or Ed25519 private key. Throws `ERR_KBS_CONFIG_INVALID` for others. */
export function signingKeyOf(privateKey: KeyObject): SigningKey {
  return { ...verifyingKeyOf(createPublicKey(privateKey)), privateKey };
}

function verifyingKeyOf(publicKey: KeyObject): VerifyingKey {
  const exported: unknown = publicKey.export({ format: "jwk" });
  if (!isObject(exported) || typeof exported["x"] !== "string") throw unsuitable();
  const { kty, crv, x, y } = exported;
  if (kty === "EC" && crv === "P-256" && typeof y === "string") {
    const kid = thumbprint({ crv, kty, x, y });
    return { kid, algorithm: "ES256", publicKey, jwk: { alg: "ES256", kty, crv, x, y } };
  }
  if (kty === "OKP" && crv === "Ed25519") {
    return { kid: thumbprint({ crv, kty, x }), algorithm: "EdDSA", publicKey, jwk: { alg: "EdDSA", kty, crv, x } };
  }
  throw unsuitable();
}

/** Reads a PKCS#8 or SEC1 PEM. Throws `ERR_KBS_CONFIG_INVALID`. */
export function parseSigningKey(pem: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: "a signing key is not a PEM private key", cause });
  }
  return signingKeyOf(key);
}

/** Reads the public half from a PEM of either half. Throws `ERR_KBS_CONFIG_INVALID`. */
export function parseVerifyingKey(pem: string): VerifyingKey {
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (cause) {
    throw new KbsError("ERR_KBS_CONFIG_INVALID", { message: "a verifying key is not a PEM key", cause });
  }
  return verifyingKeyOf(key);
}

function thumbprint(members: Readonly<Record<string, string>>): string {
  return createHash("sha256").update(JSON.stringify(members)).digest("base64url");
}

function unsuitable(): KbsError {
  return new KbsError("ERR_KBS_CONFIG_INVALID", {
    message: "a signing key must be on P-256 or Ed25519",
    hint: "openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256",
  });
}
