import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { ciphertextSize, newDecryption, newEncryption, plaintextSize, type LayerEncryption } from "../../src/cipher/index.ts";
import { buildTransform } from "../../src/cipher/plan.ts";
import { chunkNonces, deriveChunkKeys } from "../../src/cipher/kdf.ts";
import { transformStage } from "../../src/cipher/transform.ts";
import { chunksOf, read } from "./bytes.ts";

const cipher = "AES_256_GCM_C2SP_CHUNKED_V1";
const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
const symkey = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const salt = Buffer.from(Array.from({ length: 24 }, (_, i) => 0x40 + i));
const plain = (size: number) => Buffer.from(Array.from({ length: size }, (_, i) => i % 251));

/** Vectors of the format, confirmed with a second implementation (pyca AESGCM and HMAC). */
const vectors = [
  [0, 72, "9eda0f30f6e21f49738e91e4d1e0dcb9b21d38110a237571a1182b47dcc933ae"],
  [1, 73, "7ad9d620938b216077decaec49bf14b1cdd7f040bcd73911258278784ffcc664"],
  [16383, 16455, "1dbda77b554517140477b20f87ec1193b2ac852f2d8df9f781b460249ac08d7c"],
  [16384, 16472, "1f81176aa5e31a311b79e5c39fe90194453c8609864eccd6a23a38c6f59aeea0"],
  [16385, 16473, "33a4070586569087b29c469761215849fe4cc2fe5680cee9d73deeb6e70b3121"],
  [40000, 40104, "06efe325547551309a7edea0ed68e1fa52856b577b625327f6401ad628200de2"],
] as const;

describe.each(["node", "noble"] as const)("chunked AES-256-GCM on %s", (engine) => {
  it("derives the published keys", () => {
    const keys = deriveChunkKeys(symkey, salt, mediaType);
    expect(Buffer.from(keys.commitment).toString("hex")).toBe("a3bcf4bb67e4e5d365119adc2518d44d2bbec1362b7b7f19ac318edb1a147c13");
    expect(Buffer.from(keys.key).toString("hex")).toBe("b9515ea6b08d6941dd6ad94152d2ebb3c6a0b0f4b126bb98ecb36b8f08f3e060");
    expect(Buffer.from(keys.baseNonce).toString("hex")).toBe("5866b6598438e0029cd94ccf");
  });

  it.each(vectors)("encrypts %i bytes to the published blob and back", async (size, blobSize, sha256) => {
    const { key, baseNonce, commitment } = deriveChunkKeys(symkey, salt, mediaType);
    const transform = await buildTransform({ kind: "seal-chunks", engine, key, baseNonce });
    const body = await read(transformStage(transform)(chunksOf(plain(size), 5000)));
    const blob = Buffer.concat([salt, commitment, body]);
    expect(blob.length).toBe(blobSize);
    expect(createHash("sha256").update(blob).digest("hex")).toBe(sha256);
    expect(ciphertextSize(cipher, size)).toBe(blobSize);
    expect(plaintextSize(cipher, blobSize)).toBe(size);
    const decryption = newDecryption({
      publicOptions: { cipher, hmac: commitment, cipheroptions: {} },
      privateOptions: { symkey, cipheroptions: {} },
      mediaType,
      ciphertextSize: blob.length,
      engine,
    });
    expect(await read(await decryption.open(async () => Readable.from(chunksOf(blob, 7777))))).toEqual(plain(size));
  });
});

it("gives every layer its own key and salt", async () => {
  const blobOf = (layer: LayerEncryption) => read(layer.stage(chunksOf(plain(10), 10)));
  const [a, b] = [newEncryption({ cipher, mediaType }), newEncryption({ cipher, mediaType })];
  expect(await blobOf(a)).not.toEqual(await blobOf(b));
  expect(a.privateOptions.symkey).not.toEqual(b.privateOptions.symkey);
});

it("counts chunks in 96 bits, past 2^32", () => {
  const base = Buffer.from("5866b6598438e0029cd94ccf", "hex");
  const nonceOf = chunkNonces(base);
  for (const index of [0, 1, 255, 256, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 36 + 5, 2 ** 40 - 1]) {
    const expected = (BigInt(`0x${base.toString("hex")}`) ^ BigInt(index)).toString(16).padStart(24, "0");
    expect(Buffer.from(nonceOf(index)).toString("hex")).toBe(expected);
  }
  expect(base.toString("hex")).toBe("5866b6598438e0029cd94ccf");
});
