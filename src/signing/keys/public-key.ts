import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { SigningError } from "../errors.ts";
import { keyTypeOf, type KeyType } from "./key-types.ts";

/** A key that the caller trusts for verification. */
export interface PublicKey {
  readonly key: KeyObject;
  readonly type: KeyType;
  /** SHA-256 of the SubjectPublicKeyInfo DER, lower-case hex. How reports name the key. */
  readonly fingerprint: string;
  /** Where the key came from, for messages: a file name, a URI. */
  readonly source: string;
}

/** A public key in memory, and what to call it in messages. */
export interface PublicKeySource {
  /** PEM (`PUBLIC KEY`, or a certificate is refused) or SPKI DER. */
  readonly bytes: Uint8Array | string;
  readonly source: string;
}

const maxKeyBytes = 64 * 1024;

/**
 * Parses a public key: SPKI PEM as cosign writes it, or SPKI DER.
 *
 * A private key is refused although a public key could be derived from it: it has no business at the verifier.
 * Throws `ERR_SIGNING_KEY_MALFORMED` or `ERR_SIGNING_KEY_UNSUPPORTED`.
 */
export function loadPublicKey({ bytes, source }: PublicKeySource): PublicKey {
  if (bytes.length > maxKeyBytes) throw malformed(source, `larger than ${maxKeyBytes} bytes`);
  const buffer = typeof bytes === "string" ? Buffer.from(bytes) : Buffer.from(bytes);
  const text = buffer.toString("latin1");
  const label = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(text)?.[1];
  if (label?.endsWith("PRIVATE KEY"))
    throw malformed(source, "a private key", "give the public key (cosign.pub); ociseal key public makes it");
  if (label !== undefined && label !== "PUBLIC KEY") throw malformed(source, `a PEM file of type ${label}`);
  if (label !== undefined && text.split("-----BEGIN ").length > 2) throw malformed(source, "a PEM file with more than one block");
  let key: KeyObject;
  try {
    key = label === undefined ? createPublicKey({ key: buffer, format: "der", type: "spki" }) : createPublicKey(buffer);
  } catch (cause) {
    throw malformed(source, "neither SPKI PEM nor DER", undefined, cause);
  }
  return publicKeyOf(key, source);
}

/** Wraps a key object. Throws `ERR_SIGNING_KEY_UNSUPPORTED`. */
export function publicKeyOf(key: KeyObject, source: string): PublicKey {
  const type = keyTypeOf(key, source);
  return { key, type, source, fingerprint: createHash("sha256").update(spkiOf(key)).digest("hex") };
}

/** SubjectPublicKeyInfo, DER. Source: RFC 5280 section 4.1.2.7. */
export function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" });
}

/** SPKI PEM as cosign writes it, of a public key or of the one that belongs to a private key: 64 columns, a line feed at the end. */
export function publicPemOf(key: KeyObject): string {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return publicKey.export({ format: "pem", type: "spki" }).toString();
}

function malformed(source: string, got: string, hint?: string, cause?: unknown): SigningError {
  return new SigningError("ERR_SIGNING_KEY_MALFORMED", {
    message: `${source} is not a public key: expected SPKI PEM (PUBLIC KEY) or DER, got ${got}`,
    hint: hint ?? "give the public key that belongs to the signer: a PEM file that begins with -----BEGIN PUBLIC KEY-----",
    cause,
  });
}
