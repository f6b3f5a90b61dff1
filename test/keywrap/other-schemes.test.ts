import { constants, privateDecrypt } from "node:crypto";
import * as fc from "fast-check";
import { generateKey } from "openpgp";
import { beforeAll, describe, expect, it } from "vitest";
import {
  describePacket,
  pgpUnwrapper,
  pgpWrapper,
  pkcs11Unwrapper,
  pkcs11Wrapper,
  pkcs7Wrapper,
  privateKeyUnwrapper,
  type KeyPacket,
  type KeyWrapper,
  type OaepToken,
} from "../../src/keywrap/index.ts";
import { certificatePem, rsaCertificatePem } from "./certificate.ts";
import { codeOf, ec, holderOf, rsa } from "./keys.ts";

const optsdata = Buffer.from('{"symkey":"c2VjcmV0","digest":"","cipheroptions":{}}');
const one = async (wrapper: KeyWrapper): Promise<KeyPacket> => {
  const [packet] = await wrapper.wrap(optsdata);
  if (packet === undefined) throw new Error("nothing was wrapped");
  return packet;
};
const holder = holderOf(rsa);

/** Any change of a packet is found, or is none for this key. */
async function expectNoForgery(packet: KeyPacket, unwrap: (packet: KeyPacket) => Promise<Uint8Array | undefined>): Promise<void> {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(packet.bytes.length - 1),
      fc.integer({ min: 1, max: 255 }),
      fc.constantFrom("flip", "cut"),
      async (at, bits, kind) => {
        const bytes = kind === "cut" ? Buffer.from(packet.bytes.subarray(0, at)) : Buffer.from(packet.bytes);
        if (kind === "flip") bytes[at] = (bytes[at] ?? 0) ^ bits;
        let opened: Uint8Array | undefined;
        const code = await codeOf(async () => {
          opened = await unwrap({ ...packet, bytes });
        });
        expect(code).toMatch(/^(?:none|ERR_KEYWRAP_[A-Z_]+)$/);
        expect(opened === undefined || Buffer.from(opened).equals(optsdata)).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
}

describe("pkcs7", () => {
  it("wraps for a certificate and opens with its key alone", async () => {
    const packet = await one(pkcs7Wrapper({ certificate: Buffer.from(rsaCertificatePem) }));
    expect(describePacket(packet)).toEqual([
      { scheme: "pkcs7", id: expect.stringMatching(/^serial [0-9A-F]{16,}$/), kind: "certificate", algorithm: "RSA-PKCS1-v1_5" },
    ]);
    expect(Buffer.from((await privateKeyUnwrapper([holder.privateKey]).unwrap(packet)) ?? "")).toEqual(optsdata);
    expect(await privateKeyUnwrapper([holderOf(ec()).privateKey]).unwrap(packet)).toBeUndefined();
    await expectNoForgery(packet, (changed) => privateKeyUnwrapper([holder.privateKey]).unwrap(changed));
  });

  it("refuses certificates with other keys, and what is no certificate", async () => {
    expect(await codeOf(() => pkcs7Wrapper({ certificate: Buffer.from(certificatePem) }))).toBe("ERR_KEYWRAP_KEY_UNSUPPORTED");
    expect(await codeOf(() => pkcs7Wrapper({ certificate: Buffer.from("x") }))).toBe("ERR_KEYWRAP_KEY_MALFORMED");
  });

  it("refuses what is no packet of its kind", async () => {
    const unwrapper = privateKeyUnwrapper([holder.privateKey]);
    for (const hex of ["", "30", "3080", "30840000", "3003020100", "1f8101", `30820400${"00".repeat(100)}`]) {
      expect(await codeOf(() => unwrapper.unwrap({ scheme: "pkcs7", bytes: Buffer.from(hex, "hex") }))).toBe(
        "ERR_KEYWRAP_PACKET_MALFORMED",
      );
    }
  });
});

describe("pgp", () => {
  let keys: { publicKey: Uint8Array; privateKey: Uint8Array };
  let locked: { publicKey: string; privateKey: string };
  beforeAll(async () => {
    const userIDs = [{ name: "Al", email: "al@example.test" }];
    keys = await generateKey({ userIDs, type: "curve25519", format: "binary" });
    locked = await generateKey({
      userIDs: [{ name: "Bo", email: "bo@example.test" }],
      type: "curve25519",
      format: "armored",
      passphrase: "sec:ret",
    });
  });

  it("wraps for an address of a keyring and opens with its secret key", async () => {
    const packet = await one(await pgpWrapper({ keys: keys.publicKey, select: "al@example.test" }));
    expect(describePacket(packet)).toEqual([
      { scheme: "pgp", id: expect.stringMatching(/^[0-9A-F]{16}$/), kind: "pgp", algorithm: undefined },
    ]);
    const unwrapper = await pgpUnwrapper({ keys: keys.privateKey });
    expect(Buffer.from((await unwrapper.unwrap(packet)) ?? "")).toEqual(optsdata);
    const damaged = Buffer.from(packet.bytes);
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    expect(await codeOf(() => unwrapper.unwrap({ ...packet, bytes: damaged }))).toBe("ERR_KEYWRAP_PACKET_DAMAGED");
    await expectNoForgery(packet, (changed) => unwrapper.unwrap(changed));
  });

  it("reads armoured and locked keys, and is not fooled by somebody else's packet", async () => {
    const packet = await one(await pgpWrapper({ keys: Buffer.from(locked.publicKey) }));
    const secret = Buffer.from(locked.privateKey);
    expect(await codeOf(() => pgpUnwrapper({ keys: secret }))).toBe("ERR_KEYWRAP_PASSWORD_MISSING");
    expect(await codeOf(() => pgpUnwrapper({ keys: secret, options: { password: "wrong" } }))).toBe("ERR_KEYWRAP_PASSWORD_WRONG");
    const unwrapper = await pgpUnwrapper({ keys: secret, options: { password: "sec:ret\n" } });
    expect(Buffer.from((await unwrapper.unwrap(packet)) ?? "")).toEqual(optsdata);
    expect(await (await pgpUnwrapper({ keys: keys.privateKey })).unwrap(packet)).toBeUndefined();
  });

  it("selects whole addresses, names and key ids only", async () => {
    const id = describePacket(await one(await pgpWrapper({ keys: keys.publicKey })))[0]?.id ?? "";
    for (const select of ["Al", "AL@example.test", "Al <al@example.test>", id, `0x${id}`])
      expect(await codeOf(() => pgpWrapper({ keys: keys.publicKey, select }))).toBe("none");
    for (const select of ["al@example", "example.test", "l", id.slice(1)])
      expect(await codeOf(() => pgpWrapper({ keys: keys.publicKey, select }))).toBe("ERR_KEYWRAP_KEY_MALFORMED");
    expect(await codeOf(() => pgpWrapper({ keys: Buffer.from("x") }))).toBe("ERR_KEYWRAP_KEY_MALFORMED");
    expect(await codeOf(() => describePacket({ scheme: "pgp", bytes: Buffer.from("hello") }))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
  });
});

describe("pkcs11", () => {
  const token: OaepToken = {
    name: "a token",
    async decrypt(blob, hash) {
      try {
        return privateDecrypt({ key: rsa, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hash }, blob);
      } catch {
        return undefined;
      }
    },
  };

  it.each(["sha1", "sha256"] as const)("wraps for a public key and opens in its token, with %s", async (hash) => {
    const packet = await one(pkcs11Wrapper({ publicKey: holder.publicKey, hash }));
    expect(Buffer.from(packet.bytes).toString()).toMatch(
      /^\{"version":0,"recipients":\[\{"version":0,"blob":"[^"]+","hash":"sha(?:1|256)"\}\]\}$/,
    );
    expect(Buffer.from((await pkcs11Unwrapper(token).unwrap(packet)) ?? "")).toEqual(optsdata);
    expect(describePacket(packet)).toEqual([
      { scheme: "pkcs11", id: undefined, kind: "pkcs11", algorithm: hash === "sha1" ? "RSA-OAEP" : "RSA-OAEP-256" },
    ]);
    await expectNoForgery(packet, (changed) => pkcs11Unwrapper(token).unwrap(changed));
  });

  it("takes a missing hash for SHA-1, and refuses what it does not know", async () => {
    const packet = await one(pkcs11Wrapper({ publicKey: holder.publicKey, hash: "sha1" }));
    const form = JSON.parse(Buffer.from(packet.bytes).toString()) as { version: number; recipients: [{ blob: string }] };
    const written = (value: unknown): KeyPacket => ({ scheme: "pkcs11", bytes: Buffer.from(JSON.stringify(value)) });
    const bare = written({ recipients: [{ blob: form.recipients[0].blob }] });
    expect(Buffer.from((await pkcs11Unwrapper(token).unwrap(bare)) ?? "")).toEqual(optsdata);
    expect(await codeOf(() => describePacket(written({ ...form, version: 1 })))).toBe("ERR_KEYWRAP_SCHEME_UNSUPPORTED");
    for (const value of [5, {}, { recipients: [{}] }, { recipients: [{ blob: "?" }] }, { recipients: [{ blob: "AAAA", hash: "md5" }] }]) {
      expect(await codeOf(() => describePacket(written(value)))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
    }
  });

  it("says when the key is too small for the private options, or no RSA key", async () => {
    const large = Buffer.alloc(193);
    expect(await codeOf(() => pkcs11Wrapper({ publicKey: holder.publicKey }).wrap(large))).toBe("ERR_KEYWRAP_KEY_UNSUPPORTED");
    expect(await codeOf(() => pkcs11Wrapper({ publicKey: holderOf(ec()).publicKey }))).toBe("ERR_KEYWRAP_KEY_UNSUPPORTED");
  });
});
