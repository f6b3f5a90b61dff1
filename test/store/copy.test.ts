import { randomBytes } from "node:crypto";
import { readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { BytesError, collect, compose, digestOf } from "../../src/bytes/index.ts";
import { isManifestMediaType, mediaTypes, parsePlatform, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import {
  bytesStream,
  copyGraph,
  CopyError,
  fallbackTagOf,
  graphLimits,
  memoryStore,
  openLayout,
  readBlob,
  readDocument,
  readIndex,
  readManifest,
  selectPlatforms,
  StoreError,
  type ContentStore,
  type CopyEvent,
  type CopyRequest,
} from "../../src/store/index.ts";
import { codeOf } from "./contract.ts";
import { temporaryFolder } from "./temporary.ts";
import { put, putImage, putIndex, putMultiPlatform } from "./images.ts";

/** A store that does something else at one of its methods. */
function changed(store: ContentStore, changes: Partial<ContentStore>): ContentStore {
  return new Proxy(store, {
    get(target, member) {
      const change: unknown = Reflect.get(changes, member);
      if (change !== undefined) return change;
      const value: unknown = Reflect.get(target, member);
      return typeof value === "function" ? (value as (...given: readonly unknown[]) => unknown).bind(target) : value;
    },
  });
}

async function childrenOf(store: ContentStore, target: Descriptor): Promise<readonly string[]> {
  if (!isManifestMediaType(target.mediaType)) return [];
  const document = await readDocument(store, target);
  const children = document.kind === "index" ? document.index.manifests : [document.manifest.config, ...document.manifest.layers];
  return children.map((child) => child.digest);
}

async function copied(request: Omit<CopyRequest, "to" | "tags"> & { readonly to?: ContentStore }) {
  const to = request.to ?? memoryStore();
  const events: CopyEvent[] = [];
  const summary = await copyGraph({ tags: ["v1"], ...request, to, onProgress: (event) => events.push(event) });
  return { to, events, summary };
}

describe("copying a graph", () => {
  it("puts children before parents and moves the name last", async () => {
    const from = memoryStore();
    const root = await putMultiPlatform(from);
    const there = new Set<string>();
    const early: string[] = [];
    let countAtTag = 0;
    const memory = memoryStore();
    const to = changed(memory, {
      push: async (target, source, options) => {
        early.push(...(await childrenOf(from, target)).filter((child) => !there.has(child)));
        const outcome = await memory.push(target, source, options);
        there.add(target.digest);
        return outcome;
      },
      tag: async (target, reference, options) => {
        countAtTag = there.size;
        await memory.tag(target, reference, options);
      },
    });
    const { summary } = await copied({ from, to, root });
    expect(summary).toMatchObject({ pushed: 15, present: 0 });
    expect(early).toEqual([]);
    expect(countAtTag).toBe(15);
  });

  it("moves each object once, also when it is in many manifests", async () => {
    const from = memoryStore();
    const shared = await put(from, mediaTypes.layerTar, randomBytes(1000));
    const images: Descriptor[] = [];
    for (let i = 0; i < 5; i += 1) {
      const config = await put(
        from,
        mediaTypes.config,
        serializeJson({ os: "linux", architecture: `a${i}`, rootfs: { type: "layers", diff_ids: [] } }),
      );
      const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [shared, shared] };
      images.push(await put(from, mediaTypes.manifest, serializeJson(manifest)));
    }
    const root = await putIndex(from, [...images, ...images]);
    const fetched: string[] = [];
    const counting = changed(from, {
      fetch: (target, options) => {
        fetched.push(target.digest);
        return from.fetch(target, options);
      },
    });
    const { summary } = await copied({ from: counting, root });
    expect(summary.pushed).toBe(12);
    expect(fetched).toHaveLength(12);
  });

  it("tells progress that adds up, in order for each object", async () => {
    const from = memoryStore();
    const root = await putImage(from, { layers: 3, layerSize: 600_000 });
    const { events } = await copied({ from, root });
    const { manifest } = await readManifest(from, root);
    for (const blob of [manifest.config, ...manifest.layers]) {
      const own = events.filter((event) => event.descriptor.digest === blob.digest);
      const kinds = own.map((event) => event.kind);
      expect([kinds[0], kinds[1], kinds.at(-1)]).toEqual(["found", "started", "finished"]);
      expect(own.reduce((sum, event) => sum + (event.kind === "moved" ? event.size : 0), 0)).toBe(blob.size);
    }
    expect(events.at(-1)).toMatchObject({ kind: "tagged", reference: "v1" });
  });

  it("keeps to the number of blobs at once", async () => {
    const from = memoryStore();
    const root = await putImage(from, { layers: 30 });
    const memory = memoryStore();
    let running = 0;
    let most = 0;
    const to = changed(memory, {
      push: async (target, source, options) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        const outcome = await memory.push(target, source, options);
        running -= 1;
        return outcome;
      },
    });
    await copied({ from, to, root, concurrency: 4 });
    expect(most).toBe(4);
  });

  it("asks once when everything is there and is trusted, and looks at all of it otherwise", async () => {
    const from = memoryStore();
    const root = await putMultiPlatform(from);
    const { to } = await copied({ from, root });
    expect((await copied({ from, to, root, present: "trust" })).summary).toMatchObject({ pushed: 0, present: 1 });
    const [blob] = (await readManifest(from, (await readIndex(from, root)).index.manifests[0] ?? root)).manifest.layers;
    if (blob !== undefined) await to.remove(blob);
    expect((await copied({ from, to, root, present: "walk" })).summary).toMatchObject({ pushed: 1, present: 14 });
  });

  it("goes through nested indexes, artifacts in them and blobs in them", async () => {
    const from = memoryStore();
    const inner = await putMultiPlatform(from);
    const blob = await put(from, "application/vnd.example.data", randomBytes(100));
    const root = await putIndex(from, [inner, await putImage(from), blob]);
    expect((await copied({ from, root })).summary.pushed).toBe(15 + 4 + 1 + 1);
  });

  it("refuses indexes nested without end, and says so", async () => {
    const from = memoryStore();
    let root = await putImage(from);
    for (let i = 0; i <= graphLimits.maxDepth; i += 1) root = await putIndex(from, [root]);
    expect(await codeOf(copied({ from, root }))).toBe("ERR_STORE_LIMIT");
    expect(await codeOf(selectPlatforms(from, root, [parsePlatform("linux/amd64")]))).toBe("ERR_STORE_LIMIT");
  });

  it("takes signatures, what refers to them, and cosign's tags along; a tag that leads back is no endless loop", async () => {
    const from = memoryStore();
    const root = await putMultiPlatform(from);
    const [image] = (await readIndex(from, root)).index.manifests;
    if (image === undefined) throw new Error("no image");
    const sbom = await putImage(from, { subject: image, artifactType: "application/vnd.example.sbom" });
    const signature = await putImage(from, { subject: sbom, artifactType: "application/vnd.example.signature" });
    const legacy = await putImage(from);
    await from.tag(legacy, `${fallbackTagOf(root.digest)}.sig`);
    await from.tag(root, `${fallbackTagOf(legacy.digest)}.att`);
    await from.tag(root, `${fallbackTagOf(root.digest)}.sbom`);
    const { to } = await copied({ from, root, referrers: "follow" });
    expect((await to.referrers(image)).map((entry) => entry.digest)).toEqual([sbom.digest]);
    expect((await to.referrers(sbom)).map((entry) => entry.digest)).toEqual([signature.digest]);
    expect((await to.resolve(`${fallbackTagOf(root.digest)}.sig`)).digest).toBe(legacy.digest);
    expect((await copied({ from, root })).to).toBeDefined();
    expect(await (await copied({ from, root })).to.referrers(image)).toEqual([]);
  });

  it("takes that referrers cannot be listed for a failure, never for none", async () => {
    const from = memoryStore();
    const root = await putImage(from);
    const broken = changed(from, { referrers: () => Promise.reject(new StoreError("ERR_STORE_IO", { message: "no list" })) });
    const to = memoryStore();
    await expect(copyGraph({ from: broken, to, root, tags: ["v1"], referrers: "follow" })).rejects.toMatchObject({
      side: "source",
      code: "ERR_STORE_IO",
    });
    expect(await to.tags()).toEqual([]);
  });

  it("leaves out foreign layers that the source does not have, and takes those that it has", async () => {
    const from = memoryStore();
    const mediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    const here = await put(from, mediaType, randomBytes(10));
    const elsewhere: Descriptor = { mediaType, digest: `sha256:${"12".repeat(32)}`, size: 5, urls: ["https://example.com/layer"] };
    const config = await put(
      from,
      mediaTypes.config,
      serializeJson({ os: "windows", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] } }),
    );
    const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [elsewhere, here] };
    const root = await put(from, mediaTypes.manifest, serializeJson(manifest));
    expect((await copied({ from, root })).summary).toMatchObject({ pushed: 3, skipped: 1 });
    const plain = { ...manifest, layers: [{ ...elsewhere, mediaType: mediaTypes.layerTar }] };
    expect(await codeOf(copied({ from, root: await put(from, mediaTypes.manifest, serializeJson(plain)) }))).toBe("ERR_STORE_NOT_FOUND");
  });

  it("uses content inside descriptors, and refuses it when it is not what the descriptor says", async () => {
    const from = memoryStore();
    const bytes = serializeJson({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] } });
    const address = { mediaType: mediaTypes.config, digest: digestOf(bytes), size: bytes.length };
    const imageWith = (data: string) =>
      put(
        from,
        mediaTypes.manifest,
        serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config: { ...address, data }, layers: [] }),
      );
    const { to } = await copied({ from, root: await imageWith(bytes.toString("base64")) });
    expect(await readBlob(to, address, { maxBytes: 1000, subject: "configuration" })).toEqual(bytes);
    expect(await codeOf(copied({ from, root: await imageWith(Buffer.from("{}").toString("base64")) }))).toBe("ERR_CONTENT_DIGEST_MISMATCH");
    expect(await codeOf(copied({ from, root: await imageWith("?") }))).toBe("ERR_ENCODING_MALFORMED");
  });

  it("says which side failed, under the code of what failed, and tags nothing", async () => {
    const from = memoryStore();
    const root = await putImage(from, { layers: 5 });
    const { manifest } = await readManifest(from, root);
    const bad = manifest.layers[2]?.digest;
    const broken = changed(from, {
      fetch: async (target, options) => (target.digest === bad ? bytesStream(Buffer.from("wrong")) : from.fetch(target, options)),
    });
    const to = memoryStore();
    const sourceError = await copyGraph({ from: broken, to, root, tags: ["v1"] }).catch((error: unknown) => error);
    expect(sourceError).toBeInstanceOf(CopyError);
    expect(sourceError).toMatchObject({ code: "ERR_CONTENT_TRUNCATED", category: "integrity" });
    const full = changed(to, {
      push: () => Promise.reject(Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" })),
    });
    const destinationError = await copyGraph({ from, to: full, root, tags: ["v1"] }).catch((error: unknown) => error);
    expect(destinationError).toMatchObject({
      side: "destination",
      code: "ERR_STORE_IO",
      category: "io",
      hint: expect.stringContaining("disk is full") as string,
    });
    expect(String(destinationError)).toContain("memory:");
    expect(await to.tags()).toEqual([]);
  });

  it("ends at an abort with nothing going on behind it, and goes on when it is run again", async () => {
    const from = memoryStore();
    const root = await putImage(from, { layers: 20, layerSize: 50_000 });
    const memory = memoryStore();
    const abort = new AbortController();
    let pushes = 0;
    const to = changed(memory, {
      push: async (target, source, options) => {
        pushes += 1;
        if (pushes === 8) abort.abort();
        return memory.push(target, source, options);
      },
    });
    expect(await codeOf(copyGraph({ from, to, root, tags: ["v1"], signal: abort.signal }))).toBe("ERR_INTERRUPTED");
    const after = pushes;
    await new Promise((resolve) => setImmediate(resolve));
    expect(pushes).toBe(after);
    expect(await memory.tags()).toEqual([]);
    const { summary } = await copied({ from, to: memory, root });
    expect(summary.present).toBeGreaterThan(0);
    expect(summary.pushed + summary.present).toBe(22);
  });

  it("refuses schema 1 with the way out", async () => {
    const from = memoryStore();
    const bytes = serializeJson({ schemaVersion: 1, fsLayers: [] });
    const root = await put(from, "application/vnd.docker.distribution.manifest.v1+prettyjws", bytes);
    await expect(copied({ from, root })).rejects.toMatchObject({
      code: "ERR_MANIFEST_UNSUPPORTED",
      hint: expect.stringContaining("push the image again") as string,
    });
  });

  it("takes Docker's schema 2 as it is", async () => {
    const from = memoryStore();
    const layer = await put(from, mediaTypes.dockerLayerTarGzip, randomBytes(10));
    const config = await put(
      from,
      mediaTypes.dockerConfig,
      serializeJson({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] } }),
    );
    const image = await put(
      from,
      mediaTypes.dockerManifest,
      serializeJson({ schemaVersion: 2, mediaType: mediaTypes.dockerManifest, config, layers: [layer] }),
    );
    const root = await put(
      from,
      mediaTypes.dockerIndex,
      serializeJson({
        schemaVersion: 2,
        mediaType: mediaTypes.dockerIndex,
        manifests: [{ ...image, platform: { os: "linux", architecture: "amd64" } }],
      }),
    );
    const { to } = await copied({ from, root });
    expect(await to.resolve("v1")).toEqual(root);
  });
});

describe("a large blob whose transfer breaks", () => {
  const size = 12 << 20;

  /** One image of one large blob; the source breaks after as many bytes as `breakAt` says, once. */
  async function breaking(breakAt: number, error: Error = new StoreError("ERR_STORE_IO", { message: "the connection broke" })) {
    const memory = memoryStore();
    const layer = await put(memory, mediaTypes.layerTar, randomBytes(size));
    const config = await put(
      memory,
      mediaTypes.config,
      serializeJson({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] } }),
    );
    const root = await put(
      memory,
      mediaTypes.manifest,
      serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer] }),
    );
    const ranges: (number | undefined)[] = [];
    const from = changed(memory, {
      fetch: async (target, options) => {
        const stream = await memory.fetch(target, options);
        if (target.digest !== layer.digest) return stream;
        ranges.push(options?.range?.start);
        if (ranges.length > 1) return stream;
        return compose(stream, async function* (source) {
          let moved = 0;
          for await (const chunk of source) {
            moved += chunk.length;
            if (moved > breakAt) throw error;
            yield chunk;
          }
        });
      },
    });
    return { from, root, layer, ranges };
  }

  it("goes on where it was, in another process's store", async () => {
    const path = join(await temporaryFolder(), "layout");
    const { from, root, layer, ranges } = await breaking(7 << 20);
    const first = await openLayout({ path, mode: "write" });
    await expect(copyGraph({ from, to: first, root, tags: ["v1"] })).rejects.toMatchObject({ side: "source", code: "ERR_STORE_IO" });
    await first.close();
    const left = (await readdir(path)).filter((name) => name.startsWith(".ociseal-stage-"));
    expect(left).toHaveLength(1);
    await killOwner(path, left[0] ?? "");
    const second = await openLayout({ path, mode: "write" });
    const { events } = await copied({ from, to: second, root });
    // What was still in the streams' buffers when it broke is lost.
    const kept = ranges[1] ?? 0;
    expect(ranges).toHaveLength(2);
    expect(kept).toBeGreaterThan(1 << 20);
    expect(events.find((event) => event.kind === "started" && event.descriptor.digest === layer.digest)).toMatchObject({ kept });
    const moved = events.map((event) => (event.kind === "moved" && event.descriptor.digest === layer.digest ? event.size : 0));
    expect(moved.reduce((sum, bytes) => sum + bytes, 0)).toBe(size - kept);
    expect(digestOf(await collect(await second.fetch(layer), { maxBytes: size }))).toBe(layer.digest);
    await second.close();
    expect((await readdir(path)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });

  it("starts over when the part that was left is not a part of it", async () => {
    const path = join(await temporaryFolder(), "layout");
    const { from, root, layer, ranges } = await breaking(7 << 20);
    const first = await openLayout({ path, mode: "write" });
    await expect(copyGraph({ from, to: first, root })).rejects.toThrow("broke");
    await first.close();
    const [left = ""] = (await readdir(path)).filter((name) => name.startsWith(".ociseal-stage-"));
    const [part = ""] = await readdir(join(path, left));
    await writeFile(join(path, left, part), randomBytes(3 << 20));
    await killOwner(path, left);
    const second = await openLayout({ path, mode: "write" });
    await copied({ from, to: second, root });
    expect(ranges).toEqual([undefined, 3 << 20, undefined]);
    expect(digestOf(await collect(await second.fetch(layer), { maxBytes: size }))).toBe(layer.digest);
    await second.close();
    expect((await readdir(path)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });

  it("keeps nothing of content that is wrong, nor of hardly any", async () => {
    for (const { breakAt, error } of [
      { breakAt: 7 << 20, error: new BytesError("ERR_CONTENT_DIGEST_MISMATCH", { message: "wrong" }) },
      { breakAt: 500_000, error: new StoreError("ERR_STORE_IO", { message: "broke" }) },
    ]) {
      const path = join(await temporaryFolder(), "layout");
      const { from, root } = await breaking(breakAt, error);
      const store = await openLayout({ path, mode: "write" });
      await expect(copyGraph({ from, to: store, root })).rejects.toThrow(error.message);
      await store.close();
      expect((await readdir(path)).filter((name) => name.startsWith("."))).toEqual([]);
    }
  });
});

/** Renames what a store of this process left, as if another process had left it that is dead now. */
async function killOwner(path: string, name: string): Promise<void> {
  const parts = name.split("-");
  parts[parts.length - 3] = "4194300";
  await rename(join(path, name), join(path, parts.join("-")));
}

describe("selecting platforms", () => {
  it("gives one platform's manifest as it is", async () => {
    const from = memoryStore();
    const root = await putMultiPlatform(from);
    const { index } = await readIndex(from, root);
    const selection = await selectPlatforms(from, root, [parsePlatform("linux/arm64")]);
    expect(selection.root.digest).toBe(index.manifests[2]?.digest);
    expect((await copied(selection)).summary.pushed).toBe(4);
    expect(await selectPlatforms(from, root, [])).toEqual({ from, root });
  });

  it("gives several in a new index, with the attestations about them and nothing else", async () => {
    const from = memoryStore();
    const two = await putMultiPlatform(from);
    const third = {
      ...(await putImage(from, { platform: { os: "linux", architecture: "s390x" } })),
      platform: { os: "linux", architecture: "s390x" },
    };
    const { index } = await readIndex(from, two);
    const root = await putIndex(from, [...index.manifests, third]);
    const selection = await selectPlatforms(from, root, [parsePlatform("linux/arm64"), parsePlatform("linux/s390x")]);
    expect((await readIndex(selection.from, selection.root)).index.manifests).toEqual([index.manifests[2], index.manifests[3], third]);
    const { to, summary } = await copied(selection);
    expect(summary.pushed).toBe(4 + 3 + 4 + 1);
    expect(await collect(await to.fetch(selection.root), { maxBytes: 5000 })).toHaveLength(selection.root.size);
    const all = await selectPlatforms(from, root, ["linux/amd64", "linux/arm64", "linux/s390x"].map(parsePlatform));
    expect(all.root).toEqual(root);
  });

  it("looks into nested indexes and into configurations where no entry names a platform", async () => {
    const from = memoryStore();
    const bare = await putImage(from, { platform: { os: "linux", architecture: "riscv64" } });
    const root = await putIndex(from, [await putMultiPlatform(from), bare]);
    expect((await selectPlatforms(from, root, [parsePlatform("linux/riscv64")])).root).toEqual(bare);
    const both = await selectPlatforms(from, root, [parsePlatform("linux/riscv64"), parsePlatform("linux/amd64")]);
    expect((await readIndex(both.from, both.root)).index.manifests).toHaveLength(2);
    expect((await copied(both)).summary.pushed).toBe(4 + 4 + 3 + 1 + 1);
    expect((await selectPlatforms(from, bare, [parsePlatform("linux/riscv64")])).root).toEqual(bare);
    expect(await codeOf(selectPlatforms(from, bare, [parsePlatform("linux/amd64")]))).toBe("ERR_PLATFORM_NOT_FOUND");
    expect(await codeOf(selectPlatforms(from, root, [parsePlatform("linux/ppc64le")]))).toBe("ERR_PLATFORM_NOT_FOUND");
  });
});
