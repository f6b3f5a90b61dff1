import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint } from "jose";
import { describe, expect, it } from "vitest";
import { parsePrivateKey, parsePublicKey, publicJwkOf } from "../../src/keywrap/index.ts";
import { certificatePem } from "./certificate.ts";
import { codeOf, ec, rsa } from "./keys.ts";

const keys: readonly (readonly [string, KeyObject])[] = [
  ["RSA", rsa],
  ["P-256", ec("P-256")],
  ["P-384", ec("P-384")],
  ["P-521", ec("P-521")],
];
const password = "sec:ret";
const bytes = (value: string | Buffer) => Buffer.from(value);

describe.each(keys)("%s keys", (name, key) => {
  const own = name === "RSA" ? "pkcs1" : "sec1";
  const encryption = { cipher: "aes-256-cbc", passphrase: password };
  const forms: readonly (readonly [string, Buffer, string | undefined])[] = [
    ["PKCS#8 PEM", bytes(key.export({ type: "pkcs8", format: "pem" })), undefined],
    [`${own} PEM`, bytes(key.export({ type: own, format: "pem" })), undefined],
    ["PKCS#8 DER", bytes(key.export({ type: "pkcs8", format: "der" })), undefined],
    [`${own} DER`, bytes(key.export({ type: own, format: "der" })), undefined],
    ["encrypted PKCS#8 PEM", bytes(key.export({ type: "pkcs8", format: "pem", ...encryption })), password],
    ["encrypted PKCS#8 DER", bytes(key.export({ type: "pkcs8", format: "der", ...encryption })), password],
    ["legacy encrypted PEM", bytes(key.export({ type: own, format: "pem", ...encryption })), password],
    ["JWK", bytes(JSON.stringify(key.export({ format: "jwk" }))), undefined],
    ["JWK with white space before it", bytes(`\n ${JSON.stringify(key.export({ format: "jwk" }), undefined, 2)}`), undefined],
    [
      "PEM after other text",
      bytes(`Bag Attributes\n    friendlyName: x\n${key.export({ type: "pkcs8", format: "pem" }).toString()}`),
      undefined,
    ],
    [
      "PEM after EC parameters and a certificate",
      bytes(
        `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${certificatePem}${key.export({ type: own, format: "pem" }).toString()}`,
      ),
      undefined,
    ],
  ];

  it.each(forms)("are read from %s", async (_, file, pass) => {
    const parsed = parsePrivateKey(file, { password: pass });
    expect(parsed.key.equals(key)).toBe(true);
    expect(parsed.thumbprint).toBe(await calculateJwkThumbprint(publicJwkOf(parsed) as Parameters<typeof calculateJwkThumbprint>[0]));
  });

  it("say of a cosign key that it opens nothing", () => {
    for (const kind of ["SIGSTORE", "COSIGN"]) {
      const key = Buffer.from(`-----BEGIN ENCRYPTED ${kind} PRIVATE KEY-----\neyJrZGYi\n-----END ENCRYPTED ${kind} PRIVATE KEY-----\n`);
      expect(() => parsePrivateKey(key)).toThrow("a cosign key, which signs and opens nothing");
    }
  });

  it.each(forms.filter(([, , pass]) => pass !== undefined))("need the right password: %s", async (form, file) => {
    expect(await codeOf(() => parsePrivateKey(file))).toBe("ERR_KEYWRAP_PASSWORD_MISSING");
    const wrong = await codeOf(() => parsePrivateKey(file, { password: "wrong" }));
    expect(wrong).toBe(form.endsWith("DER") ? "ERR_KEYWRAP_KEY_MALFORMED" : "ERR_KEYWRAP_PASSWORD_WRONG");
    for (const end of ["\n", "\r\n"]) expect(parsePrivateKey(file, { password: Buffer.from(password + end) }).key.equals(key)).toBe(true);
  });

  const publicKey = createPublicKey(key);
  const publicForms: readonly (readonly [string, Buffer])[] = [
    ["SPKI PEM", bytes(publicKey.export({ type: "spki", format: "pem" }))],
    ["SPKI DER", bytes(publicKey.export({ type: "spki", format: "der" }))],
    ["JWK", bytes(JSON.stringify(publicKey.export({ format: "jwk" })))],
    ...(name === "RSA"
      ? [
          ["PKCS#1 PEM", bytes(publicKey.export({ type: "pkcs1", format: "pem" }))] as const,
          ["PKCS#1 DER", bytes(publicKey.export({ type: "pkcs1", format: "der" }))] as const,
        ]
      : []),
  ];

  it.each(publicForms)("are recipients from %s", (_, file) => {
    expect(parsePublicKey(file).key.equals(publicKey)).toBe(true);
    expect(parsePublicKey(file).thumbprint).toBe(parsePrivateKey(bytes(key.export({ type: "pkcs8", format: "der" }))).thumbprint);
  });

  it.each(forms.filter(([, , pass]) => pass === undefined).map(([form, file]) => [form, file] as const))(
    "are no recipients from the private %s",
    async (form, file) => {
      expect(await codeOf(() => parsePublicKey(file))).toBe(form.includes("certificate") ? "none" : "ERR_KEYWRAP_KEY_PRIVATE");
    },
  );
});

it("reads the public key out of a certificate, PEM and DER", () => {
  const pem = parsePublicKey(Buffer.from(certificatePem));
  const der = Buffer.from(certificatePem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  expect(parsePublicKey(der).thumbprint).toBe(pem.thumbprint);
  expect(pem.type).toBe("ec");
});

describe("refuses as a recipient", () => {
  const pem = (key: KeyObject) => Buffer.from(createPublicKey(key).export({ type: "spki", format: "pem" }));
  it.each([
    ["an Ed25519 key", pem(generateKeyPairSync("ed25519").privateKey), "ERR_KEYWRAP_KEY_UNSUPPORTED"],
    ["an X25519 key", pem(generateKeyPairSync("x25519").privateKey), "ERR_KEYWRAP_KEY_UNSUPPORTED"],
    ["a key on secp256k1", pem(ec("secp256k1")), "ERR_KEYWRAP_KEY_UNSUPPORTED"],
    ["a weak RSA key", pem(generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey), "ERR_KEYWRAP_KEY_UNSUPPORTED"],
    [
      "a JWK for signatures",
      Buffer.from(JSON.stringify({ ...createPublicKey(rsa).export({ format: "jwk" }), use: "sig" })),
      "ERR_KEYWRAP_KEY_UNSUPPORTED",
    ],
    ["an empty file", Buffer.alloc(0), "ERR_KEYWRAP_KEY_MALFORMED"],
    ["text", Buffer.from("hello"), "ERR_KEYWRAP_KEY_MALFORMED"],
    ["JSON that is no JWK", Buffer.from('{"a":1}'), "ERR_KEYWRAP_KEY_MALFORMED"],
    ["a cut PEM", Buffer.from("-----BEGIN PUBLIC KEY-----\nMFkw\n"), "ERR_KEYWRAP_KEY_MALFORMED"],
    ["a damaged PEM", Buffer.from("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"), "ERR_KEYWRAP_KEY_MALFORMED"],
    ["a huge file", Buffer.alloc(2 << 20, 0x41), "ERR_KEYWRAP_KEY_MALFORMED"],
  ])("%s", async (_, file, code) => {
    expect(await codeOf(() => parsePublicKey(file))).toBe(code);
  });
});
