import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, it, vi } from "vitest";
import { digestOf, type ByteStream, type Digest } from "../../src/bytes/index.ts";
import { cipherNames } from "../../src/cipher/index.ts";
import { pullImage } from "../../src/guest/index.ts";
import { InflateThread, type InflateJob } from "../../src/guest/inflate-thread.ts";
import { broker, compressed, image, testFolder, type Compression } from "./images.ts";
import { tar } from "./tar-bytes.ts";

const folder = testFolder();
const thread = new InflateThread();
// In the middle of its work a thread may be anywhere in zlib, and Node.js does not survive that.
const terminate = vi.spyOn(Worker.prototype, "terminate");
afterAll(async () => {
  await thread.close();
  expect(terminate).not.toHaveBeenCalled();
});

/** Own memory for each chunk: it is given away. */
function streamOf(bytes: Buffer, chunkSize = 300_000): ByteStream {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += chunkSize) chunks.push(Buffer.from(new Uint8Array(bytes.subarray(at, at + chunkSize))));
  return Readable.from(chunks, { objectMode: true });
}

async function inflated(
  job: Pick<InflateJob, "compression" | "stream"> & Partial<InflateJob>,
): Promise<{ bytes: Buffer; digest: Digest; read: number }> {
  const parts: Buffer[] = [];
  let read = 0;
  const chunks = thread.inflate({
    limits: { maxZstdWindow: 8 << 20 },
    algorithm: "sha256",
    progress: (size) => void (read += size),
    ...job,
  });
  for (;;) {
    const { done, value } = await chunks.next();
    if (done === true) return { bytes: Buffer.concat(parts), digest: value, read };
    parts.push(Buffer.from(value));
  }
}

describe("the thread that inflates", () => {
  const content = Buffer.concat([randomBytes(5_000_000), Buffer.alloc(9_000_000, "zeros and more")]);

  it.each<Compression>(["none", "gzip", "zstd"])("gives what a layer inflates to and its digest: %s", async (compression) => {
    const stored = compressed(content, compression);
    const { bytes, digest, read } = await inflated({ compression, stream: streamOf(stored) });
    expect(bytes.equals(content)).toBe(true);
    expect(digest).toBe(digestOf(content));
    expect(read).toBe(stored.length);
  });

  it("does not run ahead of its reader without bound", async () => {
    const bomb = gzipSync(Buffer.alloc(200 << 20), { level: 1 });
    const chunks = thread.inflate({
      compression: "gzip",
      stream: streamOf(bomb, 64),
      limits: { maxZstdWindow: 8 << 20 },
      algorithm: "sha256",
      progress: () => undefined,
    });
    const before = process.memoryUsage().rss;
    await chunks.next();
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
    await chunks.return(digestOf(bomb));
    // Given up: the next layer has a thread of its own again.
    expect((await inflated({ compression: "none", stream: streamOf(content) })).digest).toBe(digestOf(content));
  });

  it("says what is wrong with a layer in the words of this room, and goes on with the next", async () => {
    const damaged = compressed(content, "gzip");
    damaged[damaged.length - 5] = (damaged.at(-5) ?? 0) ^ 1;
    await expect(inflated({ compression: "gzip", stream: streamOf(damaged) })).rejects.toMatchObject({
      code: "ERR_GUEST_COMPRESSION_MALFORMED",
    });
    const cut = compressed(content, "zstd").subarray(0, 1000);
    await expect(inflated({ compression: "zstd", stream: streamOf(cut) })).rejects.toMatchObject({
      code: "ERR_GUEST_COMPRESSION_MALFORMED",
    });
    await expect(
      inflated({ compression: "zstd", stream: streamOf(compressed(content, "zstd")), limits: { maxZstdWindow: 1024 } }),
    ).rejects.toMatchObject({ code: "ERR_GUEST_LIMIT_EXCEEDED", details: { limit: "maxZstdWindow" } });
    expect((await inflated({ compression: "zstd", stream: streamOf(compressed(content, "zstd")) })).digest).toBe(digestOf(content));
  });

  it("ends with the error of the stream", async () => {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from(new Uint8Array(compressed(content, "gzip").subarray(0, 100_000)));
        throw new RangeError("the line is dead");
      })(),
      { objectMode: true },
    );
    await expect(inflated({ compression: "gzip", stream: broken })).rejects.toThrow("the line is dead");
  });
});

describe("a pull of large layers", () => {
  const big = randomBytes(10 << 20);
  const layers = [
    tar({ name: "etc/", type: "5" }, { name: "big", data: big }),
    tar({ name: "small", data: "s" }),
    tar({ name: "other", data: big }),
  ];

  it.each(cipherNames.flatMap((cipher) => (["none", "gzip", "zstd"] as const).map((compression) => ({ cipher, compression }))))(
    "$cipher, $compression",
    async ({ cipher, compression }) => {
      const kbs = broker();
      const { store } = await image({ layers, compression, seal: kbs.seal(cipher) });
      await pullImage({
        store,
        reference: "latest",
        target: folder.path("out"),
        output: "rootfs",
        verification: { kind: "insecure-accept-unsigned" },
        openKeys: async () => [kbs.unwrapper],
      });
      expect(readFileSync(folder.path("out/big")).equals(big)).toBe(true);
      expect(readFileSync(folder.path("out/other")).equals(big)).toBe(true);
      expect(readdirSync(folder.path("out")).toSorted()).toEqual(["big", "etc", "other", "small"]);
    },
  );

  it("leaves nothing when the diffID is another's, and says which layer", async () => {
    const kbs = broker();
    const wrong = digestOf(Buffer.from("another layer"));
    const diffIds = [...layers.slice(0, 2).map((layer) => digestOf(layer)), wrong];
    const { store } = await image({ layers, compression: "gzip", diffIds, seal: kbs.seal("AES_256_GCM_C2SP_CHUNKED_V1") });
    const pull = pullImage({
      store,
      reference: "latest",
      target: folder.path("out"),
      output: "rootfs",
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: async () => [kbs.unwrapper],
    });
    await expect(pull).rejects.toMatchObject({ code: "ERR_GUEST_DIFF_ID_MISMATCH", details: { layer: 2 } });
    expect(readdirSync(folder.path())).toEqual([]);
  });
});
