import { randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { compose, digestAlgorithmOf, digestOf, hashHere, verifyContent } from "../../src/bytes/index.ts";
import { CipherThreads, hashingFor } from "../../src/cipher/index.ts";
import { bytesStream } from "../../src/store/index.ts";

const threads = new CipherThreads({ threads: 1 });
const large = 64 << 20;
afterAll(async () => await threads.close());

describe("hashing in another thread", () => {
  it("gives the digest of what it was told, however it was cut", async () => {
    const content = randomBytes(3 << 20);
    const cuts = fc.array(fc.integer({ min: 0, max: 1 << 20 }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(cuts, fc.constantFrom("sha256" as const, "sha512" as const), async (sizes, algorithm) => {
        const hasher = hashingFor(threads, large)(algorithm);
        let at = 0;
        for (const size of [...sizes, content.length]) {
          const chunk = Buffer.from(content.subarray(at, at + size));
          await hasher.update(chunk);
          chunk.fill(0);
          at = Math.min(content.length, at + size);
        }
        expect(await hasher.digest()).toBe(digestOf(content.subarray(0, at), algorithm));
      }),
      { numRuns: 25 },
    );
  });

  it("is for large content only", () => {
    expect(hashingFor(threads, 1 << 20)).toBe(hashHere);
    expect(hashingFor(undefined, large)).toBe(hashHere);
    expect(hashingFor(threads, large)).not.toBe(hashHere);
  });

  it("verifies content: the right one ends, a changed one fails before its last chunk", async () => {
    const content = randomBytes(9 << 20);
    const digest = digestOf(content);
    const expected = { digest, size: content.length };
    const hashing = hashingFor(threads, expected.size);
    const read = async (bytes: Buffer): Promise<number> => {
      let size = 0;
      for await (const chunk of compose(bytesStream(bytes), verifyContent(expected, "blob", hashing))) size += (chunk as Buffer).length;
      return size;
    };
    expect(await read(content)).toBe(content.length);
    content[content.length - 1] = (content.at(-1) ?? 0) ^ 1;
    await expect(read(content)).rejects.toMatchObject({ code: "ERR_CONTENT_DIGEST_MISMATCH" });
    await expect(read(content.subarray(1))).rejects.toMatchObject({ code: "ERR_CONTENT_TRUNCATED" });
    expect(digestAlgorithmOf(digest)).toBe("sha256");
  });

  it("fails whoever goes on after its threads were closed", async () => {
    const gone = new CipherThreads({ threads: 1 });
    const hasher = hashingFor(gone, large)("sha256");
    await gone.close();
    await expect(
      (async () => {
        for (let i = 0; i < 40; i += 1) await hasher.update(randomBytes(1 << 20));
        await hasher.digest();
      })(),
    ).rejects.toMatchObject({ code: "ERR_INTERNAL" });
  });
});
