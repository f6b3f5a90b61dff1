import { generateKey } from "openpgp";
import { describe, expect, it } from "vitest";
import { describePacket, parseProviderConfig, recipientFrom, unwrapperFrom, type KeySources } from "../../src/keywrap/index.ts";
import { rsaCertificatePem } from "./certificate.ts";
import { codeOf, ec, rsa } from "./keys.ts";
import { createPublicKey, type KeyObject } from "node:crypto";

const spki = (key: KeyObject) => Buffer.from(createPublicKey(key).export({ type: "spki", format: "pem" }));
const pgp = await generateKey({ userIDs: [{ email: "al@example.test" }], type: "curve25519", format: "binary", passphrase: "pw" });
const files: Readonly<Record<string, Uint8Array>> = {
  "ec.pub": spki(ec()),
  "rsa.pub": spki(rsa),
  "cert.pem": Buffer.from(rsaCertificatePem),
  "pub.gpg": pgp.publicKey,
  "sec.gpg": pgp.privateKey,
};
const sources: KeySources = {
  readFile: async (path) => {
    const bytes = files[path];
    if (bytes === undefined) throw Object.assign(new Error(`no ${path}`), { code: "ENOENT" });
    return bytes;
  },
  providerConfig: async () => parseProviderConfig(Buffer.from('{"key-providers":{"mine":{"cmd":{"path":"/x"}}}}')),
};

describe("a recipient as text", () => {
  it.each([
    ["jwe:ec.pub", "jwe", "ECDH-ES+A256KW"],
    ["jwe:rsa.pub", "jwe", "RSA-OAEP-256"],
    ["jwe:rsa.pub;alg=RSA-OAEP", "jwe", "RSA-OAEP"],
    ["pkcs7:cert.pem", "pkcs7", "RSA-PKCS1-v1_5"],
    ["pgp:pub.gpg", "pgp", undefined],
    ["pgp:pub.gpg;key=al@example.test", "pgp", undefined],
    ["pkcs11:rsa.pub", "pkcs11", "RSA-OAEP-256"],
  ])("%s wraps as %s", async (spec, scheme, algorithm) => {
    const [packet] = (await (await recipientFrom(spec, sources))?.wrap(Buffer.from("{}"))) ?? [];
    expect(packet && describePacket(packet)[0]).toMatchObject({ scheme, algorithm });
  });

  it("may be a provider, with colons in what it is told", async () => {
    expect(await recipientFrom("provider:mine:kbs:///a/b/c", sources)).toMatchObject({ name: "provider:mine", schemes: ["provider.mine"] });
    expect(await codeOf(() => recipientFrom("provider:other", sources))).toBe("ERR_KEYWRAP_PROVIDER_CONFIG");
  });

  it.each(["jwe:", "jwe:ec.pub;alg=none", "jwe:ec.pub;x=y", "jwe:ec.pub;alg", "pgp:pub.gpg;key=", "provider:"])(
    "%s is refused",
    async (spec) => {
      expect(await codeOf(() => recipientFrom(spec, sources))).toBe("ERR_KEYWRAP_RECIPIENT_MALFORMED");
    },
  );

  it("is not ours under any other scheme", async () => {
    for (const spec of ["kbs:///a/b/c", "file", ""]) expect(await recipientFrom(spec, sources)).toBeUndefined();
  });
});

it("keys to open with may be a pgp keyring or a provider", async () => {
  expect(await codeOf(() => unwrapperFrom("pgp:sec.gpg", sources))).toBe("ERR_KEYWRAP_PASSWORD_MISSING");
  expect((await unwrapperFrom("pgp:sec.gpg", sources, "pw"))?.accepts("pgp")).toBe(true);
  expect((await unwrapperFrom("provider:mine", sources))?.accepts("provider.mine")).toBe(true);
  expect(await unwrapperFrom("key.pem", sources)).toBeUndefined();
});
