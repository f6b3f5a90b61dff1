import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { Readable } from "node:stream";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { cipherNames, type CipherName } from "../../src/cipher/index.ts";
import { pullImage, unpackImage, type PullOptions, type PullRequest } from "../../src/guest/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { broker, image, readerOf, testFolder, type ImagePlan } from "./images.ts";
import { tar } from "./tar-bytes.ts";

/*
 * What is true of small layers must be true of layers over 8 MiB, which two threads decipher and inflate.
 */

const folder = testFolder();
const big = randomBytes(9 << 20);
const layer = tar({ name: "big", data: big }, { name: "last", data: "x" });
const gzipped = gzipSync(layer, { level: 1 });
const zstandard = zstdCompressSync(layer);
const half = layer.length >> 1;
/** Source: RFC 8878 section 3.1.2. */
const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 8, 0]), Buffer.alloc(0x80000)]);

type Plan = Omit<ImagePlan, "layers" | "seal"> & { readonly layers?: readonly Buffer[]; readonly cipher?: CipherName };

interface Changes extends Partial<PullRequest> {
  /** What a layer's bytes become on their way. */
  readonly onTheWay?: (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Bytes after which a layer's stream waits for ever. */
  readonly stallsAfter?: number;
}

async function pull(plan: Plan, { onTheWay, stallsAfter, ...request }: Changes = {}, options: PullOptions = {}) {
  const kbs = broker();
  const { layers = [layer], cipher = "AES_256_GCM_C2SP_CHUNKED_V1" } = plan;
  const made = await image({ ...plan, layers, seal: kbs.seal(cipher) });
  const store = readerOf(made.store, async (wanted, call) => {
    const stream = await made.store.fetch(wanted, call);
    const isLayer = made.layers.some(({ digest }) => digest === wanted.digest);
    if (isLayer && stallsAfter !== undefined) return stalling(stream, stallsAfter);
    return isLayer && onTheWay !== undefined ? Readable.from(onTheWay(stream), { objectMode: true }) : stream;
  });
  return await pullImage(
    {
      store,
      reference: "latest",
      target: folder.path("out"),
      output: "rootfs",
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: async () => [kbs.unwrapper],
      // In one request, so that what happens on the way happens once.
      readAhead: { segmentBytes: 1 << 30 },
      ...request,
    },
    options,
  );
}

/** A stream that stops without an end after so many bytes, as that of a connection whose other side has gone. */
function stalling(source: AsyncIterable<Uint8Array>, after: number): Readable {
  const chunks = source[Symbol.asyncIterator]();
  let size = 0;
  return new Readable({
    objectMode: true,
    highWaterMark: 1,
    read() {
      if (size > after) return;
      void chunks.next().then(({ done, value }) => {
        size += done === true ? 0 : value.length;
        this.push(done === true ? null : value);
      });
    },
  });
}

describe("a large layer", () => {
  it.each<readonly [string, Plan]>([
    [
      "gzip of several members",
      {
        compression: "gzip",
        stored: () => Buffer.concat([gzipSync(layer.subarray(0, half)), gzipSync(layer.subarray(half)), gzipSync("")]),
      },
    ],
    [
      "zstd of several frames",
      {
        compression: "zstd",
        stored: () =>
          Buffer.concat([zstdCompressSync(layer.subarray(0, half)), skippable, zstdCompressSync(layer.subarray(half)), skippable]),
      },
    ],
  ])("may be %s", async (_, plan) => {
    await pull(plan);
    expect(readFileSync(folder.path("out/big")).equals(big)).toBe(true);
    expect(readdirSync(folder.path("out"))).toEqual(["big", "last"]);
  });

  it.each<readonly [string, Plan]>([
    ["gzip that is cut", { compression: "gzip", stored: () => gzipped.subarray(0, -4) }],
    ["gzip with garbage behind it", { compression: "gzip", stored: () => Buffer.concat([gzipped, randomBytes(3 << 20)]) }],
    [
      "gzip with a zero byte and garbage behind it",
      { compression: "gzip", stored: () => Buffer.concat([gzipped, Buffer.alloc(1), randomBytes(3 << 20)]) },
    ],
    ["gzip with zeros behind it", { compression: "gzip", stored: () => Buffer.concat([gzipped, Buffer.alloc(3 << 20)]) }],
    ["zstd that is cut", { compression: "zstd", stored: () => zstandard.subarray(0, -1) }],
    ["zstd with garbage behind it", { compression: "zstd", stored: () => Buffer.concat([zstandard, randomBytes(3 << 20)]) }],
    [
      "zstd with a damaged frame",
      {
        compression: "zstd",
        stored: () => Buffer.concat([zstandard.subarray(0, 6 << 20), Buffer.alloc(9), zstandard.subarray((6 << 20) + 9)]),
      },
    ],
  ])("is refused when it is %s", async (_, plan) => {
    await expect(pull(plan)).rejects.toMatchObject({ category: "integrity", details: { layer: 0 } });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("is refused when a bomb follows what is hard to compress", async () => {
    const bomb = tar({ name: "big", data: big }, { name: "zeros", data: Buffer.alloc(150 << 20) });
    const pulling = pull({ layers: [bomb], compression: "zstd" }, { limits: { maxRatio: 10 } });
    await expect(pulling).rejects.toMatchObject({ code: "ERR_GUEST_LIMIT_EXCEEDED", details: { limit: "maxRatio" } });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it.each(cipherNames)("gives nothing of what follows a flipped bit: %s", async (cipher) => {
    const seen: number[] = [];
    async function* flipped(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      let at = 0;
      for await (const chunk of chunks) {
        const bytes = Buffer.from(chunk);
        const place = 5_000_000 - at;
        if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] ?? 0) ^ 1;
        at += bytes.length;
        yield bytes;
      }
    }
    const pulling = pull(
      { compression: "none", cipher },
      { onTheWay: flipped },
      { onEvent: (event) => event.kind === "layer-progress" && seen.push(event.compressedBytes) },
    );
    await expect(pulling).rejects.toMatchObject({ category: "integrity" });
    expect(Math.max(0, ...seen)).toBeLessThanOrEqual(5_000_000);
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("leaves nothing when it is interrupted in the middle", async () => {
    const abort = new AbortController();
    const pulling = pull(
      { compression: "gzip" },
      {},
      { signal: abort.signal, onEvent: (event) => event.kind === "layer-progress" && event.compressedBytes > 3 << 20 && abort.abort() },
    );
    await expect(pulling).rejects.toThrow();
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it.each<readonly [string, ImagePlan["compression"]]>([
    ["plain", "none"],
    ["compressed", "gzip"],
  ])("ends when it stalls in the middle and its time is over: %s", async (_, compression = "none") => {
    const pulling = pull({ compression }, { stallsAfter: 5_000_000, layerCache: folder.path("cache"), limits: { maxTimeMs: 800 } });
    await expect(pulling).rejects.toMatchObject({ code: "ERR_GUEST_LIMIT_EXCEEDED", details: { limit: "maxTimeMs" } });
    expect(readdirSync(folder.path())).toEqual(["cache"]);
  });

  it("ends when it stalls and somebody interrupts it, whatever the store makes of that", async () => {
    const abort = new AbortController();
    const pulling = pull(
      { compression: "gzip" },
      { stallsAfter: 5_000_000 },
      { signal: abort.signal, onEvent: (event) => event.kind === "layer-started" && setTimeout(() => abort.abort(), 300) },
    );
    await expect(pulling).rejects.toMatchObject({ code: "ERR_INTERRUPTED" });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("ends when it stalls on its way into a layout", async () => {
    const pulling = pull({ compression: "gzip" }, { stallsAfter: 5_000_000, output: "oci", limits: { maxTimeMs: 800 } });
    await expect(pulling).rejects.toMatchObject({ code: "ERR_GUEST_LIMIT_EXCEEDED", details: { limit: "maxTimeMs" } });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it.each(["none", "gzip", "zstd"] as const)("is decrypted into a layout that unpacks to the same: %s", async (compression) => {
    await pull({ compression }, { output: "oci", target: folder.path("layout") });
    const store = await openLayout({ path: folder.path("layout"), mode: "read" });
    const root = await store.resolve("latest");
    await unpackImage({ store, root, target: folder.path("out"), output: "rootfs" });
    await store.close();
    expect(readFileSync(folder.path("out/big")).equals(big)).toBe(true);
  });

  it("breaks off with the store, and the next pull goes on from there", async () => {
    async function* broken(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      let size = 0;
      for await (const chunk of chunks) {
        size += chunk.length;
        if (size > 5_000_000) throw new Error("connection reset");
        yield chunk;
      }
    }
    const layerCache = folder.path("cache");
    await expect(pull({ compression: "gzip" }, { onTheWay: broken, layerCache, readAhead: {} })).rejects.toThrow("connection reset");
    expect(readdirSync(folder.path())).toEqual(["cache"]);
    await pull({ compression: "gzip" }, { layerCache });
    expect(readFileSync(folder.path("out/big")).equals(big)).toBe(true);
  });
});
