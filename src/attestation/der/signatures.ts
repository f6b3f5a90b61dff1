import { constants, createPublicKey, verify, type KeyObject } from "node:crypto";
import { refuse } from "../refuse.ts";

/** A way of signing certificates and lists, with the only encodings of its AlgorithmIdentifier that are accepted. */
export interface SignatureScheme {
  readonly name: string;
  readonly identifiers: readonly Buffer[];
  /** What `KeyObject` must say of the signer's key. */
  readonly key: { readonly type: "ec"; readonly curve: string } | { readonly type: "rsa"; readonly bits: number };
  verify(data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean;
}

/** Everything that Intel signs. Source: RFC 5758 section 3.2. */
export const ecdsaP256Sha256: SignatureScheme = {
  name: "ECDSA P-256 with SHA-256",
  identifiers: [Buffer.from("300a06082a8648ce3d040302", "hex")],
  key: { type: "ec", curve: "prime256v1" },
  verify: (data, key, signature) => verify("sha256", data, key, signature),
};

/**
 * Everything that AMD signs. node's own certificate check follows whatever parameters the certificate names, so weaker
 * ones would pass; these two encodings (trailer field written out or not) are the only ones AMD uses.
 * Source: RFC 8017 appendix A.2.3; reference C 1.7.
 */
export const rsaPssSha384: SignatureScheme = {
  name: "RSASSA-PSS 4096 with SHA-384, MGF1-SHA-384, salt 48",
  identifiers: [
    "304606092a864886f70d01010a3039a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130a303020101",
    "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130",
  ].map((hex) => Buffer.from(hex, "hex")),
  key: { type: "rsa", bits: 4096 },
  verify: (data, key, signature) => verify("sha384", data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }, signature),
};

/** What carries a signature over DER bytes. */
export interface SignedDer {
  readonly path: string;
  readonly tbs: Buffer;
  /** The raw outer AlgorithmIdentifier (equal to the inner one, or parsing failed). */
  readonly algorithm: Buffer;
  readonly signature: Buffer;
}

/** Checks scheme and signature. Throws a refusal with `SIGNATURE_ALGORITHM_UNEXPECTED` or `SIGNATURE_INVALID`. */
export function checkSignature(
  signed: SignedDer,
  scheme: SignatureScheme,
  signer: { readonly publicKey: KeyObject; readonly name: string },
): void {
  if (!scheme.identifiers.some((identifier) => identifier.equals(signed.algorithm))) {
    throw refuse("SIGNATURE_ALGORITHM_UNEXPECTED", {
      path: signed.path,
      message: `the signature is not ${scheme.name} with exactly the vendor's parameters`,
      actual: signed.algorithm.toString("hex").slice(0, 160),
    });
  }
  checkKeyType(signer.publicKey, scheme, signed.path);
  if (!scheme.verify(signed.tbs, signer.publicKey, signed.signature)) {
    throw refuse("SIGNATURE_INVALID", { path: signed.path, message: `the signature is not by ${signer.name}` });
  }
}

function checkKeyType(key: KeyObject, scheme: SignatureScheme, path: string): void {
  const details = key.asymmetricKeyDetails;
  const fits =
    scheme.key.type === "ec"
      ? key.asymmetricKeyType === "ec" && details?.namedCurve === scheme.key.curve
      : key.asymmetricKeyType === "rsa" && details?.modulusLength === scheme.key.bits;
  if (!fits) {
    throw refuse("SIGNATURE_ALGORITHM_UNEXPECTED", { path, message: `the signer's key is not of the kind that ${scheme.name} needs` });
  }
}

/** A public key from its SubjectPublicKeyInfo. Refuses what is no key or no point on its curve. */
export function importSpki(spki: Uint8Array, path: string): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch {
    throw refuse("KEY_UNUSABLE", { path, message: "the public key cannot be used: unknown kind, or not a point on its curve" });
  }
}

/** A P-256 public key from x‖y, big-endian, as Intel's structures carry it. Refuses zero and points off the curve. */
export function importP256Point(point: Uint8Array, path: string): KeyObject {
  try {
    const bytes = Buffer.from(point);
    return createPublicKey({
      key: { kty: "EC", crv: "P-256", x: bytes.subarray(0, 32).toString("base64url"), y: bytes.subarray(32, 64).toString("base64url") },
      format: "jwk",
    });
  } catch {
    throw refuse("KEY_UNUSABLE", { path, message: "the public key is not a point on P-256" });
  }
}
