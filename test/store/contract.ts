import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { closeStream, collect, digestOf } from "../../src/bytes/index.ts";
import { ToolError } from "../../src/errors/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { bytesStream, copyGraph, readDocument, type ContentStore } from "../../src/store/index.ts";
import { put, putImage, putIndex, putMultiPlatform } from "./images.ts";

/** One store under test, empty, and what ends it (files, servers). */
export interface StoreUnderTest {
  readonly store: ContentStore;
  readonly end: () => Promise<void>;
}

const missing: Descriptor = { mediaType: mediaTypes.manifest, digest: `sha256:${"0".repeat(64)}`, size: 10 };

/** The code of what a promise fails with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof ToolError ? error.code : `not a ToolError: ${String(error)}`;
  }
  return "no error";
}

async function read(store: ContentStore, target: Descriptor): Promise<Buffer> {
  return collect(await store.fetch(target), { maxBytes: 1 << 24 });
}

/**
 * What every {@link ContentStore} does. Run it over a new kind of store:
 * `describeStore("a registry", async () => ({ store, end }))`.
 */
export function describeStore(title: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${title}, as every store`, () => {
    let store: ContentStore;
    let end: () => Promise<void>;

    beforeEach(async () => {
      ({ store, end } = await open());
    });

    afterEach(async () => {
      await store.close();
      await end();
    });

    it("gives back what was pushed, byte for byte", async () => {
      for (const size of [0, 1, 65_536, 300_001]) {
        const bytes = randomBytes(size);
        expect(await read(store, await put(store, mediaTypes.layerTar, bytes))).toEqual(bytes);
      }
    });

    it("says that what it has is present, and does not read it again", async () => {
      const bytes = randomBytes(100);
      const target = await put(store, mediaTypes.layerTar, bytes);
      let opened = 0;
      const outcome = await store.push(target, async () => {
        opened += 1;
        return bytesStream(bytes);
      });
      expect(outcome).toBe("present");
      expect(opened).toBe(0);
    });

    it("refuses content of another digest or size, and keeps nothing of it", async () => {
      const bytes = randomBytes(1000);
      const target: Descriptor = { mediaType: mediaTypes.layerTar, digest: digestOf(bytes), size: bytes.length };
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(500) ^ 1, 500);
      for (const [wrong, code] of [
        [flipped, "ERR_CONTENT_DIGEST_MISMATCH"],
        [bytes.subarray(0, 999), "ERR_CONTENT_TRUNCATED"],
        [Buffer.concat([bytes, bytes]), "ERR_CONTENT_TRAILING_DATA"],
      ] as const) {
        expect(await codeOf(store.push(target, async () => bytesStream(wrong)))).toBe(code);
        expect(await store.exists(target)).toBe(false);
      }
      expect(await codeOf(store.fetch(target).then((stream) => collect(stream, { maxBytes: 2000 })))).toBe("ERR_STORE_NOT_FOUND");
    });

    it("passes on the failure of a source that breaks, and keeps nothing", async () => {
      const bytes = randomBytes(1000);
      const target: Descriptor = { mediaType: mediaTypes.layerTar, digest: digestOf(bytes), size: bytes.length };
      async function* broken(): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 400);
        throw new Error("the source broke");
      }
      await expect(store.push(target, async () => Readable.from(broken(), { objectMode: false }))).rejects.toThrow();
      expect(await store.exists(target)).toBe(false);
    });

    it("takes in content of unknown digest, and says what it was", async () => {
      const bytes = randomBytes(200_000);
      const address = await store.ingest(bytesStream(bytes), { size: bytes.length });
      expect(address).toEqual({ digest: digestOf(bytes), size: bytes.length });
      expect(await read(store, { mediaType: mediaTypes.layerTar, ...address })).toEqual(bytes);
    });

    it("resolves tags and digests to the same descriptor, and lists tags sorted", async () => {
      const first = await putImage(store);
      const second = await putMultiPlatform(store);
      await store.tag(first, "b");
      await store.tag(first, "a");
      await store.tag(second, "c");
      expect(await store.tags()).toEqual(["a", "b", "c"]);
      expect(await store.resolve("a")).toMatchObject(first);
      expect(await store.resolve("b")).toMatchObject(first);
      expect(await store.resolve("c")).toMatchObject(second);
      expect(await store.resolve(first.digest)).toMatchObject(first);
      expect(await store.resolve(second.digest)).toMatchObject(second);
    });

    it("moves a tag, and leaves the others", async () => {
      const first = await putImage(store);
      const second = await putImage(store);
      await store.tag(first, "moving");
      await store.tag(first, "staying");
      await store.tag(second, "moving");
      expect((await store.resolve("moving")).digest).toBe(second.digest);
      expect((await store.resolve("staying")).digest).toBe(first.digest);
      expect(await store.tags()).toEqual(["moving", "staying"]);
    });

    it("lists a manifest without a name when it is tagged with its own digest", async () => {
      const image = await putImage(store);
      await store.tag(image, image.digest);
      expect(await store.tags()).toEqual([]);
      expect(await store.resolve(image.digest)).toMatchObject(image);
    });

    it("says not found for tags, manifests and blobs that are not there", async () => {
      expect(await codeOf(store.resolve("nothing"))).toBe("ERR_STORE_NOT_FOUND");
      expect(await codeOf(store.resolve(missing.digest))).toBe("ERR_STORE_NOT_FOUND");
      expect(await codeOf(store.fetch(missing).then(closeStream))).toBe("ERR_STORE_NOT_FOUND");
      const blob = { ...missing, mediaType: mediaTypes.layerTar };
      expect(await codeOf(store.fetch(blob).then(closeStream))).toBe("ERR_STORE_NOT_FOUND");
      expect(await store.exists(missing)).toBe(false);
      expect(await store.exists(blob)).toBe(false);
      expect(await store.remove("nothing")).toBe("absent");
    });

    it("gives a range of a blob", async () => {
      const bytes = randomBytes(5000);
      const target = await put(store, mediaTypes.layerTar, bytes);
      for (const [start, endAt] of [
        [0, 1],
        [1000, 3000],
        [4999, 5000],
        [0, 5000],
      ] as const) {
        const part = await collect(await store.fetch(target, { range: { start, end: endAt } }), { maxBytes: 5000 });
        expect(part).toEqual(bytes.subarray(start, endAt));
      }
    });

    it("keeps the exact bytes of a manifest, white space and unknown members too", async () => {
      const image = await readDocument(store, await putImage(store));
      if (image.kind !== "manifest") throw new Error("not a manifest");
      const bytes = Buffer.from(`${JSON.stringify({ ...image.manifest, "x-unknown": [1.5, null] }, undefined, 3)}\n`);
      const target = await put(store, mediaTypes.manifest, bytes);
      expect(await read(store, target)).toEqual(bytes);
    });

    it("lists what refers to a manifest, with type and annotations, and filters by type", async () => {
      const subject = await putImage(store);
      const other = await putImage(store);
      expect(await store.referrers(subject)).toEqual([]);
      const annotations = { "org.example.key": "välue", "org.opencontainers.image.ref.name": "trap" };
      const signature = await putImage(store, { subject, artifactType: "application/vnd.example.signature", annotations });
      const plain = await putImage(store, { subject });
      await putImage(store, { subject: other });
      const listed = await store.referrers(subject);
      expect(listed.map((entry) => entry.digest).sort()).toEqual([signature.digest, plain.digest].sort());
      expect(listed).toContainEqual({ ...signature, artifactType: "application/vnd.example.signature", annotations });
      expect(listed).toContainEqual({ ...plain, artifactType: mediaTypes.config });
      expect((await store.referrers(subject, { artifactType: "application/vnd.example.signature" })).map((entry) => entry.digest)).toEqual([
        signature.digest,
      ]);
      expect(await codeOf(store.resolve("trap"))).toBe("ERR_STORE_NOT_FOUND");
    });

    it("lists a referrer that came before its subject, and an index as a referrer", async () => {
      const elsewhere = serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] });
      const subject: Descriptor = { mediaType: mediaTypes.index, digest: digestOf(elsewhere), size: elsewhere.length };
      const referrer = await putIndex(store, [], { subject });
      await put(store, mediaTypes.index, elsewhere);
      expect((await store.referrers(subject)).map((entry) => entry.digest)).toEqual([referrer.digest]);
    });

    it("removes a tag without its manifest, and a manifest with its tags", async () => {
      const image = await putImage(store);
      await store.tag(image, "one");
      await store.tag(image, "two");
      expect(await store.remove("one")).toBe("removed");
      expect(await store.tags()).toEqual(["two"]);
      expect(await store.exists(image)).toBe(true);
      expect(await store.remove(image)).toBe("removed");
      expect(await store.tags()).toEqual([]);
      expect(await store.exists(image)).toBe(false);
      expect(await codeOf(store.resolve("two"))).toBe("ERR_STORE_NOT_FOUND");
      expect(await store.remove(image)).toBe("absent");
    });

    it("stops at an abort, and keeps nothing half", async () => {
      const bytes = randomBytes(100_000);
      const target: Descriptor = { mediaType: mediaTypes.layerTar, digest: digestOf(bytes), size: bytes.length };
      const abort = new AbortController();
      async function* slow(): AsyncGenerator<Uint8Array> {
        yield bytes.subarray(0, 50_000);
        abort.abort();
        yield bytes.subarray(50_000);
      }
      await expect(
        store.push(target, async () => Readable.from(slow(), { objectMode: false }), { signal: abort.signal }),
      ).rejects.toThrow();
      expect(await store.exists(target)).toBe(false);
    });

    it("pushes the same blob many times at once", async () => {
      const bytes = randomBytes(50_000);
      const target: Descriptor = { mediaType: mediaTypes.layerTar, digest: digestOf(bytes), size: bytes.length };
      await Promise.all(Array.from({ length: 8 }, () => store.push(target, async () => bytesStream(bytes))));
      expect(await read(store, target)).toEqual(bytes);
    });

    it("is source and destination of a copy", async () => {
      const { memoryStore } = await import("../../src/store/index.ts");
      const memory = memoryStore();
      const root = await putMultiPlatform(memory);
      const signature = await putImage(memory, { subject: root, artifactType: "application/vnd.example.signature" });
      await copyGraph({ from: memory, to: store, root, tags: ["copied"], referrers: "follow" });
      const back = memoryStore();
      const found = await store.resolve("copied");
      expect(found).toMatchObject(root);
      await copyGraph({ from: store, to: back, root: found, tags: ["back"], referrers: "follow" });
      expect(await back.resolve("back")).toMatchObject(root);
      expect((await back.referrers(root)).map((entry) => entry.digest)).toEqual([signature.digest]);
    });
  });
}
