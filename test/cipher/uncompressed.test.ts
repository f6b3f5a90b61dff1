import { randomBytes } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { uncompressedHasher, type Compression } from "../../src/cipher/index.ts";

const parts = [randomBytes(40_000), Buffer.alloc(300_000, "text "), randomBytes(7), Buffer.alloc(0), randomBytes(90_000)];
const content = Buffer.concat(parts);
/** Source: RFC 8878 section 3.1.2. */
const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);

async function hashed(compression: Compression, stored: Buffer, pieceSize: number): Promise<string> {
  const hasher = uncompressedHasher(compression);
  for (let at = 0; at < stored.length; at += pieceSize) await hasher.update(stored.subarray(at, at + pieceSize));
  return await hasher.digest();
}

describe("the digest of what a layer uncompresses to", () => {
  it.each<readonly [string, Compression, Buffer]>([
    ["a plain tar", "none", content],
    ["gzip of several members", "gzip", Buffer.concat(parts.map((part) => gzipSync(part)))],
    // As pzstd and zstd:chunked write it; Node.js drops what follows a frame in the same write.
    ["zstd of several frames", "zstd", Buffer.concat(parts.map((part) => zstdCompressSync(part)))],
    ["zstd with skippable frames", "zstd", Buffer.concat(parts.flatMap((part) => [zstdCompressSync(part), skippable]))],
  ])("is of all of it: %s", async (_, compression, stored) => {
    for (const pieceSize of [7, 4096, 1 << 19]) expect(await hashed(compression, stored, pieceSize)).toBe(digestOf(content));
  });

  it.each<readonly [string, Compression, Buffer]>([
    ["gzip with a zero byte and more behind it", "gzip", Buffer.concat([gzipSync(content), Buffer.from("\0more")])],
    ["gzip with garbage behind it", "gzip", Buffer.concat([gzipSync(content), Buffer.from("garbage")])],
    ["gzip that is cut", "gzip", gzipSync(content).subarray(0, -5)],
    ["zstd with garbage behind it", "zstd", Buffer.concat([zstdCompressSync(content), Buffer.from("garbage")])],
    ["zstd that is cut in its second frame", "zstd", Buffer.concat([zstdCompressSync(content), zstdCompressSync(content).subarray(0, -5)])],
    ["nothing called zstd", "zstd", Buffer.alloc(0)],
  ])("is none of %s", async (_, compression, stored) => {
    for (const pieceSize of [4096, 1 << 19]) {
      await expect(hashed(compression, stored, pieceSize)).rejects.toMatchObject({ code: "ERR_CIPHER_UNCOMPRESS" });
    }
  });
});
