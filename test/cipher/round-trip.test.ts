import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ciphertextSize, newEncryption, plaintextSize, type CipherName, type Engine } from "../../src/cipher/index.ts";
import { chunksOf, openerOf, read } from "./bytes.ts";
import { ctr, gcm, mediaType, opening, outcomeOf, pattern, sealed } from "./layers.ts";

const chunk = 16384;
const sizes = [0, 1, 15, 16, 17, chunk - 1, chunk, chunk + 1, 2 * chunk - 1, 2 * chunk, 2 * chunk + 1, 20 * chunk, 20 * chunk + 5];
const ciphers: readonly CipherName[] = [gcm, ctr];

describe.each(ciphers)("%s", (cipher) => {
  it.each(sizes)("gives back %i bytes, across engines", async (size) => {
    const plaintext = pattern(size);
    // The portable engine is slow: it shows its worth on the small sizes.
    const engines: readonly Engine[] = size > 3 * chunk ? ["node"] : ["node", "noble"];
    for (const writer of engines) {
      const layer = await sealed(cipher, plaintext, { engine: writer, plaintextSize: size });
      expect(layer.blob.length).toBe(ciphertextSize(cipher, size));
      for (const reader of engines) expect(await read(await opening(layer, reader).open(openerOf(layer.blob)))).toEqual(plaintext);
    }
  });

  it("does not care how the bytes arrive", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 5 * chunk }),
        fc.integer({ min: 1, max: 3 * chunk }),
        fc.integer({ min: 1, max: 3 * chunk }),
        async (size, way, back) => {
          const plaintext = pattern(size);
          const layer = await sealed(cipher, plaintext, { chunkSize: way });
          expect(await read(await opening(layer).open(openerOf(layer.blob, back)))).toEqual(plaintext);
        },
      ),
      { numRuns: 40 },
    );
  });

  it("takes bytes one by one and with empty chunks between", async () => {
    const plaintext = pattern(chunk + 3);
    const encryption = newEncryption({ cipher, mediaType, plaintextSize: plaintext.length });
    const source = async function* () {
      for (const byte of plaintext) {
        yield Uint8Array.of(byte);
        yield new Uint8Array(0);
      }
    };
    const blob = await read(encryption.stage(source()));
    const layer = { blob, publicOptions: encryption.publicOptions(), privateOptions: encryption.privateOptions };
    expect(await read(await opening(layer).open(openerOf(blob, 1)))).toEqual(plaintext);
  });

  it("reads any range and no more than its chunks or segments", async () => {
    const plaintext = pattern(3 * chunk + 100);
    const layer = await sealed(cipher, plaintext, { plaintextSize: plaintext.length });
    const decryption = opening(layer);
    await fc.assert(
      fc.asyncProperty(fc.nat(plaintext.length), fc.nat(plaintext.length), async (a, b) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        const opener = openerOf(layer.blob);
        expect(await read(await decryption.openRange(opener, { start, end }))).toEqual(plaintext.subarray(start, end));
        const fetched = opener.log.reduce((sum, range) => sum + range.end - range.start, 0);
        const most = cipher === gcm ? 56 + (Math.floor((end - start) / chunk) + 2) * (chunk + 16) : layer.blob.length;
        expect(fetched).toBeLessThanOrEqual(most);
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    [-1, 5],
    [5, 4],
    [0, 101],
    [0.5, 1],
    [Number.NaN, 1],
  ])("refuses the range %d-%d of 100 bytes", async (start, end) => {
    const layer = await sealed(cipher, pattern(100), { plaintextSize: 100 });
    expect(await outcomeOf(() => opening(layer).openRange(openerOf(layer.blob), { start, end }))).toMatchObject({
      code: "ERR_CIPHER_RANGE",
    });
  });

  it("refuses a source shorter or longer than declared", async () => {
    for (const declared of [99, 101]) {
      const encryption = newEncryption({ cipher, mediaType, plaintextSize: declared });
      expect((await outcomeOf(async () => encryption.stage(chunksOf(pattern(100), 7)))).code).toBe("ERR_CIPHER_SIZE_MISMATCH");
    }
  });

  it("serves once, so that no nonce meets two plaintexts", async () => {
    const encryption = newEncryption({ cipher, mediaType });
    await read(encryption.stage(chunksOf(pattern(5), 5)));
    expect((await outcomeOf(async () => encryption.stage(chunksOf(pattern(6), 5)))).code).toBe("ERR_INTERNAL");
  });

  it("gives the same blob for the same layer of a tenant only in convergent mode", async () => {
    const plaintext = pattern(chunk + 9);
    const sealWith = async (secret: string, digest: string, type = mediaType) => {
      const convergent = { secret: Buffer.from(secret.padEnd(32, "x")), plaintextDigest: digest };
      return read(newEncryption({ cipher, mediaType: type, convergent }).stage(chunksOf(plaintext, 1000)));
    };
    const blob = await sealWith("a", "sha256:1");
    expect(await sealWith("a", "sha256:1")).toEqual(blob);
    expect(() => newEncryption({ cipher, mediaType, convergent: { secret: Buffer.alloc(31), plaintextDigest: "sha256:1" } })).toThrow(
      expect.objectContaining({ code: "ERR_CIPHER_CONVERGENT_SECRET" }),
    );
    expect(await sealWith("b", "sha256:1")).not.toEqual(blob);
    expect(await sealWith("a", "sha256:2")).not.toEqual(blob);
    expect((await sealed(cipher, plaintext)).blob).not.toEqual(blob);
  });

  it("knows every size both ways", () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(5 * chunk), fc.integer({ min: 0, max: 2 ** 50 })), (size) => {
        expect(plaintextSize(cipher, ciphertextSize(cipher, size))).toBe(size);
      }),
    );
    expect(() => ciphertextSize(cipher, 2 ** 50 + 1)).toThrow(expect.objectContaining({ code: "ERR_CIPHER_LAYER_TOO_LARGE" }));
    expect(() => plaintextSize(cipher, -1)).toThrow(expect.objectContaining({ code: "ERR_CIPHER_SIZE_IMPOSSIBLE" }));
  });
});

it("refuses blob sizes that no chunked layer has", () => {
  for (const size of [0, 55, 71, 56 + 16400, 56 + 16400 + 15, 56 + 2 * 16400]) {
    expect(() => plaintextSize(gcm, size)).toThrow(expect.objectContaining({ code: "ERR_CIPHER_TRUNCATED" }));
  }
});
