import { randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { digestOf, encodeBase64 } from "../../src/bytes/index.ts";
import { brokerUnwrapper, jweWrapper, kbsWrapper, keksAtHand, privateKeyUnwrapper } from "../../src/keywrap/index.ts";
import { checkEncryptionMark, describeEncryption, openLayer, rewrapLayer, sealLayer } from "../../src/layer/index.ts";
import { parsePrivateOptions } from "../../src/layer/options-json.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { chunksOf, openerOf, read } from "../cipher/bytes.ts";
import { ctr, gcm, outcomeOf, pattern } from "../cipher/layers.ts";
import { codeOf, ec, holderOf } from "../keywrap/keys.ts";

const plaintext = pattern(40_000);
const gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
const layer: Descriptor = {
  mediaType: gzip,
  digest: digestOf(plaintext),
  size: plaintext.length,
  annotations: { "org.example.kept": "yes" },
};
const [alice, bob] = [holderOf(ec()), holderOf(ec("P-384"))];
const uri = "kbs:///default/image-kek/one";
const kek = randomBytes(32);
const wrappers = [jweWrapper({ publicKey: alice.publicKey }), kbsWrapper({ uri, kek })];
const unwrappers = [privateKeyUnwrapper([alice.privateKey])];
const kbs = brokerUnwrapper({ name: "KEK", reach: "local", broker: keksAtHand([{ uri, kek }]) });
const names = {
  pubopts: "org.opencontainers.image.enc.pubopts",
  jwe: "org.opencontainers.image.enc.keys.jwe",
  agent: "org.opencontainers.image.enc.keys.provider.attestation-agent",
};

async function seal(cipher: typeof gcm | typeof ctr, plain: Descriptor = layer): Promise<{ sealed: Descriptor; blob: Buffer }> {
  const sealing = await sealLayer({ layer: plain, cipher, wrappers });
  const blob = await read(sealing.stage(chunksOf(plaintext, 9999)));
  expect(sealing.size).toBe(blob.length);
  return { sealed: await sealing.finish({ digest: digestOf(blob), size: blob.length }), blob };
}

const open = (sealed: Descriptor, blob: Buffer) =>
  outcomeOf(async () => (await openLayer({ layer: sealed, unwrappers })).open(openerOf(blob)));
const withAnnotations = (sealed: Descriptor, annotations: Record<string, string>): Descriptor => ({
  ...sealed,
  annotations: { ...sealed.annotations, ...annotations },
});
const text = (sealed: Descriptor, name: string): string => sealed.annotations?.[name] ?? "";
const json = (value: unknown): string => encodeBase64(Buffer.from(JSON.stringify(value)));

describe.each([gcm, ctr] as const)("a sealed layer, %s", (cipher) => {
  it("is opened by each recipient, and becomes the plain descriptor again", async () => {
    const { sealed, blob } = await seal(cipher);
    expect(sealed.mediaType).toBe(`${gzip}+encrypted`);
    expect(Object.keys(sealed.annotations ?? {}).sort()).toEqual([names.jwe, names.agent, names.pubopts, "org.example.kept"].sort());
    for (const unwrapper of [...unwrappers, kbs]) {
      const opened = await openLayer({ layer: sealed, unwrappers: [unwrapper] });
      expect((await read(await opened.open(openerOf(blob)))).equals(plaintext)).toBe(true);
      expect(opened.plainDescriptor(layer)).toEqual(layer);
      expect(opened.hintedDigest).toBe(layer.digest);
      expect(opened.passes).toBe(1);
      expect(await read(await opened.openRange(openerOf(blob), { start: 20_000, end: 20_010 }))).toEqual(
        plaintext.subarray(20_000, 20_010),
      );
    }
  });

  it("is described without a key", async () => {
    const { sealed } = await seal(cipher);
    expect(describeEncryption(sealed)).toEqual({
      cipher,
      plaintextSize: plaintext.length,
      segments: cipher === gcm ? "not-applicable" : "tagged",
      recipients: [
        { scheme: "jwe", id: alice.publicKey.thumbprint, kind: "public-key", algorithm: "ECDH-ES+A256KW" },
        { scheme: "jwe", id: uri, kind: "kbs", algorithm: "A256KW" },
        { scheme: "provider.attestation-agent", id: uri, kind: "kbs", algorithm: "A256GCM" },
      ],
      problems: [],
    });
    expect(describeEncryption(layer)).toBeUndefined();
  });

  it("never opens to anything else when a character of its annotations is changed", async () => {
    const { sealed, blob } = await seal(cipher);
    const change = fc.record({
      name: fc.constantFrom(names.pubopts, names.jwe, names.agent),
      at: fc.nat(),
      kind: fc.constantFrom("flip", "cut", "drop", "insert", "swap"),
      with: fc.constantFrom("A", "/", "=", ",", " ", "_", "z"),
    });
    await fc.assert(
      fc.asyncProperty(change, async (c) => {
        const before = text(sealed, c.name);
        const i = c.at % before.length;
        const after = {
          flip: before.slice(0, i) + c.with + before.slice(i + 1),
          cut: before.slice(0, i),
          drop: before.slice(0, i) + before.slice(i + 1),
          insert: before.slice(0, i) + c.with + before.slice(i),
          swap: before.slice(i) + before.slice(0, i),
        }[c.kind];
        const { code, released } = await open(withAnnotations(sealed, { [c.name]: after ?? "" }), blob);
        // A change in a packet for somebody else changes nothing for this reader.
        expect(code === "none" ? released.equals(plaintext) : released.length === 0).toBe(true);
        expect(code).toMatch(/^(?:none|ERR_(?:LAYER|CIPHER|KEYWRAP)_[A-Z_]+)$/);
      }),
      { numRuns: 150 },
    );
  });

  it("refuses the annotations, blob or media type of another layer", async () => {
    const [one, two] = [await seal(cipher), await seal(cipher)];
    const cases: readonly (readonly [Descriptor, Buffer])[] = [
      [one.sealed, two.blob],
      [withAnnotations(one.sealed, { [names.pubopts]: text(two.sealed, names.pubopts) }), one.blob],
      [withAnnotations(one.sealed, { [names.jwe]: text(two.sealed, names.jwe) }), one.blob],
    ];
    for (const [sealed, blob] of cases) {
      const { code, released } = await open(sealed, blob);
      expect(code).toMatch(cipher === gcm ? /^ERR_CIPHER_COMMITMENT_MISMATCH$/ : /^ERR_CIPHER_(?:SEGMENT_DAMAGED|MAC_MISMATCH)$/);
      expect(released.length).toBe(0);
    }
  });

  it("changes recipients without touching the blob", async () => {
    const { sealed, blob } = await seal(cipher);
    const added = await rewrapLayer({ layer: sealed, unwrappers, add: [jweWrapper({ publicKey: bob.publicKey, name: "bob" })] });
    expect(added.added).toEqual(["bob"]);
    expect({ ...added.layer, annotations: {} }).toEqual({ ...sealed, annotations: {} });
    const forBob = await openLayer({ layer: added.layer, unwrappers: [privateKeyUnwrapper([bob.privateKey])] });
    expect((await read(await forBob.open(openerOf(blob)))).equals(plaintext)).toBe(true);

    // Removing needs no key at all.
    const removed = await rewrapLayer({ layer: added.layer, remove: ({ id }) => (id === uri ? "remove" : "keep") });
    expect(removed.removed.map(({ scheme }) => scheme)).toEqual(["jwe", "provider.attestation-agent"]);
    expect(removed.recipients.map(({ id }) => id)).toEqual([alice.publicKey.thumbprint, bob.publicKey.thumbprint]);
    expect(await codeOf(() => openLayer({ layer: removed.layer, unwrappers: [kbs] }))).toBe("ERR_KEYWRAP_NO_KEY");
    expect((await openLayer({ layer: removed.layer, unwrappers })).hintedDigest).toBe(layer.digest);

    // Adding who is there already replaces what was wrapped for them: a rotated key encryption key.
    const rotated = await rewrapLayer({ layer: sealed, unwrappers, add: [kbsWrapper({ uri, kek: randomBytes(32) })] });
    expect(rotated.recipients.length).toBe(3);
    expect(await codeOf(() => openLayer({ layer: rotated.layer, unwrappers: [kbs] }))).toBe("ERR_KEYWRAP_PACKET_DAMAGED");

    expect(await codeOf(() => rewrapLayer({ layer: sealed, remove: () => "remove" }))).toBe("ERR_LAYER_NO_RECIPIENT");
    expect(await codeOf(() => rewrapLayer({ layer: sealed, add: [jweWrapper({ publicKey: bob.publicKey })] }))).toBe("ERR_KEYWRAP_NO_KEY");
  });

  it("leaves out what would tell the plaintext: embedded data and urls", async () => {
    const { sealed } = await seal(cipher, { ...layer, data: encodeBase64(plaintext), urls: ["https://example.test/layer"] });
    expect(Object.keys(sealed).sort()).toEqual(["annotations", "digest", "mediaType", "size"]);
  });

  it("keeps what it does not know: schemes and annotations of others", async () => {
    const { sealed, blob } = await seal(cipher);
    const foreign = withAnnotations(sealed, {
      "org.opencontainers.image.enc.keys.later": "AAAA",
      "org.opencontainers.image.enc.keys.provider.other": json({ x: 1 }),
    });
    expect((await open(foreign, blob)).code).toBe("none");
    const { layer: rewrapped } = await rewrapLayer({ layer: foreign, unwrappers, add: [jweWrapper({ publicKey: bob.publicKey })] });
    expect(text(rewrapped, "org.opencontainers.image.enc.keys.later")).toBe("AAAA");
    expect(text(rewrapped, "org.opencontainers.image.enc.keys.provider.other")).toBe(json({ x: 1 }));
  });
});

describe("before a key is asked for", () => {
  const asked: string[] = [];
  const broker = brokerUnwrapper({ name: "KBS", reach: "remote", broker: { fetchKey: async (name) => (asked.push(name), kek) } });
  const pubopts = (members: object) => json({ cipher: ctr, hmac: encodeBase64(Buffer.alloc(32)), cipheroptions: {}, ...members });

  it.each([
    ["annotations without +encrypted", "ERR_LAYER_MARK_MISSING", { mediaType: gzip }, {}],
    ["an unknown media type", "ERR_LAYER_MEDIA_TYPE", { mediaType: "application/vnd.wasm.content.layer.v1+wasm+encrypted" }, {}],
    ["an unknown cipher", "ERR_CIPHER_UNKNOWN", {}, { [names.pubopts]: pubopts({ cipher: "AES_256_GCM_CHUNKED_V9" }) }],
    [
      "a public nonce",
      "ERR_CIPHER_PUBLIC_NONCE",
      {},
      { [names.pubopts]: pubopts({ cipheroptions: { nonce: encodeBase64(Buffer.alloc(16)) } }) },
    ],
    ["no hmac", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.pubopts]: json({ cipher: ctr, cipheroptions: {} }) }],
    ["a short hmac", "ERR_CIPHER_OPTIONS_MALFORMED", {}, { [names.pubopts]: pubopts({ hmac: "AAAA" }) }],
    ["public options that are no JSON", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.pubopts]: encodeBase64(Buffer.from("{")) }],
    [
      "public options nested deeply",
      "ERR_LAYER_ANNOTATION_MALFORMED",
      {},
      { [names.pubopts]: encodeBase64(Buffer.from("[".repeat(100_000))) },
    ],
    ["a member twice", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.pubopts]: encodeBase64(Buffer.from('{"cipher":"a","cipher":"b"}')) }],
    ["unpadded base64", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.pubopts]: pubopts({}).replace(/=*$/, "") + "A" }],
    ["an empty annotation", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.pubopts]: "" }],
    ["a list with white space", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.jwe]: "AAAA, AAAA" }],
    ["a list with an empty element", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.jwe]: "AAAA," }],
    ["10,000 wrapped keys", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.jwe]: Array.from({ length: 10_000 }, () => "AAAA").join(",") }],
    ["more than a mebibyte of annotations", "ERR_LAYER_ANNOTATION_MALFORMED", {}, { [names.jwe]: "AAAA".repeat(1 << 19) }],
    ["a mebibyte of one annotation", "ERR_KEYWRAP_NO_KEY", {}, { [names.jwe]: "AAAA".repeat(200_000), [names.agent]: "AAAA" }],
    ["a size that no chunked layer has", "ERR_CIPHER_TRUNCATED", { size: 56 }, { [names.pubopts]: pubopts({ cipher: gcm }) }],
  ])("%s is refused", async (_, code, members, annotations) => {
    const { sealed } = await seal(ctr);
    const changed = { ...withAnnotations(sealed, annotations), ...members };
    const attempt = await codeOf(() => openLayer({ layer: changed, unwrappers: code === "ERR_KEYWRAP_NO_KEY" ? [] : [broker] }));
    expect(attempt).toBe(code);
    expect(asked).toEqual([]);
    const problems = describeEncryption(changed)?.problems.map((problem) => problem.code);
    expect(problems).toContain(code === "ERR_KEYWRAP_NO_KEY" ? "ERR_KEYWRAP_PACKET_MALFORMED" : code);
  });

  it("+encrypted without annotations, or without any wrapped key, is refused", async () => {
    const { sealed } = await seal(ctr);
    const { annotations: _, ...bare } = sealed;
    const keyless = { ...bare, annotations: { [names.pubopts]: text(sealed, names.pubopts) } };
    for (const changed of [bare, keyless]) {
      expect(await codeOf(() => openLayer({ layer: changed, unwrappers: [broker] }))).toBe("ERR_LAYER_ANNOTATIONS_MISSING");
    }
    expect(() => checkEncryptionMark(bare)).toThrow(expect.objectContaining({ code: "ERR_LAYER_ANNOTATIONS_MISSING" }));
    expect(asked).toEqual([]);
  });
});

describe("private options", () => {
  const key = encodeBase64(Buffer.alloc(32));
  it.each([
    ["no JSON", "hello"],
    ["no key", "{}"],
    ["a key that is not base64", '{"symkey":"?"}'],
    ["a malformed digest", `{"symkey":"${key}","digest":"md5:00"}`],
    ["options that are no object", `{"symkey":"${key}","cipheroptions":[]}`],
    ["an option that is no text", `{"symkey":"${key}","cipheroptions":{"nonce":5}}`],
    ["a key twice", `{"symkey":"${key}","symkey":"${key}"}`],
  ])("with %s are refused, and not repeated in the message", (_, content) => {
    expect(() => parsePrivateOptions(Buffer.from(content))).toThrow(
      expect.objectContaining({ code: "ERR_LAYER_PRIVATE_OPTIONS", message: expect.not.stringContaining(key) }),
    );
  });

  it.each(['{"symkey":"KEY"}', '{"symkey":"KEY","digest":"","cipheroptions":null,"more":1}'])(
    "are read as Go writes them: %s",
    (content) => {
      expect(parsePrivateOptions(Buffer.from(content.replace("KEY", key)))).toEqual({
        symkey: Buffer.alloc(32),
        digest: undefined,
        cipheroptions: {},
      });
    },
  );

  it("are not fooled by names of the language", () => {
    const parsed = parsePrivateOptions(Buffer.from(`{"symkey":"${key}","cipheroptions":{"__proto__":"AAAA"}}`));
    expect(Object.keys(parsed.cipheroptions)).toEqual(["__proto__"]);
  });
});

it("enforces the wrapped digest of a chunked layer, and only hints at that of a CTR layer", async () => {
  const lying: Descriptor = { ...layer, digest: digestOf(Buffer.from("something else")) };
  const [chunked, foreign] = [await seal(gcm, lying), await seal(ctr, lying)];
  const { code, released } = await open(chunked.sealed, chunked.blob);
  expect(code).toBe("ERR_LAYER_DIGEST_MISMATCH");
  expect(released.length).toBeLessThan(plaintext.length);
  expect(await open(foreign.sealed, foreign.blob)).toEqual({ code: "none", released: plaintext });
});

it("seals Docker's layers as OCI's, and refuses what is no layer", async () => {
  const docker = { ...layer, mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip" };
  expect((await seal(gcm, docker)).sealed.mediaType).toBe(`${gzip}+encrypted`);
  const sealing = (mediaType: string, annotations = {}) =>
    codeOf(() => sealLayer({ layer: { ...layer, mediaType, annotations }, cipher: gcm, wrappers }));
  expect(await sealing("application/vnd.in-toto+json")).toBe("ERR_LAYER_MEDIA_TYPE");
  expect(await sealing(`${gzip}+encrypted`)).toBe("ERR_LAYER_ALREADY_ENCRYPTED");
  expect(await sealing(gzip, { [names.jwe]: "AAAA" })).toBe("ERR_LAYER_MARK_MISSING");
  expect(await codeOf(() => sealLayer({ layer, cipher: gcm, wrappers: [] }))).toBe("ERR_LAYER_NO_RECIPIENT");
});

it("seals a layer that is still being made", async () => {
  const sealing = await sealLayer({ layer: { mediaType: gzip }, cipher: gcm, wrappers });
  expect(sealing.size).toBeUndefined();
  const blob = await read(sealing.stage(chunksOf(plaintext, 1234)));
  const sealed = await sealing.finish({ digest: digestOf(blob), size: blob.length });
  const opened = await openLayer({ layer: sealed, unwrappers });
  expect(opened.digest).toBe(layer.digest);
  expect((await read(await opened.open(openerOf(blob)))).equals(plaintext)).toBe(true);
});
