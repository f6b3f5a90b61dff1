import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mediaTypes, serializeJson } from "../../src/oci/index.ts";
import { openRegistry, RegistryTransport } from "../../src/registry/index.ts";
import { missingPeers } from "../peers.ts";
import { startDockerRegistry, type DockerRegistry } from "./docker-registry.ts";
import { absentDigest, contentOf, emptyConfig, manifestOf, pushContent, randomBlob, readAll, referrerOf, streamOf } from "./images.ts";

describe.skipIf(missingPeers("docker-registry"))("against docker-registry 2.8", () => {
  let registry: DockerRegistry;
  let transport: RegistryTransport;

  beforeAll(async () => {
    registry = await startDockerRegistry();
    transport = new RegistryTransport();
  });
  afterAll(async () => {
    await transport.close();
    await registry.close();
  });

  const open = (repository: string) => openRegistry({ host: registry.host, repository, transport });

  it("pushes an image, reads it back by tag, and finds it unchanged", async () => {
    const store = open("round/trip");
    const config = contentOf(
      serializeJson({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [] } }),
      mediaTypes.config,
    );
    const layers = [randomBlob(0), randomBlob(1), randomBlob(300_000), randomBlob(5_000_000)];
    const manifest = manifestOf(config, layers);
    for (const content of [config, ...layers, manifest]) {
      expect(await store.push(content.descriptor, content.source)).toBe("pushed");
      expect(await store.push(content.descriptor, content.source)).toBe("present");
    }
    await store.tag(manifest.descriptor, "1.0");
    expect(await store.tags()).toEqual(["1.0"]);
    const reader = open("round/trip");
    expect(await reader.resolve("1.0")).toEqual(manifest.descriptor);
    for (const content of [config, ...layers, manifest]) {
      expect((await readAll(await reader.fetch(content.descriptor))).equals(content.bytes)).toBe(true);
      expect(await reader.exists(content.descriptor)).toBe(true);
    }
  });

  it("reads a part of a blob", async () => {
    const store = open("round/parts");
    const blob = randomBlob(1_000_000);
    await store.push(blob.descriptor, blob.source);
    for (const [start, end] of [
      [0, 10],
      [999_990, 1_000_000],
      [65_530, 200_000],
      [5, 5],
      [0, 1_000_000],
    ] as const) {
      const part = await readAll(await store.fetch(blob.descriptor, { range: { start, end } }));
      expect(part.equals(blob.bytes.subarray(start, end))).toBe(true);
    }
  });

  it("takes a blob whose digest is not known before its end", async () => {
    const store = open("round/ingest");
    for (const size of [0, 10, 262_144, 262_145, 3_000_000]) {
      const blob = randomBlob(size);
      const { digest } = blob.descriptor;
      expect(await store.ingest(streamOf(blob.bytes), { size })).toEqual({ digest, size });
      expect(await store.ingest(streamOf(blob.bytes))).toEqual({ digest, size });
      expect((await readAll(await store.fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
    }
  });

  it("mounts a blob of another repository", async () => {
    const blob = randomBlob(1000);
    await open("mount/from").push(blob.descriptor, blob.source);
    expect(await open("mount/to").mount(blob.descriptor, "mount/from")).toBe("mounted");
    expect(await open("mount/to").mount(blob.descriptor, "mount/from")).toBe("present");
    expect(await open("mount/to").mount(randomBlob(5).descriptor, "mount/from")).toBe("not-mounted");
    expect(await open("mount/third").pushFrom(blob.descriptor, blob.source, "mount/from")).toBe("mounted");
    expect((await readAll(await open("mount/third").fetch(blob.descriptor))).equals(blob.bytes)).toBe(true);
  });

  it("says what is not there", async () => {
    const store = open("nothing/here");
    await expect(store.resolve("latest")).rejects.toMatchObject({ code: "ERR_STORE_NOT_FOUND", category: "not-found" });
    await expect(store.tags()).rejects.toMatchObject({ code: "ERR_STORE_NOT_FOUND" });
    const absent = { mediaType: mediaTypes.layerTar, digest: absentDigest, size: 5 };
    await expect(store.fetch(absent)).rejects.toMatchObject({ code: "ERR_STORE_NOT_FOUND" });
    expect(await store.exists(absent)).toBe(false);
    expect(await store.exists({ ...absent, mediaType: mediaTypes.manifest })).toBe(false);
    expect(await store.referrers(absent)).toEqual([]);
    expect(await store.remove({ ...absent, mediaType: mediaTypes.manifest })).toBe("absent");
  });

  it("refuses to push content that is not what its descriptor says", async () => {
    const store = open("wrong/content");
    const blob = randomBlob(700_000);
    const other = randomBlob(700_000);
    await expect(store.push(blob.descriptor, other.source)).rejects.toMatchObject({ code: "ERR_CONTENT_DIGEST_MISMATCH" });
    const longer = randomBlob(700_001);
    await expect(store.push(blob.descriptor, longer.source)).rejects.toMatchObject({ code: "ERR_CONTENT_TRAILING_DATA" });
    const shorter = contentOf(blob.bytes.subarray(0, 699_999), mediaTypes.layerTar);
    await expect(store.push(blob.descriptor, shorter.source)).rejects.toMatchObject({ code: "ERR_CONTENT_TRUNCATED" });
    expect(await store.exists(blob.descriptor)).toBe(false);
  });

  it("names a missing blob of a manifest with a code of its own", async () => {
    const store = open("missing/blob");
    const manifest = manifestOf(emptyConfig, [randomBlob(5)]);
    await store.push(emptyConfig.descriptor, emptyConfig.source);
    await expect(store.push(manifest.descriptor, manifest.source)).rejects.toMatchObject({ code: "ERR_REGISTRY_BLOB_UNKNOWN" });
  });

  it("keeps referrers under the fallback tag, filters them, and takes deleted ones out", async () => {
    const store = open("with/referrers");
    const image = manifestOf(emptyConfig, []);
    const one = referrerOf(image.descriptor, "one");
    const two = referrerOf(image.descriptor, "two", "application/vnd.test.sbom");
    await pushContent(store, emptyConfig, image, one, two);
    const entries = await store.referrers(image.descriptor);
    expect(entries).toEqual([
      { ...one.descriptor, artifactType: "application/vnd.test.signature", annotations: { note: "one" } },
      { ...two.descriptor, artifactType: "application/vnd.test.sbom", annotations: { note: "two" } },
    ]);
    expect(await store.referrers(image.descriptor, { artifactType: "application/vnd.test.sbom" })).toEqual([entries[1]]);
    expect(await store.remove(one.descriptor)).toBe("removed");
    expect(await store.referrers(image.descriptor)).toEqual([entries[1]]);
  });

  it("says that tags cannot be deleted here", async () => {
    const store = open("delete/tag");
    const image = manifestOf(emptyConfig, []);
    await pushContent(store, emptyConfig, image);
    await store.tag(image.descriptor, "1.0");
    await expect(store.remove("1.0")).rejects.toMatchObject({ code: "ERR_REGISTRY_UNSUPPORTED" });
    expect(await store.remove(image.descriptor)).toBe("removed");
    await expect(open("delete/tag").resolve("1.0")).rejects.toMatchObject({ code: "ERR_STORE_NOT_FOUND" });
  });

  it("keeps the entries of 8 parallel writers in one process", async () => {
    const store = open("parallel/one");
    const image = manifestOf(emptyConfig, []);
    await pushContent(store, emptyConfig, image);
    const writers = Array.from({ length: 8 }, (_, i) => referrerOf(image.descriptor, `writer ${i}`));
    await Promise.all(writers.map((writer) => pushContent(store, writer)));
    expect(await store.referrers(image.descriptor)).toHaveLength(8);
  });

  // Each writer has a transport of its own: nothing is shared, as between processes.
  it.each([8, 32])("keeps the entries of %d parallel writers that know nothing of each other", async (count) => {
    const image = manifestOf(emptyConfig, [], { annotations: { writers: String(count) } });
    await pushContent(open("parallel/many"), emptyConfig, image);
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const store = openRegistry({ host: registry.host, repository: "parallel/many" });
        await pushContent(store, referrerOf(image.descriptor, `writer ${i}`));
        await store.close();
      }),
    );
    const notes = (await open("parallel/many").referrers(image.descriptor)).map(({ annotations }) => annotations?.["note"]);
    expect(new Set(notes)).toEqual(new Set(Array.from({ length: count }, (_, i) => `writer ${i}`)));
    expect(notes).toHaveLength(count);
  });
});
