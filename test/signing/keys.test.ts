import { createPrivateKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { scryptSync } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import {
  exportCosignKeyPair,
  generateCosignKeyPair,
  loadPrivateKey,
  loadPublicKey,
  loadSigner,
  publicPemOf,
} from "../../src/signing/index.ts";
import { missingPeers } from "../peers.ts";
import { newPrivateKey } from "./keys-fixture.ts";
import { removeFolder, run, temporaryFolder } from "./programs.ts";

const label = "ENCRYPTED SIGSTORE PRIVATE KEY";

function pemOf(document: unknown, type = label): string {
  const body = Buffer.from(typeof document === "string" ? document : JSON.stringify(document)).toString("base64");
  return `-----BEGIN ${type}-----\n${body.replace(/.{64}/g, "$&\n")}\n-----END ${type}-----\n`;
}

interface KeyDocument {
  kdf: { name: string; params: { N: number; r: number; p: number }; salt: string };
  cipher: { name: string; nonce: string };
  ciphertext: string;
}

/** An encrypted key made by other means than the code under test. */
function encrypted(der: Buffer, password: string, N = 65_536): KeyDocument {
  const salt = randomBytes(32);
  const nonce = randomBytes(24);
  const secret = scryptSync(password, salt, 32, { N, r: 8, p: 1, maxmem: 512 * 1024 * 1024 });
  const ciphertext = Buffer.from(xsalsa20poly1305(secret, nonce).encrypt(der)).toString("base64");
  return {
    kdf: { name: "scrypt", params: { N, r: 8, p: 1 }, salt: salt.toString("base64") },
    cipher: { name: "nacl/secretbox", nonce: nonce.toString("base64") },
    ciphertext,
  };
}

const der = newPrivateKey("ecdsa-p256").export({ format: "der", type: "pkcs8" });

describe("a cosign key pair", () => {
  it("is read again with its password, and only with it", async () => {
    const { privatePem, publicPem } = await generateCosignKeyPair({ password: "geheim" });
    expect(privatePem).toMatch(/^-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n(?:[A-Za-z0-9+/=]{1,64}\n)+-----END/);
    const signer = await loadSigner({ pem: privatePem, password: () => Promise.resolve("geheim"), source: "cosign.key" });
    expect(publicPemOf(signer.publicKey.key)).toBe(publicPem);
    const code = "ERR_SIGNING_KEY_PASSWORD";
    await expect(loadSigner({ pem: privatePem, password: "falsch", source: "cosign.key" })).rejects.toMatchObject({ code });
    await expect(loadSigner({ pem: privatePem, source: "cosign.key" })).rejects.toMatchObject({ code });
  });

  it.each(["ecdsa-p521", "ed25519"] as const)("of an imported key of type %s keeps the key", async (type) => {
    const key = newPrivateKey(type);
    const { privatePem } = await exportCosignKeyPair({ key, password: "" });
    const loaded = await loadPrivateKey({ pem: privatePem, password: "", source: "cosign.key" });
    expect(loaded.export({ format: "der", type: "pkcs8" }).equals(key.export({ format: "der", type: "pkcs8" }))).toBe(true);
  });

  it.each([
    [32_768, "ENCRYPTED COSIGN PRIVATE KEY"],
    [65_536, "ENCRYPTED COSIGN PRIVATE KEY"],
    [131_072, label],
  ])("with scrypt cost %i under the name %s is read", async (N, type) => {
    await loadPrivateKey({ pem: pemOf(encrypted(der, "p", N), type), password: "p", source: "cosign.key" });
  });

  const cases: readonly (readonly [string, (key: KeyDocument) => unknown])[] = [
    ["with a cost that nobody writes", (key) => ({ ...key, kdf: { ...key.kdf, params: { N: 16_384, r: 8, p: 1 } } })],
    ["with a cost that would take all memory", (key) => ({ ...key, kdf: { ...key.kdf, params: { N: 2 ** 30, r: 8, p: 1 } } })],
    ["with another r", (key) => ({ ...key, kdf: { ...key.kdf, params: { N: 65_536, r: 16, p: 1 } } })],
    ["with another p", (key) => ({ ...key, kdf: { ...key.kdf, params: { N: 65_536, r: 8, p: 64 } } })],
    ["with another derivation", (key) => ({ ...key, kdf: { ...key.kdf, name: "pbkdf2" } })],
    ["with another cipher", (key) => ({ ...key, cipher: { ...key.cipher, name: "aes" } })],
    ["with a short nonce", (key) => ({ ...key, cipher: { ...key.cipher, nonce: "AAAA" } })],
    ["with a short salt", (key) => ({ ...key, kdf: { ...key.kdf, salt: "AAAA" } })],
    ["with one more member", (key) => ({ ...key, extra: 1 })],
    ["without ciphertext", ({ kdf, cipher }) => ({ kdf, cipher })],
    ["that is a list", (key) => [key]],
    ["that is no JSON", () => "{"],
  ];

  it.each(cases)("%s is refused without trying", async (_, change) => {
    const document: KeyDocument = {
      kdf: { name: "scrypt", params: { N: 65_536, r: 8, p: 1 }, salt: randomBytes(32).toString("base64") },
      cipher: { name: "nacl/secretbox", nonce: randomBytes(24).toString("base64") },
      ciphertext: "AAAA",
    };
    const failing = loadPrivateKey({ pem: pemOf(change(document)), password: "p", source: "cosign.key" });
    await expect(failing).rejects.toMatchObject({ code: "ERR_SIGNING_KEY_MALFORMED", category: "no-key" });
  });

  it("whose content was changed, or is no key, is told", async () => {
    const key = encrypted(der, "p");
    const bytes = Buffer.from(key.ciphertext, "base64");
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    const source = "cosign.key";
    await expect(
      loadPrivateKey({ pem: pemOf({ ...key, ciphertext: bytes.toString("base64") }), password: "p", source }),
    ).rejects.toMatchObject({ code: "ERR_SIGNING_KEY_PASSWORD" });
    await expect(loadPrivateKey({ pem: pemOf(encrypted(Buffer.from("no key"), "p")), password: "p", source })).rejects.toMatchObject({
      code: "ERR_SIGNING_KEY_MALFORMED",
    });
  });
});

describe("a private key in other forms", () => {
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const sec1 = key.export({ format: "pem", type: "sec1" }).toString();
  const pkcs8 = key.export({ format: "pem", type: "pkcs8" }).toString();
  const locked = key.export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase: "p" }).toString();
  const legacy = key.export({ format: "pem", type: "sec1", cipher: "aes-256-cbc", passphrase: "p" }).toString();

  it.each([
    ["PKCS#8", pkcs8],
    ["EC", sec1],
    ["encrypted PKCS#8", locked],
    ["encrypted EC", legacy],
    ["EC after its parameters", `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${sec1}`],
  ])("%s is read", async (_, pem) => {
    const loaded = await loadPrivateKey({ pem, password: "p", source: "key.pem" });
    expect(loaded.export({ format: "der", type: "pkcs8" }).equals(der)).toBe(true);
  });

  it.each([
    ["no PEM", "hello", "ERR_SIGNING_KEY_MALFORMED"],
    ["a public key", publicPemOf(createPrivateKey(pkcs8)), "ERR_SIGNING_KEY_MALFORMED"],
    ["a cut file", pkcs8.slice(0, 100), "ERR_SIGNING_KEY_MALFORMED"],
    ["a damaged body", pkcs8.replace(/MIG/, "AAA"), "ERR_SIGNING_KEY_MALFORMED"],
    ["an encrypted key with the wrong password", locked, "ERR_SIGNING_KEY_PASSWORD"],
    ["too much", "x".repeat(100_000), "ERR_SIGNING_KEY_MALFORMED"],
  ])("%s is refused", async (_, pem, code) => {
    await expect(loadPrivateKey({ pem, password: "wrong", source: "key.pem" })).rejects.toMatchObject({ code });
  });
});

describe("a public key", () => {
  it.each([
    ["RSA of 1024 bits", generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey],
    ["a curve that cosign does not know", generateKeyPairSync("ec", { namedCurve: "secp256k1" }).publicKey],
    ["Ed448", generateKeyPairSync("ed448").publicKey],
    ["RSA-PSS", generateKeyPairSync("rsa-pss", { modulusLength: 2048 }).publicKey],
  ])("of %s is refused", (_, key) => {
    const bytes = key.export({ format: "pem", type: "spki" }).toString();
    expect(() => loadPublicKey({ bytes, source: "x.pub" })).toThrow(expect.objectContaining({ code: "ERR_SIGNING_KEY_UNSUPPORTED" }));
  });

  it.each([
    ["two keys", publicPemOf(createPrivateKey({ key: der, format: "der", type: "pkcs8" })).repeat(2)],
    ["a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ["nothing", ""],
    ["text", "ssh-ed25519 AAAA"],
  ])("file with %s is refused", (_, bytes) => {
    expect(() => loadPublicKey({ bytes, source: "x.pub" })).toThrow(expect.objectContaining({ code: "ERR_SIGNING_KEY_MALFORMED" }));
  });

  it("in PEM and in DER is the same key", () => {
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const pem = loadPublicKey({ bytes: publicPemOf(key), source: "x.pub" });
    const raw = loadPublicKey({ bytes: pem.key.export({ format: "der", type: "spki" }), source: "x.der" });
    expect(raw.fingerprint).toBe(pem.fingerprint);
  });
});

describe.skipIf(missingPeers("cosign-2.5", "cosign-3.1"))("real cosign and key files", () => {
  const folder = temporaryFolder();
  afterAll(() => removeFolder(folder));

  it("reads ours, also with an empty password, and tells the same public key", async () => {
    const own = mkdtempSync(join(folder, "own-"));
    for (const password of ["", "pässwörd"]) {
      const { privatePem, publicPem } = await generateCosignKeyPair({ password });
      writeFileSync(join(own, "k.key"), privatePem);
      for (const name of ["cosign-2.5", "cosign-3.1"] as const) {
        expect(await run(name, ["public-key", "--key", "k.key"], { COSIGN_PASSWORD: password }, own)).toMatchObject({
          code: 0,
          stdout: publicPem,
        });
      }
    }
  });
});
