import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { pullImage, type PullRequest } from "../../src/guest/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import type { ContentReader } from "../../src/store/index.ts";
import { broker, image, readerOf, signer, testFolder, type TestImage } from "./images.ts";
import { tar } from "./tar-bytes.ts";
import { namesIn } from "./trees.ts";

const folder = testFolder();
const content = randomBytes(200_000);
const layers = [
  tar({ name: "big", data: content }),
  tar({ name: "small", data: "s" }),
  tar({ name: "mid", data: content.subarray(0, 50_000) }),
];

interface Request {
  readonly layer: number;
  readonly start: number;
  readonly end: number;
}

/** A store that notes what is asked of layers, how much is open at once, and may break off. */
function watched({ store, layers: descriptors }: TestImage, breakAt?: (request: Request) => number | undefined) {
  const requests: Request[] = [];
  const open = { now: 0, most: 0, bytes: 0, mostBytes: 0 };
  const reader: ContentReader = readerOf(store, async (wanted: Descriptor, options) => {
    const layer = descriptors.findIndex(({ digest }) => digest === wanted.digest);
    if (layer < 0) return await store.fetch(wanted, options);
    const { start, end } = options?.range ?? { start: 0, end: wanted.size };
    const request = { layer, start, end };
    requests.push(request);
    open.now += 1;
    open.most = Math.max(open.most, open.now);
    open.bytes += end - start;
    open.mostBytes = Math.max(open.mostBytes, open.bytes);
    const whole = await store.fetch(wanted, options);
    const limit = breakAt?.(request);
    async function* cut() {
      let size = 0;
      try {
        for await (const chunk of whole as AsyncIterable<Uint8Array>) {
          if (limit !== undefined && size + chunk.length > limit) {
            yield chunk.subarray(0, limit - size);
            throw new Error("connection reset");
          }
          size += chunk.length;
          yield chunk;
        }
      } finally {
        open.now -= 1;
        open.bytes -= end - start;
      }
    }
    return Readable.from(cut(), { objectMode: false });
  });
  return { reader, requests, open };
}

async function pull(store: ContentReader, more: Partial<PullRequest> = {}) {
  return await pullImage({
    store,
    reference: "latest",
    target: folder.path("out"),
    output: "rootfs",
    verification: { kind: "insecure-accept-unsigned" },
    openKeys: async () => [],
    ...more,
  });
}

function expectTree(name = "out") {
  expect(namesIn(folder.path(name))).toEqual(["big", "mid", "small"]);
  expect(readFileSync(folder.path(name, "big")).equals(content)).toBe(true);
}

describe("fetching ahead", () => {
  it("asks for ranges of large layers, in order, never more than the window holds", async () => {
    const { reader, requests, open } = watched(await image({ layers }));
    await pull(reader, { readAhead: { segmentBytes: 20_000, windowBytes: 60_000, requests: 8 } });
    expectTree();
    expect(open.most).toBeGreaterThan(2);
    expect(open.mostBytes).toBeLessThanOrEqual(60_000);
    const first = requests.filter(({ layer }) => layer === 0);
    expect(first).toHaveLength(Math.ceil((layers[0]?.length ?? 0) / 20_000));
    expect(first.map(({ start }) => start)).toEqual(first.map((_, i) => i * 20_000));
    expect(requests.at(-1)).toMatchObject({ layer: 2, end: layers[2]?.length });
  });

  it("starts the next layer while one is read", async () => {
    const { reader, open } = watched(await image({ layers }));
    await pull(reader);
    expect(open.most).toBe(3);
  });

  it("opens a layer that stands twice in an image twice", async () => {
    const [big = Buffer.alloc(0), small = Buffer.alloc(0)] = layers;
    const { reader } = watched(await image({ layers: [big, small, big, tar({ name: ".wh.small" })] }));
    await pull(reader, { readAhead: { segmentBytes: 20_000 } });
    expect(namesIn(folder.path("out"))).toEqual(["big"]);
  });

  it("ends all requests and leaves nothing when one breaks", async () => {
    const { reader, open } = watched(await image({ layers }), ({ layer, start }) => (layer === 0 && start === 40_000 ? 10 : undefined));
    await expect(pull(reader, { readAhead: { segmentBytes: 20_000 } })).rejects.toThrow("connection reset");
    expect(readdirSync(folder.path())).toEqual([]);
    expect(open.now).toBe(0);
  });
});

describe("the layer cache", () => {
  const layerCache = () => folder.path("cache");

  it("lets a second pull fetch no layer", async () => {
    const made = await image({ layers });
    await pull(watched(made).reader, { layerCache: layerCache() });
    const second = watched(made);
    await pull(second.reader, { layerCache: layerCache(), target: folder.path("second") });
    expectTree("second");
    expect(second.requests).toEqual([]);
  });

  it("goes on where a pull broke off, and asks only for the rest", async () => {
    const made = await image({ layers });
    const first = watched(made, ({ layer, start }) => (layer === 0 && start === 100_000 ? 5 : undefined));
    await expect(pull(first.reader, { layerCache: layerCache(), readAhead: { segmentBytes: 20_000, requests: 1 } })).rejects.toThrow(
      "connection reset",
    );
    expect(readdirSync(folder.path("cache/parts"))).toHaveLength(1);
    const second = watched(made);
    await pull(second.reader, { layerCache: layerCache() });
    expectTree();
    expect(second.requests.filter(({ layer }) => layer === 0)).toEqual([{ layer: 0, start: 100_000, end: layers[0]?.length }]);
    expect(readdirSync(folder.path("cache/parts"))).toEqual([]);
  });

  it("holds no plaintext, and asks for policy and key again", async () => {
    const kbs = broker();
    const made = await image({ layers, seal: kbs.seal("AES_256_GCM_C2SP_CHUNKED_V1") });
    await pull(made.store, { layerCache: layerCache(), openKeys: async () => [kbs.unwrapper] });
    for (const name of readdirSync(folder.path("cache/blobs"))) {
      expect(readFileSync(folder.path("cache/blobs", name)).includes(content.subarray(0, 64))).toBe(false);
    }
    const refused = pull(made.store, { layerCache: layerCache(), target: folder.path("second"), openKeys: async () => [] });
    await expect(refused).rejects.toMatchObject({ category: "no-key" });
    const key = await signer();
    const unsigned = pull(made.store, {
      layerCache: layerCache(),
      target: folder.path("second"),
      verification: { kind: "signature", requirement: { kind: "keys", keys: [key.publicKey], log: "ignore" } },
      openKeys: async () => [kbs.unwrapper],
    });
    await expect(unsigned).rejects.toMatchObject({ code: "ERR_SIGNATURE_MISSING" });
  });

  it("refuses a file that somebody changed, removes it, and fetches it anew the next time", async () => {
    const made = await image({ layers });
    await pull(made.store, { layerCache: layerCache() });
    const largest =
      readdirSync(folder.path("cache/blobs"))
        .map((name) => folder.path("cache/blobs", name))
        .toSorted((a, b) => statSync(b).size - statSync(a).size)[0] ?? "";
    const bytes = readFileSync(largest);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    writeFileSync(largest, bytes);
    const again = (target: string) => pull(made.store, { layerCache: layerCache(), target: folder.path(target) });
    await expect(again("second")).rejects.toMatchObject({ code: "ERR_CONTENT_DIGEST_MISMATCH" });
    await again("third");
    expectTree("third");
  });

  it("serves an image that has a layer twice, and one whose layers need two readings", async () => {
    const kbs = broker();
    const [big = Buffer.alloc(0)] = layers;
    const made = await image({
      layers: [big, tar({ name: ".wh.big" }), big, ...layers.slice(1)],
      seal: kbs.seal("AES_256_CTR_HMAC_SHA256"),
    });
    const seen = watched(made);
    await pull(seen.reader, { layerCache: layerCache(), openKeys: async () => [kbs.unwrapper] });
    expectTree();
  });
});
