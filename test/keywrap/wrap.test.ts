import { randomBytes } from "node:crypto";
import { CompactEncrypt, GeneralEncrypt } from "jose";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  brokerUnwrapper,
  describePacket,
  jweWrapper,
  kbsWrapper,
  keksAtHand,
  privateKeyUnwrapper,
  unwrapFirst,
  withoutRecipients,
  type KeyBroker,
  type KeyPacket,
} from "../../src/keywrap/index.ts";
import { codeOf, ec, holderOf, rsa } from "./keys.ts";

const optsdata = Buffer.from('{"symkey":"c2VjcmV0","digest":"","cipheroptions":{}}');
const uri = "kbs:///default/image-kek/one";
const kek = randomBytes(32);
const one = async (packets: Promise<readonly KeyPacket[]>): Promise<KeyPacket> => {
  const [packet] = await packets;
  if (packet === undefined) throw new Error("nothing was wrapped");
  return packet;
};

describe("JWE recipients", () => {
  const holders = {
    "RSA-2048": holderOf(rsa),
    "P-256": holderOf(ec("P-256")),
    "P-384": holderOf(ec("P-384")),
    "P-521": holderOf(ec("P-521")),
  };

  it.each(Object.entries(holders))("wrap for %s and open with its private key alone", async (name, holder) => {
    const packet = await one(jweWrapper({ publicKey: holder.publicKey }).wrap(optsdata));
    expect(describePacket(packet)).toEqual([
      {
        scheme: "jwe",
        id: holder.publicKey.thumbprint,
        kind: "public-key",
        algorithm: name === "RSA-2048" ? "RSA-OAEP-256" : "ECDH-ES+A256KW",
      },
    ]);
    for (const [other, { privateKey }] of Object.entries(holders)) {
      const opened = await privateKeyUnwrapper([privateKey]).unwrap(packet);
      expect(opened && Buffer.from(opened)).toEqual(other === name ? optsdata : undefined);
    }
  });

  it("write RSA-OAEP with SHA-1 only on request, and keep to a JWK's algorithm", async () => {
    const { publicKey, privateKey } = holders["RSA-2048"];
    const packet = await one(jweWrapper({ publicKey, algorithm: "RSA-OAEP" }).wrap(optsdata));
    expect(describePacket(packet)[0]?.algorithm).toBe("RSA-OAEP");
    expect(Buffer.from((await privateKeyUnwrapper([privateKey]).unwrap(packet)) ?? "")).toEqual(optsdata);
    expect(await codeOf(() => jweWrapper({ publicKey, algorithm: "ECDH-ES+A256KW" }))).toBe("ERR_KEYWRAP_KEY_UNSUPPORTED");
    const asked = jweWrapper({ publicKey: { ...publicKey, algorithm: "RSA-OAEP" } });
    expect(describePacket(await one(asked.wrap(optsdata)))[0]?.algorithm).toBe("RSA-OAEP");
  });

  it("read compact form, and general form with any number of recipients", async () => {
    const { publicKey, privateKey } = holders["P-256"];
    const stranger = holderOf(ec()).publicKey;
    const compact = await new CompactEncrypt(optsdata)
      .setProtectedHeader({ alg: "ECDH-ES+A128KW", enc: "A128CBC-HS256" })
      .encrypt(publicKey.key);
    const general = await new GeneralEncrypt(optsdata)
      .setProtectedHeader({ enc: "A256GCM" })
      .addRecipient(stranger.key)
      .setUnprotectedHeader({ alg: "ECDH-ES+A256KW" })
      .addRecipient(publicKey.key)
      .setUnprotectedHeader({ alg: "ECDH-ES+A256KW" })
      .encrypt();
    for (const text of [compact, JSON.stringify(general)]) {
      const opened = await privateKeyUnwrapper([privateKey]).unwrap({ scheme: "jwe", bytes: Buffer.from(text) });
      expect(Buffer.from(opened ?? "")).toEqual(optsdata);
    }
  });

  it("take one recipient out of a general form, with no key, whatever go-jose repeats at the top", async () => {
    const [first, second] = [holders["P-256"], holders["P-384"]];
    const general = await new GeneralEncrypt(optsdata)
      .setProtectedHeader({ enc: "A256GCM" })
      .addRecipient(first.publicKey.key)
      .setUnprotectedHeader({ alg: "ECDH-ES+A256KW" })
      .addRecipient(second.publicKey.key)
      .setUnprotectedHeader({ alg: "ECDH-ES+A256KW" })
      .encrypt();
    const quirk = { ...general, encrypted_key: general.recipients[0]?.encrypted_key };
    const packet: KeyPacket = { scheme: "jwe", bytes: Buffer.from(JSON.stringify(quirk)) };
    const rest = withoutRecipients(packet, [0]);
    if (rest === undefined) throw new Error("nobody is left");
    expect(Buffer.from((await privateKeyUnwrapper([second.privateKey]).unwrap(rest)) ?? "")).toEqual(optsdata);
    expect(await privateKeyUnwrapper([first.privateKey]).unwrap(rest)).toBeUndefined();
    expect(withoutRecipients(packet, [0, 1])).toBeUndefined();
    expect(withoutRecipients(packet, [])).toBe(packet);
  });

  it("tell a damaged packet of mine from somebody else's", async () => {
    const { publicKey, privateKey } = holders["P-256"];
    const packet = await one(jweWrapper({ publicKey }).wrap(optsdata));
    const jwe = JSON.parse(Buffer.from(packet.bytes).toString()) as Record<string, string>;
    const damaged: KeyPacket = { scheme: "jwe", bytes: Buffer.from(JSON.stringify({ ...jwe, tag: "AAAAAAAAAAAAAAAAAAAAAA" })) };
    expect(await codeOf(() => privateKeyUnwrapper([privateKey]).unwrap(damaged))).toBe("ERR_KEYWRAP_PACKET_DAMAGED");
    expect(await privateKeyUnwrapper([holderOf(ec()).privateKey]).unwrap(damaged)).toBeUndefined();
  });

  it("bound what a stranger wrote", async () => {
    const { privateKey } = holders["P-256"];
    const recipients = Array.from({ length: 10_000 }, () => ({ header: { alg: "ECDH-ES+A256KW" } }));
    const hostile = [
      JSON.stringify({ protected: "e30", recipients, iv: "", ciphertext: "", tag: "" }),
      `{"protected":${"[".repeat(10_000)}`,
      "x".repeat(2 << 20),
      "a.b.c.d.e.f",
      "{}",
      '{"recipients":3,"iv":"","ciphertext":"","tag":""}',
      '{"protected":"e30","protected":"e30","iv":"","ciphertext":"","tag":""}',
      '{"protected":"eyJhbGciOiJkaXIifQ","header":{"alg":"ECDH-ES"},"iv":"","ciphertext":"","tag":""}',
    ];
    for (const text of hostile) {
      const packet: KeyPacket = { scheme: "jwe", bytes: Buffer.from(text) };
      expect(await codeOf(() => privateKeyUnwrapper([privateKey]).unwrap(packet))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
      expect(await codeOf(() => describePacket(packet))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
    }
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        expect(["none", "ERR_KEYWRAP_PACKET_MALFORMED"]).toContain(
          await codeOf(() => privateKeyUnwrapper([privateKey]).unwrap({ scheme: "jwe", bytes })),
        );
      }),
    );
  });
});

describe("KBS recipients", () => {
  const holder = brokerUnwrapper({ name: "the KEK at hand", reach: "local", broker: keksAtHand([{ uri, kek }]) });

  it("get a JWE named by the URI and CoCo's packet, and either opens", async () => {
    const packets = await kbsWrapper({ uri: "kbs+resource://some.host:8080/default/image-kek/one", kek }).wrap(optsdata);
    expect(packets.flatMap(describePacket)).toEqual([
      { scheme: "jwe", id: uri, kind: "kbs", algorithm: "A256KW" },
      { scheme: "provider.attestation-agent", id: uri, kind: "kbs", algorithm: "A256GCM" },
    ]);
    for (const packet of packets) expect(Buffer.from((await holder.unwrap(packet)) ?? "")).toEqual(optsdata);
    expect(Buffer.from(packets[1]?.bytes ?? "").toString()).toMatch(
      /^\{"kid":"kbs:\/\/\/default\/image-kek\/one","wrapped_data":"[^"]+","iv":"[^"]{16}","wrap_type":"A256GCM"\}$/,
    );
    expect((await kbsWrapper({ uri, kek, packets: "jwe" }).wrap(optsdata)).map(({ scheme }) => scheme)).toEqual(["jwe"]);
    expect((await kbsWrapper({ uri, kek, packets: "attestation-agent" }).wrap(optsdata)).map(({ scheme }) => scheme)).toEqual([
      "provider.attestation-agent",
    ]);
  });

  it("read what coco_keyprovider and its forks write: v2, host forms, no scheme, A256CTR, another provider name", async () => {
    const [, packet] = await kbsWrapper({ uri, kek }).wrap(optsdata);
    const v1 = JSON.parse(Buffer.from(packet?.bytes ?? "").toString()) as Record<string, string>;
    const v2 = { version: "0.1.0", ...v1, provider: "kbs", provider_settings: {}, annotations: { more: { deep: true } } };
    const forms = [
      v2,
      { ...v1, kid: "kbs://kbs:8080/default/image-kek/one" },
      { ...v1, kid: "/default/image-kek/one" },
      { ...v1, kid: "default/image-kek/one" },
    ];
    for (const form of forms) {
      for (const scheme of ["provider.attestation-agent", "provider.aaa"] as const) {
        const opened = await holder.unwrap({ scheme, bytes: Buffer.from(JSON.stringify(form)) });
        expect(Buffer.from(opened ?? "")).toEqual(optsdata);
      }
    }
    expect(
      await holder.unwrap({ scheme: "provider.attestation-agent", bytes: Buffer.from(JSON.stringify({ ...v1, provider: "aliyun" })) }),
    ).toBeUndefined();
  });

  it("fail aloud on a wrong KEK, a damaged packet, an unknown wrap type, a KEK that is none", async () => {
    const [jwe, packet] = await kbsWrapper({ uri, kek: randomBytes(32) }).wrap(optsdata);
    for (const wrapped of [jwe, packet]) expect(await codeOf(() => wrapped && holder.unwrap(wrapped))).toBe("ERR_KEYWRAP_PACKET_DAMAGED");
    const form = (members: object) => ({
      scheme: "provider.attestation-agent" as const,
      bytes: Buffer.from(JSON.stringify({ kid: uri, wrapped_data: "AAAA", ...members })),
    });
    expect(await codeOf(() => holder.unwrap(form({ wrap_type: "A128GCM" })))).toBe("ERR_KEYWRAP_SCHEME_UNSUPPORTED");
    expect(await codeOf(() => holder.unwrap(form({ wrap_type: "A256GCM" })))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
    expect(await codeOf(() => holder.unwrap(form({ wrapped_data: 5 })))).toBe("ERR_KEYWRAP_PACKET_MALFORMED");
    expect(await codeOf(() => kbsWrapper({ uri, kek: Buffer.alloc(31) }))).toBe("ERR_KEYWRAP_KEK_LENGTH");
    expect(await codeOf(() => kbsWrapper({ uri: "kbs:///default/two", kek }))).toBe("ERR_KEYWRAP_KBS_URI_MALFORMED");
    const textual: KeyBroker = { fetchKey: async () => Buffer.from("base64 of a key") };
    expect(await codeOf(() => packet && brokerUnwrapper({ name: "x", reach: "remote", broker: textual }).unwrap(packet))).toBe(
      "ERR_KEYWRAP_KEK_LENGTH",
    );
  });

  it("ask a broker once per key, whatever the number of layers and packets, also when it refuses", async () => {
    const asked: string[] = [];
    const broker: KeyBroker = {
      fetchKey: async (name) => {
        asked.push(name);
        throw Object.assign(new Error("denied"), { code: "ERR_KBS_DENIED" });
      },
    };
    const packets = await kbsWrapper({ uri, kek }).wrap(optsdata);
    const remote = brokerUnwrapper({ name: "the KBS", reach: "remote", broker });
    for (let layer = 0; layer < 3; layer += 1) expect(await codeOf(() => unwrapFirst(packets, [remote]))).not.toBe("none");
    expect(asked).toEqual([uri]);
  });
});

describe("several keys", () => {
  it("try those at hand before those that must be asked for", async () => {
    const holder = holderOf(ec());
    const packets = [
      ...(await kbsWrapper({ uri, kek }).wrap(optsdata)),
      ...(await jweWrapper({ publicKey: holder.publicKey }).wrap(optsdata)),
    ];
    const broker: KeyBroker = { fetchKey: () => Promise.reject(new Error("must not be asked")) };
    const remote = brokerUnwrapper({ name: "the KBS", reach: "remote", broker });
    const opened = await unwrapFirst(packets, [remote, privateKeyUnwrapper([holder.privateKey])]);
    expect(Buffer.from(opened.optsdata)).toEqual(optsdata);
    expect(opened.unwrapper.reach).toBe("local");
  });

  it("say every reason when none opens", async () => {
    const packets = await jweWrapper({ publicKey: holderOf(ec()).publicKey }).wrap(optsdata);
    const attempt = unwrapFirst(packets, [privateKeyUnwrapper([holderOf(ec()).privateKey], "key.pem")]);
    await expect(attempt).rejects.toMatchObject({
      code: "ERR_KEYWRAP_NO_KEY",
      category: "no-key",
      details: { schemes: ["jwe"], keys: ["key.pem"] },
    });
    await expect(unwrapFirst(packets, [])).rejects.toMatchObject({ code: "ERR_KEYWRAP_NO_KEY" });
  });
});
