import * as fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { newDecryption, type BlobOpener } from "../../src/cipher/index.ts";
import { openerOf } from "./bytes.ts";
import { ctr, gcm, mediaType, opening, outcomeOf, pattern, sealed, type SealedBlob } from "./layers.ts";

const chunk = 16384;
const plaintext = pattern(3 * chunk + 777);

/** Ways to change a blob, each with the size that the descriptor then says. */
const changes: fc.Arbitrary<{ name: string; change: (blob: Buffer) => Buffer }> = fc.oneof(
  fc.record({ at: fc.nat(60000), bit: fc.nat(7) }).map(({ at, bit }) => ({
    name: `flip bit ${bit} near ${at}`,
    change: (blob: Buffer) => {
      const changed = Buffer.from(blob);
      const i = at % blob.length;
      changed[i] = (changed[i] ?? 0) ^ (1 << bit);
      return changed;
    },
  })),
  fc.nat(60000).map((cut) => ({ name: `cut to ${cut}`, change: (blob: Buffer) => blob.subarray(0, cut % blob.length) })),
  fc
    .uint8Array({ minLength: 1, maxLength: 40000 })
    .map((more) => ({ name: `append ${more.length}`, change: (blob: Buffer) => Buffer.concat([blob, more]) })),
  fc
    .record({ a: fc.nat(2), b: fc.nat(2) })
    .filter(({ a, b }) => a !== b)
    .map(({ a, b }) => ({
      name: `swap chunks ${a} and ${b}`,
      change: (blob: Buffer) => {
        const changed = Buffer.from(blob);
        const at = (i: number) => 56 + i * 16400;
        blob.copy(changed, at(a), at(b), at(b) + 16400);
        blob.copy(changed, at(b), at(a), at(a) + 16400);
        return changed;
      },
    })),
  fc.nat(2).map((i) => ({
    name: `drop chunk ${i}`,
    change: (blob: Buffer) => Buffer.concat([blob.subarray(0, 56 + i * 16400), blob.subarray(56 + (i + 1) * 16400)]),
  })),
);

const integrity =
  /^ERR_CIPHER_(?:CHUNK_DAMAGED|SEGMENT_DAMAGED|MAC_MISMATCH|TRUNCATED|TRAILING_DATA|COMMITMENT_MISMATCH|OPTIONS_MALFORMED)$/;

interface Kind {
  readonly name: string;
  readonly make: () => Promise<SealedBlob>;
  /** Plaintext that may have come out is a prefix in whole units of this size. */
  readonly unit: number;
}

const kinds: readonly Kind[] = [
  { name: "chunked GCM", make: () => sealed(gcm, plaintext, { plaintextSize: plaintext.length }), unit: chunk },
  { name: "CTR with segment tags", make: () => sealed(ctr, plaintext, { plaintextSize: plaintext.length }), unit: 1 << 20 },
  { name: "CTR without segment tags", make: () => sealed(ctr, plaintext), unit: plaintext.length },
];

describe.each(kinds)("a changed blob: $name", ({ make, unit }) => {
  let layer: SealedBlob;
  beforeAll(async () => {
    layer = await make();
  });

  for (const size of ["as declared", "as changed"] as const) {
    it(`is refused before a byte of it leaves, whole and by range, size ${size}`, async () => {
      await fc.assert(
        fc.asyncProperty(changes, async ({ change }) => {
          const blob = change(layer.blob);
          if (blob.equals(layer.blob)) return;
          const declared = size === "as declared" ? layer.blob.length : blob.length;
          const whole = await outcomeOf(async () => opening(layer, "node", declared).open(openerOf(blob, 10_000)));
          expect(whole.code).toMatch(integrity);
          expect(whole.released.equals(plaintext.subarray(0, whole.released.length))).toBe(true);
          expect(whole.released.length % unit).toBe(0);
          expect(whole.released.length).toBeLessThan(Math.max(1, plaintext.length));
          const all = { start: 0, end: plaintext.length };
          const range = await outcomeOf(async () => opening(layer, "node", declared).openRange(openerOf(blob, 10_000), all));
          expect(range.code !== "none" || range.released.equals(plaintext)).toBe(true);
          expect(range.released.equals(plaintext.subarray(0, range.released.length))).toBe(true);
        }),
        { numRuns: 80 },
      );
    });
  }

  it("is refused with another layer's bytes, key or options", async () => {
    const other = await make();
    const mixes: readonly SealedBlob[] = [
      { ...layer, blob: other.blob },
      { ...layer, publicOptions: other.publicOptions },
      { ...layer, privateOptions: other.privateOptions },
      { ...layer, publicOptions: { ...layer.publicOptions, hmac: Buffer.alloc(32) } },
    ];
    for (const mix of mixes) {
      const { code, released } = await outcomeOf(async () => opening(mix).open(openerOf(mix.blob)));
      expect(code).toMatch(integrity);
      expect(released.length).toBe(0);
    }
  });
});

it("binds the media type of a chunked layer", async () => {
  const layer = await sealed(gcm, plaintext);
  const request = { publicOptions: layer.publicOptions, privateOptions: layer.privateOptions, ciphertextSize: layer.blob.length };
  const relabelled = newDecryption({ ...request, mediaType: "application/vnd.oci.image.layer.v1.tar" });
  expect(await outcomeOf(() => relabelled.open(openerOf(layer.blob)))).toMatchObject({
    code: "ERR_CIPHER_COMMITMENT_MISMATCH",
    released: Buffer.alloc(0),
  });
  expect(newDecryption({ ...request, mediaType }).plaintextSize).toBe(plaintext.length);
});

it("notices when an untagged CTR blob changes between its two readings", async () => {
  const layer = await sealed(ctr, plaintext);
  const changed = Buffer.from(layer.blob);
  changed[5] = (changed[5] ?? 0) ^ 1;
  const readings = [layer.blob, changed];
  const source: BlobOpener = (range) => openerOf(readings.shift() ?? changed)(range);
  expect(await outcomeOf(() => opening(layer).open(source))).toEqual({ code: "ERR_CIPHER_SEGMENT_DAMAGED", released: Buffer.alloc(0) });
});

it("checks the whole MAC also where segment tags are right", async () => {
  const layer = await sealed(ctr, plaintext, { plaintextSize: plaintext.length });
  const lying = { ...layer, publicOptions: { ...layer.publicOptions, hmac: Buffer.alloc(32, 1) } };
  expect(await outcomeOf(() => opening(lying).open(openerOf(layer.blob)))).toMatchObject({ code: "ERR_CIPHER_MAC_MISMATCH" });
});

describe("options that stock readers let through", () => {
  const key = Buffer.alloc(32, 1);
  const nonce = Buffer.alloc(16, 2);
  const hmac = Buffer.alloc(32, 3);
  const request =
    (publicExtra: object, privateOptions: object, cipher: typeof ctr | typeof gcm = ctr) =>
    () =>
      newDecryption({
        publicOptions: { cipher, hmac, cipheroptions: {}, ...publicExtra },
        privateOptions: { symkey: key, cipheroptions: {}, ...privateOptions },
        mediaType,
        ciphertextSize: 100,
      });

  it.each([
    ["a public nonce", "ERR_CIPHER_PUBLIC_NONCE", request({ cipheroptions: { nonce } }, { cipheroptions: { nonce } })],
    ["a public nonce in a chunked layer", "ERR_CIPHER_PUBLIC_NONCE", request({ cipheroptions: { nonce } }, {}, gcm)],
    ["no nonce", "ERR_CIPHER_NONCE_MISSING", request({}, {})],
    ["a nonce of 8 bytes", "ERR_CIPHER_NONCE_LENGTH", request({}, { cipheroptions: { nonce: nonce.subarray(8) } })],
    ["a key of 16 bytes", "ERR_CIPHER_KEY_LENGTH", request({}, { symkey: nonce, cipheroptions: { nonce } })],
    ["a MAC of 16 bytes", "ERR_CIPHER_OPTIONS_MALFORMED", request({ hmac: nonce }, { cipheroptions: { nonce } })],
    ["an unknown public option of a chunked layer", "ERR_CIPHER_OPTIONS_MALFORMED", request({ cipheroptions: { x: nonce } }, {}, gcm)],
    ["an unknown private option of a chunked layer", "ERR_CIPHER_OPTIONS_MALFORMED", request({}, { cipheroptions: { x: nonce } }, gcm)],
    [
      "segment tags without their length",
      "ERR_CIPHER_OPTIONS_MALFORMED",
      request({ cipheroptions: { "seg.tags": nonce } }, { cipheroptions: { nonce } }),
    ],
    [
      "a segment length that is not the blob's",
      "ERR_CIPHER_OPTIONS_MALFORMED",
      request({ cipheroptions: { "seg.tags": nonce, "seg.len": Buffer.of(0, 0, 0, 1) } }, { cipheroptions: { nonce } }),
    ],
    [
      "too many segment tags",
      "ERR_CIPHER_OPTIONS_MALFORMED",
      request({ cipheroptions: { "seg.tags": hmac, "seg.len": Buffer.of(0, 16, 0, 0) } }, { cipheroptions: { nonce } }),
    ],
  ])("refuses %s", (_, code, make) => {
    expect(make).toThrow(expect.objectContaining({ code }));
  });

  it("passes over public options of CTR that nobody knows", () => {
    expect(request({ cipheroptions: { later: nonce } }, { cipheroptions: { nonce } })().plaintextSize).toBe(100);
  });
});
