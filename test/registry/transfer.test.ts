import { array, assert, asyncProperty, integer } from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mediaTypes } from "../../src/oci/index.ts";
import { openRegistry, RegistryTransport, type RegistryNotice, type TransportOptions } from "../../src/registry/index.ts";
import { sizedDigest } from "../../src/registry/ingest.ts";
import { errorOf } from "./captures.ts";
import { answer, readBody, reset, startFaultServer, type FaultContext, type FaultServer } from "./fault-server.ts";
import { emptyConfig, manifestOf, randomBlob, readAll, streamOf, type Content } from "./images.ts";

const fast: TransportOptions = { retry: { attempts: 4, baseMs: 1, maxMs: 2, budgetMs: 3000 } };

describe("transfers over a bad line", () => {
  let registry: FaultServer;
  let transport: RegistryTransport;
  let notices: RegistryNotice[];

  beforeEach(async () => {
    registry = await startFaultServer();
    notices = [];
    transport = new RegistryTransport({ ...fast, onNotice: (notice) => notices.push(notice) });
  });
  afterEach(async () => {
    await transport.close();
    await registry.close();
  });
  const open = (other?: RegistryTransport) => openRegistry({ host: registry.host, repository: "app", transport: other ?? transport });
  const image = manifestOf(emptyConfig, []);

  /** Serves a blob (or the rest of it) but cuts the connection after some bytes. */
  const cutAfter =
    (blob: Content, count: number) =>
    async ({ request, response }: FaultContext) => {
      const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const rest = blob.bytes.subarray(from);
      const headers = { "content-length": rest.length, "content-range": `bytes ${from}-${blob.bytes.length - 1}/${blob.bytes.length}` };
      response.writeHead(from === 0 ? 200 : 206, headers);
      response.write(rest.subarray(0, count), () => request.socket.destroySoon());
    };

  describe("downloads", () => {
    it("go on where they broke, as often as it takes while bytes move", async () => {
      const blob = randomBlob(1_000_000);
      registry.seed(blob);
      registry.on("GET", /blobs/, cutAfter(blob, 110_000), 9);
      expect((await readAll(await open().fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
      const ranges = registry.requests.map(({ headers }) => headers["range"]);
      expect(ranges[0]).toBeUndefined();
      expect(ranges.slice(1).every((range) => /^bytes=\d+-999999$/.test(String(range)))).toBe(true);
      expect(notices.every(({ kind }) => kind === "retry")).toBe(true);
      expect(registry.connections.open).toBeLessThanOrEqual(1);
    });

    it("start over in place when the registry ignores ranges", async () => {
      const blob = randomBlob(300_000);
      registry.on("GET", /blobs/, answerWhole(blob));
      registry.on("GET", /blobs/, cutAfter(blob, 100_000), 1);
      expect((await readAll(await open().fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
      const part = await readAll(await open().fetch(blob.descriptor, { range: { start: 1000, end: 2000 } }));
      expect(part.equals(blob.bytes.subarray(1000, 2000))).toBe(true);
    });

    it("accept a shorter range than asked for and ask for the rest", async () => {
      const blob = randomBlob(1000);
      registry.on("GET", /blobs/, async (context) => {
        const from = Number(/^bytes=(\d+)-/.exec(context.request.headers.range ?? "")?.[1] ?? 0);
        const part = blob.bytes.subarray(from, from + 300);
        const range = { "content-range": `bytes ${from}-${from + part.length - 1}/1000`, "content-length": String(part.length) };
        context.response.writeHead(206, range).end(part);
      });
      const got = await readAll(await open().fetch(blob.descriptor, { range: { start: 100, end: 1000 } }));
      expect(got.equals(blob.bytes.subarray(100))).toBe(true);
    });

    it("give up when nothing moves any more", async () => {
      const blob = randomBlob(1000);
      registry.seed(blob);
      registry.on("GET", /blobs/, cutAfter(blob, 0));
      const error = await errorOf(open().fetch(blob.descriptor).then(readAll));
      expect(error).toMatchObject({ code: "ERR_REGISTRY_UNREACHABLE", category: "unavailable" });
      expect(registry.requests).toHaveLength(4);
    });

    it("that nobody reads leave no connection behind", async () => {
      const blob = randomBlob(5_000_000);
      registry.seed(blob);
      const small = new RegistryTransport({ ...fast, concurrency: 1 });
      for (let i = 0; i < 5; i += 1) {
        const stream = await open(small).fetch(blob.descriptor);
        const closed = new Promise((resolve) => stream.once("close", resolve));
        stream.destroy();
        await closed;
      }
      for (let i = 0; i < 3; i += 1) {
        for await (const chunk of await open(small).fetch(blob.descriptor)) {
          expect(chunk).toBeDefined();
          break;
        }
      }
      // The place in the download lane came back each time, or this would wait for ever.
      expect((await readAll(await open(small).fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
      await small.close();
    });

    it("stop when they are told to, and say that they were interrupted", async () => {
      const blob = randomBlob(5_000_000);
      registry.on("GET", /blobs/, ({ response }) => void response.writeHead(200).write(blob.bytes.subarray(0, 100)));
      const controller = new AbortController();
      const stream = await open().fetch(blob.descriptor, { signal: controller.signal });
      const reading = errorOf(readAll(stream));
      controller.abort();
      expect(await reading).toMatchObject({ code: "ERR_INTERRUPTED", category: "interrupted" });
      const again = errorOf(open().resolve("1", { signal: controller.signal }));
      expect(await again).toMatchObject({ code: "ERR_INTERRUPTED" });
    });

    it("are exact however the answer is cut into pieces", async () => {
      const blob = randomBlob(2000);
      registry.seed(blob);
      await assert(
        asyncProperty(array(integer({ min: 1, max: 700 }), { maxLength: 3 }), async (cuts) => {
          for (const cut of cuts) registry.on("GET", /blobs/, cutAfter(blob, cut), 1);
          expect((await readAll(await open().fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
        }),
        { numRuns: 25 },
      );
    });
  });

  describe("documents", () => {
    it("are asked for again after 500, 429 and a reset", async () => {
      registry.seed(image, "1");
      registry.on("GET", /manifests/, answer(500), 1);
      registry.on("GET", /manifests/, answer(429, { "retry-after": "0" }), 1);
      registry.on("GET", /manifests/, reset, 1);
      expect(await open().resolve("1")).toEqual(image.descriptor);
      expect(registry.requests).toHaveLength(4);
      expect(notices).toHaveLength(3);
    });

    it("are not asked for again after 400 or 403", async () => {
      for (const [status, code] of [
        [400, "ERR_REGISTRY_REFUSED"],
        [403, "ERR_REGISTRY_FORBIDDEN"],
      ] as const) {
        registry.on("GET", /manifests/, answer(status), 1);
        expect(await errorOf(open().resolve("1"))).toMatchObject({ code });
      }
      expect(registry.requests).toHaveLength(2);
    });

    it("resolved and then fetched, or pushed and then tagged, cost one request each", async () => {
      registry.seed(image, "1");
      const reader = open();
      await readAll(await reader.fetch(await reader.resolve("1")));
      expect(registry.requests).toHaveLength(1);
      const writer = open();
      const other = manifestOf(emptyConfig, [emptyConfig]);
      await writer.push(other.descriptor, other.source);
      await writer.tag(other.descriptor, "2");
      expect(registry.requests.slice(1).map(({ method }) => method)).toEqual(["HEAD", "PUT", "PUT"]);
    });

    it("over 4 MiB are refused before they are sent, with what makes them large", async () => {
      const large = manifestOf(emptyConfig, [], { annotations: { a: "x".repeat(4 * 1024 * 1024) } });
      const error = await errorOf(open().push(large.descriptor, large.source));
      expect(error).toMatchObject({ code: "ERR_REGISTRY_MANIFEST_TOO_LARGE" });
      expect(error.hint).toContain("recipient");
      expect(registry.requests).toEqual([]);
    });
  });

  describe("uploads", () => {
    const blob = randomBlob(400_000);

    it("take three requests for a new blob and one for a known blob", async () => {
      await open().push(blob.descriptor, blob.source);
      await open().push(blob.descriptor, blob.source);
      expect(registry.requests.map(({ method }) => method)).toEqual(["HEAD", "POST", "PUT", "HEAD"]);
      expect(registry.requests[2]?.headers).toMatchObject({ "content-length": "400000" });
    });

    it("keep the location's query as the registry wrote it", async () => {
      await open().push(blob.descriptor, blob.source);
      expect(registry.requests[2]?.url).toBe(`/v2/app/blobs/uploads/1?_state=b%2Fa&x=1&digest=${blob.descriptor.digest}`);
    });

    it("start over from the source when the connection breaks in the middle", async () => {
      registry.on("PUT", /uploads/, ({ request }) => void request.once("data", () => request.socket.destroy()), 1);
      let opened = 0;
      const source = () => {
        opened += 1;
        return blob.source();
      };
      expect(await open().push(blob.descriptor, source)).toBe("pushed");
      expect(registry.blobs.get(blob.descriptor.digest)?.equals(blob.bytes)).toBe(true);
      expect(opened).toBe(2);
    });

    it("notice that the blob arrived although the answer was lost", async () => {
      registry.on(
        "PUT",
        /uploads/,
        async ({ request }) => {
          registry.blobs.set(blob.descriptor.digest, await readBody(request));
          request.socket.destroy();
        },
        1,
      );
      expect(await open().push(blob.descriptor, blob.source)).toBe("pushed");
      expect(registry.count("PUT", /uploads/)).toBe(1);
    });

    it.each([404, 429, 500, 503])("start over when the PUT is answered with %d", async (status) => {
      registry.on("PUT", /uploads/, answer(status), 1);
      expect(await open().push(blob.descriptor, blob.source)).toBe("pushed");
      expect(registry.count("POST", /uploads/)).toBe(2);
    });

    it("do not start over when the content is refused", async () => {
      registry.on("PUT", /uploads/, answer(400));
      expect(await errorOf(open().push(blob.descriptor, blob.source))).toMatchObject({ code: "ERR_REGISTRY_REFUSED" });
      expect(registry.count("PUT", /uploads/)).toBe(1);
      expect(registry.count("DELETE", /uploads/)).toBe(1);
    });

    it("go in chunks when a proxy finds the one PUT too large", async () => {
      const large = randomBlob(9_000_000);
      registry.on("PUT", /uploads/, answer(413), 1);
      expect(await open().push(large.descriptor, large.source)).toBe("pushed");
      const patches = registry.requests.filter(({ method }) => method === "PATCH");
      expect(patches.map(({ headers }) => headers["content-range"])).toEqual(["0-8388607", "8388608-8999999"]);
      expect(registry.blobs.get(large.descriptor.digest)?.equals(large.bytes)).toBe(true);
    });

    it("ask how much arrived before a chunk is sent again", async () => {
      const large = randomBlob(9_000_000);
      registry.on("PUT", /uploads/, answer(413), 1);
      // The first chunk arrives, its answer does not; the second does not arrive at all.
      registry.on("PATCH", /uploads/, reset, 1);
      registry.on(
        "PATCH",
        /uploads/,
        async ({ response, request, pass }) => {
          response.writeHead = () => {
            request.socket.destroy();
            return response;
          };
          await pass();
        },
        1,
      );
      expect(await open().push(large.descriptor, large.source)).toBe("pushed");
      expect(registry.blobs.get(large.descriptor.digest)?.equals(large.bytes)).toBe(true);
      expect(registry.count("GET", /uploads/)).toBe(2);
    });

    it("start over when the registry cannot say how much arrived, as docker-registry 2.8", async () => {
      const large = randomBlob(9_000_000);
      registry.on("PUT", /uploads/, answer(413), 1);
      registry.on("PATCH", /uploads/, reset, 1);
      registry.on("GET", /uploads/, answer(404), 1);
      expect(await open().push(large.descriptor, large.source)).toBe("pushed");
      expect(registry.blobs.get(large.descriptor.digest)?.equals(large.bytes)).toBe(true);
    });

    it("honour the smallest chunk that the registry wants", async () => {
      registry.on("POST", /uploads/, async (context) => {
        context.response.setHeader("oci-chunk-min-length", String(9_000_000));
        await context.pass();
      });
      const large = randomBlob(10_000_000);
      expect((await open().ingest(streamOf(large.bytes))).digest).toBe(large.descriptor.digest);
      const patches = registry.requests.filter(({ method }) => method === "PATCH");
      expect(patches.map(({ headers }) => headers["content-length"])).toEqual(["9000000", "1000000"]);
    });

    it("of unknown digest stream one PATCH with its length", async () => {
      const { digest, size } = blob.descriptor;
      expect(await open().ingest(streamOf(blob.bytes), { size })).toEqual({ digest, size });
      expect(registry.requests.map(({ method }) => method)).toEqual(["POST", "PATCH", "PUT"]);
      expect(registry.requests[1]?.headers).toMatchObject({ "content-length": "400000" });
      expect(registry.requests[1]?.headers["transfer-encoding"]).toBeUndefined();
    });

    it("of unknown digest know it before the last byte goes out, and stand for the size that was promised", async () => {
      const told: string[] = [];
      const hash = (size: number) => sizedDigest({ size }, "x", ({ digest }) => told.push(digest));
      const source = async function* () {
        yield blob.bytes.subarray(0, 100_000);
        yield blob.bytes.subarray(100_000);
      };
      const seen: number[] = [];
      for await (const chunk of hash(400_000)(source())) seen.push(chunk.length + told.length);
      expect(seen).toEqual([100_000, 300_001]);
      expect(told).toEqual([blob.descriptor.digest]);
      for (const [size, code] of [
        [399_999, "ERR_CONTENT_TRAILING_DATA"],
        [400_001, "ERR_CONTENT_TRUNCATED"],
      ] as const) {
        expect(await errorOf(open().ingest(streamOf(blob.bytes), { size }))).toMatchObject({ code });
      }
      const small = randomBlob(10);
      expect(await errorOf(open().ingest(streamOf(small.bytes), { size: 9 }))).toMatchObject({ code: "ERR_CONTENT_TRAILING_DATA" });
      expect(await errorOf(open().ingest(streamOf(small.bytes), { size: 11 }))).toMatchObject({ code: "ERR_CONTENT_TRUNCATED" });
    });

    it("of unknown digest that break cannot be repeated, and say so", async () => {
      registry.on("PATCH", /uploads/, ({ request }) => void request.once("data", () => request.socket.destroy()));
      const source = streamOf(blob.bytes);
      expect(await errorOf(open().ingest(source, { size: blob.bytes.length }))).toMatchObject({ code: "ERR_REGISTRY_UPLOAD_BROKEN" });
      expect(source.destroyed).toBe(true);
      expect(registry.count("PATCH", /uploads/)).toBe(1);
    });

    it("of unknown digest learn that a registry limits a PATCH, as GHCR does", async () => {
      const large = randomBlob(9_000_000);
      registry.on("PATCH", /uploads/, async (context) => {
        if (Number(context.request.headers["content-length"]) > 4 * 1024 * 1024) return answer(416)(context);
        await context.pass();
      });
      const store = open();
      const ingest = () => store.ingest(streamOf(large.bytes), { size: large.bytes.length });
      expect(await errorOf(ingest())).toMatchObject({ code: "ERR_REGISTRY_UPLOAD_BROKEN" });
      expect((await ingest()).digest).toBe(large.descriptor.digest);
      expect(registry.blobs.get(large.descriptor.digest)?.equals(large.bytes)).toBe(true);
    });

    it("of unknown digest find their blob when the last answer is lost", async () => {
      registry.on(
        "PUT",
        /uploads/,
        async ({ request, response, pass }) => {
          response.writeHead = () => {
            request.socket.destroy();
            return response;
          };
          await pass();
        },
        1,
      );
      expect((await open().ingest(streamOf(blob.bytes), { size: blob.bytes.length })).digest).toBe(blob.descriptor.digest);
    });

    it("pass on what went wrong in their source, and end it", async () => {
      const broken = async function* () {
        yield blob.bytes.subarray(0, 300_000);
        throw new Error("disk on fire");
      };
      const { Readable } = await import("node:stream");
      const stream = Readable.from(broken(), { objectMode: false });
      const error = await errorOf(open().ingest(stream, { size: blob.bytes.length }));
      expect(JSON.stringify([error.message, String(error.cause)])).toContain("disk on fire");
      expect(stream.destroyed).toBe(true);
    });

    it("are pushed again, not believed to be there, after the registry lost a blob", async () => {
      const store = open();
      const manifest = manifestOf(emptyConfig, [blob]);
      registry.on("HEAD", /blobs/, answer(200, { "content-length": String(blob.bytes.length) }));
      registry.on("PUT", /manifests/, answer(400, {}, JSON.stringify({ errors: [{ code: "MANIFEST_BLOB_UNKNOWN" }] })), 1);
      expect(await store.push(blob.descriptor, blob.source)).toBe("present");
      expect(await errorOf(store.push(manifest.descriptor, manifest.source))).toMatchObject({ code: "ERR_REGISTRY_BLOB_UNKNOWN" });
      expect(await store.push(blob.descriptor, blob.source)).toBe("pushed");
      expect(await store.push(manifest.descriptor, manifest.source)).toBe("pushed");
    });

    it.each([400, 403, 404, 405, 422, 500])("fall back to sending when a mount is answered with %d", async (status) => {
      registry.on("POST", /mount=/, answer(status));
      expect(await open().pushFrom(blob.descriptor, blob.source, "other/app")).toBe("pushed");
      expect(registry.requests[1]?.url).toBe(`/v2/app/blobs/uploads/?mount=${blob.descriptor.digest}&from=other%2Fapp`);
    });
  });

  it("use few connections again and again, and no more at once than the limit", async () => {
    const limited = new RegistryTransport({ ...fast, concurrency: 3 });
    const blobs = Array.from({ length: 60 }, () => randomBlob(2000));
    const store = open(limited);
    await Promise.all(blobs.map(({ descriptor, source }) => store.push(descriptor, source)));
    await Promise.all(
      blobs.map(async ({ descriptor, bytes }) => expect((await readAll(await store.fetch(descriptor))).equals(bytes)).toBe(true)),
    );
    expect(registry.connections.most).toBeLessThanOrEqual(3);
    // One more for finding out whether the port speaks TLS.
    expect(registry.connections.total).toBeLessThanOrEqual(4);
    await limited.close();
  });

  it("limit the rate of blobs", async () => {
    const limited = new RegistryTransport({ ...fast, limitRate: 4_000_000 });
    const blob = randomBlob(1_600_000);
    const start = performance.now();
    await open(limited).push(blob.descriptor, blob.source);
    expect((await readAll(await open(limited).fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
    // 0.4 s each way less the quarter second of credit; only the lower bound is certain.
    expect(performance.now() - start).toBeGreaterThan(280);
    await limited.close();
  });

  it("limit the rate of small blobs too, all together", async () => {
    const limited = new RegistryTransport({ ...fast, limitRate: 2_000_000 });
    const blobs = Array.from({ length: 50 }, () => randomBlob(20_000));
    const store = open(limited);
    const start = performance.now();
    await Promise.all(blobs.map(({ descriptor, source }) => store.push(descriptor, source)));
    // Half a second less the quarter of credit.
    expect(performance.now() - start).toBeGreaterThan(240);
    await limited.close();
  });

  it("do not reach a host that does not exist, or a port where nobody listens", async () => {
    const { host } = registry;
    await registry.close();
    const gone = openRegistry({ host, repository: "app", transport });
    expect(await errorOf(gone.resolve("1"))).toMatchObject({ code: "ERR_REGISTRY_UNREACHABLE" });
    registry = await startFaultServer();
    const nowhere = openRegistry({ host: "registry.invalid", repository: "app", transport });
    expect(await errorOf(nowhere.exists({ ...emptyConfig.descriptor, mediaType: mediaTypes.layerTar }))).toMatchObject({
      category: "unavailable",
    });
  });
});

function answerWhole(blob: Content) {
  return ({ response }: FaultContext) => void response.writeHead(200, { "content-length": blob.bytes.length }).end(blob.bytes);
}
