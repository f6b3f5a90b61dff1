import { createHash, createPrivateKey, createPublicKey, X509Certificate, type JsonWebKey, type KeyObject } from "node:crypto";
import { parseJson } from "../bytes/index.ts";
import { KeywrapError } from "./errors.ts";

/** A key that can be a recipient, or open for one: RSA of 2048 bits and more, or EC on P-256, P-384 or P-521. */
export interface RecipientKey {
  readonly type: "rsa" | "ec";
  readonly key: KeyObject;
  /** The RFC 7638 thumbprint of its public part, SHA-256, base64url: the `kid` that we write and look for. */
  readonly thumbprint: string;
  /** The `alg` that a JWK asks for. */
  readonly algorithm: string | undefined;
}

/** What a key file is called in messages, and the password where it has one. */
export interface KeyFileOptions {
  readonly name?: string | undefined;
  /** A trailing newline is ignored: editors and `echo` leave one. */
  readonly password?: string | Uint8Array | undefined;
}

const maxKeyFile = 1 << 20;
const curves: ReadonlySet<string> = new Set(["prime256v1", "secp384r1", "secp521r1"]);
const minRsaBits = 2048;

/**
 * Reads a public key: PEM (SPKI, PKCS#1, certificate), DER (the same) or JWK. Throws `ERR_KEYWRAP_KEY_MALFORMED`,
 * `ERR_KEYWRAP_KEY_UNSUPPORTED`, `ERR_KEYWRAP_KEY_PRIVATE`.
 */
export function parsePublicKey(bytes: Uint8Array, options: KeyFileOptions = {}): RecipientKey {
  const { name = "public key" } = options;
  checkFile(bytes, name);
  const jwk = jwkOf(bytes, name);
  if (jwk !== undefined) {
    if (jwk.d !== undefined) throw isPrivate(name);
    return recipientKey(
      importJwk(() => createPublicKey({ key: jwk, format: "jwk" }), name),
      name,
      algorithmOf(jwk, name),
    );
  }
  const text = pemText(bytes);
  if (text !== undefined) {
    const block = pemBlock(text, /^(?:PUBLIC KEY|RSA PUBLIC KEY|CERTIFICATE|X509 CERTIFICATE|TRUSTED CERTIFICATE)$/);
    if (block === undefined)
      throw pemBlock(text, privateLabels) === undefined ? malformed(name, "PEM without a public key or certificate") : isPrivate(name);
    return recipientKey(
      attempt(name, () => createPublicKey(block)),
      name,
    );
  }
  const der = Buffer.from(bytes);
  // First: Node takes a private key for a public one, and gives its public part.
  if (derPrivateKey(der, undefined) !== undefined) throw isPrivate(name);
  const key = firstOf([
    () => createPublicKey({ key: der, format: "der", type: "spki" }),
    () => new X509Certificate(der).publicKey,
    () => createPublicKey({ key: der, format: "der", type: "pkcs1" }),
  ]);
  if (key === undefined) throw malformed(name, "neither PEM, DER nor JWK");
  return recipientKey(key, name);
}

/**
 * Reads a private key: PEM or DER of PKCS#1, PKCS#8, SEC1, encrypted PKCS#8 and the legacy encrypted PEM, or JWK.
 * Certificates and EC parameters beside it are passed over. Throws `ERR_KEYWRAP_KEY_MALFORMED`,
 * `ERR_KEYWRAP_KEY_UNSUPPORTED`, `ERR_KEYWRAP_PASSWORD_MISSING`, `ERR_KEYWRAP_PASSWORD_WRONG`.
 */
export function parsePrivateKey(bytes: Uint8Array, options: KeyFileOptions = {}): RecipientKey {
  const { name = "private key" } = options;
  checkFile(bytes, name);
  const passphrase = options.password === undefined ? undefined : trimPassword(options.password);
  const jwk = jwkOf(bytes, name);
  if (jwk !== undefined) {
    if (jwk.d === undefined) throw malformed(name, "a JWK without a private part");
    return recipientKey(
      importJwk(() => createPrivateKey({ key: jwk, format: "jwk" }), name),
      name,
      algorithmOf(jwk, name),
    );
  }
  const text = pemText(bytes);
  if (text === undefined) {
    const key = derPrivateKey(Buffer.from(bytes), passphrase);
    if (key === "encrypted") throw passwordMissing(name);
    if (key === undefined)
      throw malformed(name, passphrase === undefined ? "neither PEM, DER nor JWK" : "neither PEM, DER nor JWK, or the password is wrong");
    return recipientKey(key, name);
  }
  const block = pemBlock(text, privateLabels);
  if (block === undefined && /-----BEGIN ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY-----/.test(text))
    throw malformed(name, "a cosign key, which signs and opens nothing");
  if (block === undefined) throw malformed(name, "PEM without a private key");
  const encrypted = /BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: *4,ENCRYPTED/m.test(block);
  if (encrypted && passphrase === undefined) throw passwordMissing(name);
  try {
    return recipientKey(createPrivateKey({ key: block, format: "pem", ...(passphrase === undefined ? {} : { passphrase }) }), name);
  } catch (cause) {
    if (cause instanceof KeywrapError) throw cause;
    // Without the cause's text in ours: OpenSSL's says only "bad decrypt".
    throw encrypted ? passwordWrong(name, cause) : malformed(name, "a damaged PEM private key", cause);
  }
}

/** The public part, as JWK. */
export function publicJwkOf(key: RecipientKey): JsonWebKey {
  const publicKey = key.key.type === "private" ? createPublicKey(key.key) : key.key;
  return publicKey.export({ format: "jwk" });
}

const privateLabels = /^(?:RSA |EC |ENCRYPTED )?PRIVATE KEY$/;

function recipientKey(key: KeyObject, name: string, algorithm?: string): RecipientKey {
  const type = supportedType(key, name);
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const jwk = publicKey.export({ format: "jwk" });
  // Required members in lexical order, nothing else. Source: RFC 7638 section 3.2.
  const canonical = type === "rsa" ? { e: jwk.e, kty: jwk.kty, n: jwk.n } : { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y };
  return { type, key, algorithm, thumbprint: createHash("sha256").update(JSON.stringify(canonical)).digest("base64url") };
}

function supportedType(key: KeyObject, name: string): "rsa" | "ec" {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa") {
    if ((modulusLength ?? 0) < minRsaBits) throw unsupported(name, `an RSA key of ${modulusLength} bits`);
    return "rsa";
  }
  if (key.asymmetricKeyType === "ec") {
    if (!curves.has(namedCurve ?? "")) throw unsupported(name, `an EC key on ${namedCurve}`);
    return "ec";
  }
  throw unsupported(name, `a key of type ${key.asymmetricKeyType}`);
}

function jwkOf(bytes: Uint8Array, name: string): JsonWebKey | undefined {
  const first = Buffer.from(bytes.subarray(0, 64)).toString("latin1").trimStart();
  if (!first.startsWith("{")) return undefined;
  const value = attempt(name, () => parseJson(bytes, { maxBytes: maxKeyFile, subject: name }));
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(name, "JSON that is no JWK");
  if (!("kty" in value) || typeof value.kty !== "string") throw malformed(name, "JSON that is no JWK (it has no kty)");
  return value as JsonWebKey;
}

function algorithmOf(jwk: JsonWebKey, name: string): string | undefined {
  if (jwk["use"] !== undefined && jwk["use"] !== "enc") throw unsupported(name, "a JWK whose use is not encryption");
  const algorithm: unknown = jwk["alg"];
  return typeof algorithm === "string" ? algorithm : undefined;
}

function importJwk(load: () => KeyObject, name: string): KeyObject {
  try {
    return load();
  } catch (cause) {
    throw malformed(name, "a JWK with missing or wrong members", cause);
  }
}

function derPrivateKey(der: Buffer, passphrase: Buffer | undefined): KeyObject | "encrypted" | undefined {
  const secret = passphrase === undefined ? {} : { passphrase };
  let encrypted = false;
  const key = firstOf([
    () => {
      try {
        return createPrivateKey({ key: der, format: "der", type: "pkcs8", ...secret });
      } catch (cause) {
        encrypted ||= codeOf(cause) === "ERR_MISSING_PASSPHRASE";
        throw cause;
      }
    },
    () => createPrivateKey({ key: der, format: "der", type: "pkcs1" }),
    () => createPrivateKey({ key: der, format: "der", type: "sec1" }),
  ]);
  return key ?? (encrypted ? "encrypted" : undefined);
}

function codeOf(cause: unknown): unknown {
  return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined;
}

/** The first form that parses; which of them a DER file is cannot be told beforehand. */
function firstOf(loads: readonly (() => KeyObject)[]): KeyObject | undefined {
  for (const load of loads) {
    try {
      return load();
    } catch {
      continue;
    }
  }
  return undefined;
}

function pemText(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  return text.includes("-----BEGIN ") ? text : undefined;
}

/** The first block whose label fits. */
function pemBlock(text: string, label: RegExp): string | undefined {
  for (const match of text.matchAll(/-----BEGIN ([A-Z0-9 ]{1,60})-----[^-]*(?:-(?!----END)[^-]*)*-----END \1-----/g)) {
    if (label.test(match[1] ?? "")) return `${match[0]}\n`;
  }
  return undefined;
}

/** The password without one trailing line end. */
export function trimPassword(password: string | Uint8Array): Buffer {
  const bytes = Buffer.from(password);
  const end = bytes.length - (bytes.at(-1) === 0x0a ? (bytes.at(-2) === 0x0d ? 2 : 1) : 0);
  return bytes.subarray(0, end);
}

function attempt<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw malformed(name, "damaged", cause);
  }
}

function checkFile(bytes: Uint8Array, name: string): void {
  if (bytes.length === 0) throw malformed(name, "empty");
  if (bytes.length > maxKeyFile) throw malformed(name, `larger than ${maxKeyFile} bytes`);
}

function malformed(name: string, got: string, cause?: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KEY_MALFORMED", {
    message: `${name} is not a key (expected PEM, DER or JWK, got a file that is ${got})`,
    hint: "make a key pair with: ociseal key generate ec --out recipient",
    cause,
  });
}

function unsupported(name: string, got: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KEY_UNSUPPORTED", {
    message: `${name} cannot be a recipient (expected RSA of at least 2048 bits, or EC on P-256, P-384 or P-521, got ${got})`,
    hint: "make a key pair with: ociseal key generate ec --out recipient",
  });
}

function isPrivate(name: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KEY_PRIVATE", {
    message: `${name} holds a private key (expected a public one)`,
    hint: "write its public part with: ociseal key public FILE, and keep the private key away from where images are encrypted",
  });
}

function passwordMissing(name: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PASSWORD_MISSING", {
    message: `${name} is encrypted and no password was given`,
    hint: "append :file=PATH, :fd=N or :env=NAME to the key's file name",
  });
}

function passwordWrong(name: string, cause: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PASSWORD_WRONG", {
    message: `the password of ${name} is wrong, or the file is damaged`,
    hint: "check the password's source; one trailing newline is ignored, other white space is not",
    cause,
  });
}
