import { constants, createZstdCompress, zstdCompressSync } from "node:zlib";
import { buffer } from "node:stream/consumers";
import { array, assert, asyncProperty, integer } from "fast-check";
import { describe, expect, it } from "vitest";
import { decompress } from "../../src/guest/decompress.ts";
import { GuestError } from "../../src/guest/index.ts";
import { zstdFrames } from "../../src/guest/zstd-frames.ts";

const maxZstdWindow = 128 * 1024 ** 2;

async function* pieces(bytes: Buffer, sizes: readonly number[]) {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function inflate(bytes: Buffer, sizes: readonly number[] = [bytes.length], window = maxZstdWindow): Promise<string> {
  const out: Buffer[] = [];
  for await (const chunk of decompress("zstd", pieces(bytes, sizes), { maxZstdWindow: window })) out.push(chunk);
  return Buffer.concat(out).toString("latin1");
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "accepted";
  } catch (error) {
    if (error instanceof GuestError) return error.code;
    throw error;
  }
}

function skippable(content: Buffer, kind = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a50 + kind, 0);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

const one = zstdCompressSync("one ".repeat(1000));
const two = zstdCompressSync(Buffer.from("two"), { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
const empty = zstdCompressSync("");
const text = "one ".repeat(1000);

describe("zstd streams", () => {
  it.each<readonly [string, Buffer, string]>([
    ["one frame", one, text],
    ["several frames, which Node.js alone would cut off after the first", Buffer.concat([one, two, one]), `${text}two${text}`],
    ["an empty frame between others", Buffer.concat([empty, two, empty]), "two"],
    ["a skippable frame first", Buffer.concat([skippable(Buffer.from("hello"), 15), two]), "two"],
    ["a skippable frame in the middle", Buffer.concat([one, skippable(Buffer.alloc(70_000)), two]), `${text}two`],
    ["skippable frames last, as zstd:chunked has", Buffer.concat([two, skippable(Buffer.from("toc")), skippable(Buffer.alloc(0))]), "two"],
  ])("of %s are inflated whole, whatever the pieces", async (_, bytes, expected) => {
    expect(await inflate(bytes)).toBe(expected);
    expect(await inflate(bytes, [1])).toBe(expected);
    expect(await inflate(bytes, [3, 11, 7])).toBe(expected);
  });

  it("of unknown content size, made by a stream, are inflated", async () => {
    const compressor = createZstdCompress({ params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    compressor.write(Buffer.alloc(400_000, "stream"));
    compressor.end();
    const bytes = await buffer(compressor);
    expect(await inflate(bytes, [1000])).toHaveLength(400_000);
  });

  it("are malformed wherever they are cut", async () => {
    const bytes = Buffer.concat([skippable(Buffer.from("xyz")), two, skippable(Buffer.from("abc"))]);
    const borders = [11 + two.length];
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const code = await codeOf(inflate(bytes.subarray(0, cut)));
      expect([cut, code]).toEqual([cut, borders.includes(cut) ? "accepted" : "ERR_GUEST_COMPRESSION_MALFORMED"]);
    }
  });

  it.each<readonly [string, Buffer]>([
    ["nothing", Buffer.alloc(0)],
    ["only a skippable frame", skippable(Buffer.from("x"))],
    ["garbage after a frame", Buffer.concat([two, Buffer.from("garbage!")])],
    ["zeros after a frame", Buffer.concat([two, Buffer.alloc(16)])],
    ["a wrong checksum", Buffer.concat([two.subarray(0, -1), Buffer.from([(two.at(-1) ?? 0) ^ 1])])],
    ["a frame that wants a dictionary", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01, 0x01, 0x00, 0x00])],
    ["a reserved bit", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x28, 0x01, 0x09, 0x00, 0x00, 0x61])],
    ["a reserved block type", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x01, 0x0f, 0x00, 0x00, 0x61])],
  ])("of %s are malformed", async (_, bytes) => {
    expect(await codeOf(inflate(bytes))).toBe("ERR_GUEST_COMPRESSION_MALFORMED");
    expect(await codeOf(inflate(bytes, [1]))).toBe("ERR_GUEST_COMPRESSION_MALFORMED");
  });

  it("may not want a window beyond the limit, before any memory is taken", async () => {
    const huge = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x09, 0x00, 0x00, 0x61]);
    expect(await codeOf(inflate(huge))).toBe("ERR_GUEST_LIMIT_EXCEEDED");
    const single = Buffer.alloc(17);
    single.set([0x28, 0xb5, 0x2f, 0xfd, 0xe0]);
    single.writeBigUInt64LE(2n ** 40n, 5);
    expect(await codeOf(inflate(single))).toBe("ERR_GUEST_LIMIT_EXCEEDED");
    expect(await codeOf(inflate(zstdCompressSync(Buffer.alloc(3_000_000, "x")), undefined, 1024 * 1024))).toBe("ERR_GUEST_LIMIT_EXCEEDED");
  });

  it("come out of the splitter as they went in, less skippable frames", async () => {
    const bytes = Buffer.concat([one, skippable(Buffer.from("s")), two]);
    await assert(
      asyncProperty(array(integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 }), async (sizes) => {
        expect(await collect(zstdFrames(maxZstdWindow)(pieces(bytes, sizes)))).toEqual(Buffer.concat([one, two]));
      }),
    );
  });
});

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const out: Uint8Array[] = [];
  for await (const chunk of source) out.push(chunk);
  return Buffer.concat(out);
}
