import { createCipheriv, createHmac } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { segmentCount, segmentLength } from "../../src/cipher/sizes.ts";
import { openerOf, read } from "./bytes.ts";
import { ctr, opening, outcomeOf, pattern, sealed, type SealedBlob } from "./layers.ts";

const MiB = 1 << 20;
const plaintext = pattern(2 * MiB + 12345);

describe("the segment tags of a CTR layer", () => {
  let layer: SealedBlob;
  beforeAll(async () => {
    layer = await sealed(ctr, plaintext, { plaintextSize: plaintext.length });
  });

  it("are as documented, computed here a second time", () => {
    const { symkey, cipheroptions } = layer.privateOptions;
    const nonce = cipheroptions["nonce"] ?? Buffer.alloc(0);
    const cipher = createCipheriv("aes-256-ctr", symkey, nonce);
    expect(layer.blob.equals(cipher.update(plaintext))).toBe(true);
    expect(Buffer.from(layer.publicOptions.hmac)).toEqual(createHmac("sha256", symkey).update(layer.blob).digest());
    const key = createHmac("sha256", symkey)
      .update(Buffer.concat([Buffer.from("oci-enc/segtag/v1"), nonce, Buffer.of(1)]))
      .digest();
    const tags = [0, 1, 2].map((i) => {
      const head = Buffer.alloc(20);
      head.writeUInt32BE(i, 4);
      head.writeUInt32BE(layer.blob.length, 12);
      head.writeUInt32BE(MiB, 16);
      return createHmac("sha256", key)
        .update(head)
        .update(layer.blob.subarray(i * MiB, (i + 1) * MiB))
        .digest()
        .subarray(0, 16);
    });
    expect(Buffer.from(layer.publicOptions.cipheroptions["seg.tags"] ?? "")).toEqual(Buffer.concat(tags));
    expect(Buffer.from(layer.publicOptions.cipheroptions["seg.len"] ?? "")).toEqual(Buffer.of(0, 0x10, 0, 0));
  });

  it("let the layer be read in one pass, and in parts", async () => {
    const decryption = opening(layer);
    expect(decryption.passes).toBe(1);
    const whole = openerOf(layer.blob);
    expect((await read(await decryption.open(whole))).equals(plaintext)).toBe(true);
    expect(whole.log).toEqual([{ start: 0, end: layer.blob.length }]);
    const part = openerOf(layer.blob);
    const range = { start: MiB + 5, end: MiB + 25 };
    expect(await read(await decryption.openRange(part, range))).toEqual(plaintext.subarray(range.start, range.end));
    expect(part.log).toEqual([{ start: MiB, end: 2 * MiB }]);
  });

  it("are made up by the first of two readings where the writer left them out", async () => {
    const untagged = await sealed(ctr, plaintext);
    const decryption = opening(untagged);
    expect(decryption.passes).toBe(2);
    const source = openerOf(untagged.blob);
    expect((await read(await decryption.open(source))).equals(plaintext)).toBe(true);
    expect(source.log.length).toBe(2);
    const range = openerOf(untagged.blob);
    expect(await read(await decryption.openRange(range, { start: 2 * MiB, end: 2 * MiB + 3 }))).toEqual(
      plaintext.subarray(2 * MiB, 2 * MiB + 3),
    );
    expect(range.log).toEqual([{ start: 2 * MiB, end: untagged.blob.length }]);
  });

  it.each([0, 1, 2])("release what stands before a damaged segment %i, and nothing after", async (index) => {
    const changed = Buffer.from(layer.blob);
    const at = index * MiB + 77;
    changed[at] = (changed[at] ?? 0) ^ 0x80;
    const { code, released } = await outcomeOf(() => opening(layer).open(openerOf(changed)));
    expect(code).toBe("ERR_CIPHER_SEGMENT_DAMAGED");
    expect(released.equals(plaintext.subarray(0, index * MiB))).toBe(true);
    const { code: untagged, released: nothing } = await outcomeOf(() =>
      opening({ ...layer, publicOptions: { ...layer.publicOptions, cipheroptions: {} } }).open(openerOf(changed)),
    );
    expect(untagged).toBe("ERR_CIPHER_MAC_MISMATCH");
    expect(nothing.length).toBe(0);
  });
});

it("doubles segments until a blob has at most 4096", () => {
  expect([0, 1, 4096 * MiB, 4096 * MiB + 1, 2 ** 40].map(segmentLength)).toEqual([MiB, MiB, MiB, 2 * MiB, 256 * MiB]);
  expect([0, 1, MiB, MiB + 1, 2 ** 40].map(segmentCount)).toEqual([0, 1, 1, 2, 4096]);
});
