import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  collect,
  compose,
  digestOf,
  limitBytes,
  observeBytes,
  verifyContent,
  type ByteStream,
  type Digest,
} from "../../src/bytes/index.ts";

function streamOf(...chunks: readonly Uint8Array[]): ByteStream {
  return Readable.from(chunks);
}

/** The code of what a promise rejects with. */
async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof Error && "code" in error ? error.code : error;
}

const all = { maxBytes: 1 << 20 };

describe("verifyContent", () => {
  it("passes what fits, in any chunking", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 50 })), async (chunks) => {
        const bytes = Buffer.concat(chunks);
        const stream = compose(
          streamOf(...chunks.map((chunk) => Buffer.from(chunk))),
          verifyContent({ digest: digestOf(bytes), size: bytes.length }),
        );
        expect(await collect(stream, all)).toEqual(bytes);
      }),
    );
  });

  it.each([
    ["cut", (bytes: Buffer) => bytes.subarray(0, -1), "ERR_CONTENT_TRUNCATED"],
    ["longer", (bytes: Buffer) => Buffer.concat([bytes, Buffer.from([0])]), "ERR_CONTENT_TRAILING_DATA"],
    ["changed", (bytes: Buffer) => Buffer.concat([Buffer.from([(bytes[0] ?? 0) ^ 1]), bytes.subarray(1)]), "ERR_CONTENT_DIGEST_MISMATCH"],
  ] as const)("refuses content that is %s, and never gives its last chunk", async (_what, change, code) => {
    const bytes = randomBytes(1000);
    const changed = change(bytes);
    const seen: Buffer[] = [];
    const stream = compose(
      streamOf(changed.subarray(0, 500), changed.subarray(500)),
      verifyContent({ digest: digestOf(bytes), size: bytes.length }),
    );
    const reading = (async () => {
      for await (const chunk of stream) seen.push(chunk as Buffer);
    })();
    expect(await codeOf(reading)).toBe(code);
    expect(Buffer.concat(seen).length).toBeLessThan(bytes.length);
  });

  it("checks by the algorithm that the digest names", async () => {
    const bytes = randomBytes(10);
    const digest: Digest = digestOf(bytes, "sha512");
    expect(await collect(compose(streamOf(bytes), verifyContent({ digest, size: 10 })), all)).toEqual(bytes);
  });
});

describe("compose", () => {
  it("closes its source when the result is destroyed before a byte was read", async () => {
    const source = streamOf(randomBytes(10));
    const result = compose(source, limitBytes(5));
    result.destroy();
    await new Promise((resolve) => source.once("close", resolve));
    expect(source.destroyed).toBe(true);
  });

  it("closes a source that stalls at once when the result is destroyed, through any number of stages", async () => {
    const source = new Readable({ read: () => undefined });
    source.push(randomBytes(10));
    const passed = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      yield* chunks;
    };
    const result = compose(compose(source, passed), passed, passed);
    const chunks = result[Symbol.asyncIterator]();
    await chunks.next();
    const next = chunks.next();
    result.destroy(new RangeError("too slow"));
    await expect(next).rejects.toThrow("too slow");
    expect(source.destroyed).toBe(true);
  });

  it("ends with the error of its source, also while nobody reads", async () => {
    const source = new Readable({ read: () => undefined });
    const result = compose(
      source,
      observeBytes(() => undefined),
    );
    source.destroy(new Error("the wire broke"));
    const error = await new Promise<Error>((resolve) => result.once("error", resolve));
    expect(error.message).toBe("the wire broke");
  });

  it("hands chunks on as they are, without joining them", async () => {
    const chunks = [randomBytes(3), randomBytes(4)];
    const seen: unknown[] = [];
    for await (const chunk of compose(streamOf(...chunks))) seen.push(chunk);
    expect(seen).toEqual(chunks);
  });
});

describe("limits", () => {
  it("end a stream once it has passed them", async () => {
    expect(await codeOf(collect(compose(streamOf(randomBytes(6)), limitBytes(5)), all))).toBe("ERR_CONTENT_TOO_LARGE");
    expect(await codeOf(collect(streamOf(randomBytes(6)), { maxBytes: 5 }))).toBe("ERR_CONTENT_TOO_LARGE");
    expect((await collect(streamOf(randomBytes(5)), { maxBytes: 5 })).length).toBe(5);
  });
});
