import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, scrypt, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { decodeBase64, parseJson } from "../../bytes/index.ts";
import { SigningError } from "../errors.ts";
import { exactObject, exactText } from "../shape.ts";
import { publicPemOf } from "./public-key.ts";

/** UTF-8 bytes are what counts; the empty password is a password. A function is asked only when the key is encrypted. */
export type Password = string | (() => string | Promise<string>);

/** A private key in memory, and what to call it in messages. */
export interface PrivateKeySource {
  /** PEM: cosign's and Sigstore's encrypted form, PKCS#8 (encrypted or not), EC, RSA. */
  readonly pem: Uint8Array | string;
  readonly source: string;
  readonly password?: Password | undefined;
}

/** A key pair as `cosign generate-key-pair` writes it: the files cosign.key (mode 0600) and cosign.pub (0644). */
export interface CosignKeyPair {
  readonly privatePem: string;
  readonly publicPem: string;
}

/** Source: sigstore/cosign pkg/cosign/keys.go; secure-systems-lab/go-securesystemslib encrypted/encrypted.go. */
const cosignLabels: ReadonlySet<string> = new Set(["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"]);
const plainLabels: ReadonlySet<string> = new Set(["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"]);
const scryptCosts = { written: 65_536, read: [32_768, 65_536, 131_072], r: 8, p: 1 } as const;
const sizes = { salt: 32, nonce: 24, key: 32 } as const;
/** scrypt needs 128·N·r bytes: 128 MiB at the highest cost. Node's own limit of 32 MiB refuses every cosign key. */
const scryptMaxMemory = 256 * 1024 * 1024;
const maxKeyBytes = 64 * 1024;

const deriveKey = promisify<string, Uint8Array, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt);

/** Makes an ECDSA P-256 key pair, the only type that every verifier reads in every format. */
export async function generateCosignKeyPair({ password }: { readonly password: string }): Promise<CosignKeyPair> {
  return await exportCosignKeyPair({ key: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey, password });
}

/** Writes an existing private key as cosign does: what `cosign import-key-pair` makes. */
export async function exportCosignKeyPair({
  key,
  password,
}: {
  readonly key: KeyObject;
  readonly password: string;
}): Promise<CosignKeyPair> {
  return { privatePem: await encryptCosignKey(key, password), publicPem: publicPemOf(createPublicKey(key)) };
}

/** Reads a private key of any supported form. Throws `ERR_SIGNING_KEY_MALFORMED` or `ERR_SIGNING_KEY_PASSWORD`. */
export async function loadPrivateKey({ pem, source, password }: PrivateKeySource): Promise<KeyObject> {
  if (pem.length > maxKeyBytes) throw malformed(source, `larger than ${maxKeyBytes} bytes`);
  const text = typeof pem === "string" ? pem : Buffer.from(pem).toString("latin1");
  // openssl ecparam writes the curve's parameters before the key.
  const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]{1,60})-----([\s\S]*?)-----END \1-----/g)];
  const block = blocks.find((candidate) => candidate[1]?.endsWith("PRIVATE KEY")) ?? blocks[0];
  const label = block?.[1] ?? "";
  if (block === undefined) throw malformed(source, "no complete PEM block");
  if (cosignLabels.has(label)) return await decryptCosignKey(block[2] ?? "", source, await ask(password, source));
  const encrypted = label === "ENCRYPTED PRIVATE KEY" || /Proc-Type:\s*4,ENCRYPTED/.test(block[2] ?? "");
  if (!encrypted && !plainLabels.has(label)) throw malformed(source, `a PEM block of type ${label}`);
  try {
    if (!encrypted) return createPrivateKey(block[0]);
  } catch (cause) {
    throw malformed(source, `a PEM block of type ${label} that cannot be decoded`, cause);
  }
  const passphrase = await ask(password, source);
  try {
    return createPrivateKey({ key: block[0], passphrase });
  } catch {
    // A damaged file and a wrong password are told apart by OpenSSL only by accident.
    throw wrongPassword(source);
  }
}

async function encryptCosignKey(key: KeyObject, password: string): Promise<string> {
  const salt = randomBytes(sizes.salt);
  const nonce = randomBytes(sizes.nonce);
  const { written: N, r, p } = scryptCosts;
  const secret = await deriveKey(password, salt, sizes.key, { N, r, p, maxmem: scryptMaxMemory });
  const { xsalsa20poly1305 } = await import("@noble/ciphers/salsa.js");
  const ciphertext = xsalsa20poly1305(secret, nonce).encrypt(key.export({ format: "der", type: "pkcs8" }));
  const body = JSON.stringify({
    kdf: { name: "scrypt", params: { N, r, p }, salt: salt.toString("base64") },
    cipher: { name: "nacl/secretbox", nonce: nonce.toString("base64") },
    ciphertext: Buffer.from(ciphertext).toString("base64"),
  });
  const lines =
    Buffer.from(body)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n${lines.join("\n")}\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n`;
}

async function decryptCosignKey(body: string, source: string, password: string): Promise<KeyObject> {
  const { N, salt, nonce, ciphertext } = parseCosignKey(body, source);
  const secret = await deriveKey(password, salt, sizes.key, { N, r: scryptCosts.r, p: scryptCosts.p, maxmem: scryptMaxMemory });
  const { xsalsa20poly1305 } = await import("@noble/ciphers/salsa.js");
  let der: Uint8Array;
  try {
    der = xsalsa20poly1305(secret, nonce).decrypt(ciphertext);
  } catch {
    throw wrongPassword(source);
  }
  try {
    return createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  } catch (cause) {
    throw malformed(source, "an encrypted key whose content is not PKCS#8", cause);
  }
}

function parseCosignKey(body: string, source: string): { N: number; salt: Buffer; nonce: Buffer; ciphertext: Buffer } {
  try {
    const document = parseJson(decodeBase64(body.replace(/\s+/g, ""), source), { maxBytes: maxKeyBytes, subject: source });
    const top = exactObject(document, "key", ["kdf", "cipher", "ciphertext"]);
    const kdf = exactObject(top["kdf"], "kdf", ["name", "params", "salt"]);
    const params = exactObject(kdf["params"], "kdf.params", ["N", "r", "p"]);
    const cipher = exactObject(top["cipher"], "cipher", ["name", "nonce"]);
    exactText(kdf["name"], "kdf.name", "scrypt");
    exactText(cipher["name"], "cipher.name", "nacl/secretbox");
    const N = scryptCosts.read.find((cost) => cost === params["N"]);
    // Any other cost is refused, not tried: N = 2^30 in a file would take the machine's memory.
    if (N === undefined || params["r"] !== scryptCosts.r || params["p"] !== scryptCosts.p) {
      throw new Error(`kdf.params: expected N of ${scryptCosts.read.join(", ")} with r=8 and p=1`);
    }
    return {
      N,
      salt: bytesOf(kdf["salt"], "kdf.salt", sizes.salt),
      nonce: bytesOf(cipher["nonce"], "cipher.nonce", sizes.nonce),
      ciphertext: bytesOf(top["ciphertext"], "ciphertext"),
    };
  } catch (cause) {
    throw malformed(source, "an encrypted key that cosign would not write", cause);
  }
}

function bytesOf(value: unknown, where: string, size?: number): Buffer {
  if (typeof value !== "string") throw new Error(`${where} is not text`);
  const bytes = decodeBase64(value, where);
  if (size !== undefined && bytes.length !== size) throw new Error(`${where} has ${bytes.length} bytes instead of ${size}`);
  return bytes;
}

async function ask(password: Password | undefined, source: string): Promise<string> {
  if (password === undefined) {
    throw new SigningError("ERR_SIGNING_KEY_PASSWORD", {
      message: `${source} is encrypted, and no password was given`,
      hint: "set COSIGN_PASSWORD (it may be empty), or run where the password can be asked for on a terminal",
    });
  }
  return typeof password === "string" ? password : await password();
}

function wrongPassword(source: string): SigningError {
  return new SigningError("ERR_SIGNING_KEY_PASSWORD", {
    message: `${source} cannot be decrypted: the password is wrong, or the file was changed`,
    hint: "give the password with which the key was made (COSIGN_PASSWORD)",
  });
}

function malformed(source: string, got: string, cause?: unknown): SigningError {
  return new SigningError("ERR_SIGNING_KEY_MALFORMED", {
    message: `${source} is not a private key: expected cosign's encrypted form, PKCS#8, EC or RSA PEM, got ${got}`,
    hint: "ociseal key generate cosign makes one; ociseal key import converts others",
    cause,
  });
}
