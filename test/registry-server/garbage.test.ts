import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as immediately } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { digestOf, encodedOf, type Digest } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { collectStoredGarbage, RegistryServerError, type Garbage } from "../../src/registry-server/index.ts";
import { makeHelloImage, makeIndex, seedRegistry } from "../../registry-fixtures/index.ts";
import { json, startRegistry, storageKinds, type TestRegistry } from "./client.ts";

/** Nothing is too young. */
const anyAge = { graceMs: -60_000 };

async function statusOf(registry: TestRegistry, name: string, digests: readonly Digest[]): Promise<readonly number[]> {
  const statuses: number[] = [];
  for (const digest of digests) statuses.push((await registry.call("GET", `/v2/${name}/blobs/${digest}`)).status);
  return statuses;
}

function only(found: readonly Garbage[]): Garbage {
  const [first, ...others] = found;
  if (first === undefined || others.length > 0) throw new Error(`${found.length} repositories instead of one`);
  return first;
}

describe.each(storageKinds)("garbage collection, %s storage", (kind) => {
  it("removes the blobs that a deleted manifest leaves, and nothing that another one needs", async () => {
    await using registry = await startRegistry({ kind });
    const [kept, dropped] = [await registry.manifest("app", {}, "kept"), await registry.manifest("app", {}, "dropped")];
    await registry.put("app", "kept", kept);
    await registry.put("app", "dropped", dropped);
    expect(only(await registry.server.collectGarbage(anyAge))).toMatchObject({ manifests: [], blobs: [], bytes: 0, young: 0 });
    await registry.call("DELETE", `/v2/app/manifests/${digestOf(dropped)}`);
    const garbage = only(await registry.server.collectGarbage(anyAge));
    expect(garbage).toMatchObject({ repository: "app", manifests: [], blobs: [digestOf(Buffer.from("dropped"))], bytes: 7 });
    expect(
      await statusOf(registry, "app", [digestOf(Buffer.from("dropped")), digestOf(Buffer.from("kept")), digestOf(Buffer.from("{}"))]),
    ).toEqual([404, 200, 200]);
    expect((await registry.call("GET", "/v2/app/manifests/kept")).body).toEqual(kept);
  });

  it("keeps untagged manifests unless told; then keeps those that an index lists and those that say something about a kept one", async () => {
    await using registry = await startRegistry({ kind });
    const index = makeIndex({ images: [await makeHelloImage(), await makeHelloImage("hi\n", "arm64")] });
    await seedRegistry(registry.server, "app", index, "1.0");
    const put = async (layer: string, more: Readonly<Record<string, unknown>> = {}): Promise<Digest> => {
      const bytes = await registry.manifest("app", more, layer);
      expect((await registry.put("app", digestOf(bytes), bytes)).status).toBe(201);
      return digestOf(bytes);
    };
    const about = (digest: Digest) => ({
      subject: { mediaType: mediaTypes.manifest, digest, size: 1 },
      artifactType: "application/vnd.example",
    });
    const signature = await put("signature", about(index.descriptor.digest));
    const aboutSignature = await put("countersignature", about(signature));
    const aboutPart = await put(
      "sbom",
      about(index.contents.find(({ descriptor }) => descriptor.mediaType === mediaTypes.manifest)?.descriptor.digest ?? signature),
    );
    const untagged = await put("untagged");
    const aboutUntagged = await put("signature of the untagged", about(untagged));

    expect(only(await registry.server.collectGarbage(anyAge))).toMatchObject({ manifests: [], blobs: [] });
    const planned = only(await registry.server.collectGarbage({ ...anyAge, untagged: "remove", mode: "report" }));
    expect(new Set(planned.manifests)).toEqual(new Set([untagged, aboutUntagged]));
    expect((await registry.call("GET", `/v2/app/manifests/${untagged}`)).status).toBe(200);
    const garbage = only(await registry.server.collectGarbage({ ...anyAge, untagged: "remove" }));
    expect(garbage).toEqual(planned);
    for (const digest of [signature, aboutSignature, aboutPart])
      expect((await registry.call("GET", `/v2/app/manifests/${digest}`)).status).toBe(200);
    for (const digest of [untagged, aboutUntagged]) expect((await registry.call("GET", `/v2/app/manifests/${digest}`)).status).toBe(404);
    for (const { descriptor, bytes } of index.contents) {
      const path = descriptor.mediaType.includes("config") || descriptor.mediaType.includes("layer") ? "blobs" : "manifests";
      expect((await registry.call("GET", `/v2/app/${path}/${descriptor.digest}`)).body).toEqual(bytes);
    }
  });

  it("never touches what was pushed, mounted or asked for within the grace time, nor an upload that goes on", async () => {
    await using registry = await startRegistry({ kind });
    const session = await registry.begin("app");
    await registry.call("PATCH", session, { body: "half of " });
    const began = Date.now();
    while (Date.now() < began + 20) await immediately();
    const [pushed, asked, mounted] = [
      await registry.pushBlob("app", "pushed"),
      await registry.pushBlob("app", "asked"),
      await registry.pushBlob("other", "mounted"),
    ];
    expect((await registry.server.collectGarbage()).map(({ young }) => young)).toEqual([2, 1]);
    expect((await registry.call("POST", `/v2/app/blobs/uploads/?mount=${mounted.digest}&from=other`)).status).toBe(201);
    // An upload that began before the others were pushed shows that their manifest may still come.
    expect(only((await registry.server.collectGarbage({ graceMs: 0 })).filter(({ repository }) => repository === "app"))).toMatchObject({
      blobs: [],
    });
    const whole = digestOf(Buffer.from("half of it"));
    expect((await registry.call("PUT", `${session}?digest=${whole}`, { body: "it" })).status).toBe(201);
    expect(await statusOf(registry, "app", [pushed.digest, asked.digest, mounted.digest, whole])).toEqual([200, 200, 200, 200]);
    expect(new Set(only((await registry.server.collectGarbage(anyAge)).filter(({ repository }) => repository === "app")).blobs)).toEqual(
      new Set([pushed.digest, asked.digest, mounted.digest, whole]),
    );
  });

  it("loses nothing that a client was told is there, while it collects and clients push", async () => {
    await using registry = await startRegistry({ kind });
    const contents = Array.from({ length: 120 }, (_, i) => `orphan ${i}`);
    const config = await registry.pushBlob("app", "{}");
    const orphans = await Promise.all(contents.map((text) => registry.pushBlob("app", text)));
    // The clock of files is coarse: every orphan must be older than this moment, every use by a client younger.
    while (only(await registry.server.collectGarbage({ graceMs: 0, mode: "report" })).young > 0) await immediately();
    const since = Date.now();
    while (Date.now() < since + 20) await immediately();
    const pushing = new AbortController();
    const collecting = (async () => {
      let removed = 0;
      while (!pushing.signal.aborted) {
        removed += only(await registry.server.collectGarbage({ graceMs: Date.now() - since })).blobs.length;
        await immediately();
      }
      return removed;
    })();
    const pushes = Promise.all(
      orphans.map(async (layer, i) => {
        // Some come late, when their blob is gone already.
        for (let turn = 0; turn < i % 10; turn += 1) await registry.call("GET", "/v2/");
        for (const [blob, text] of [
          [layer, contents[i] ?? ""],
          [config, "{}"],
        ] as const) {
          const there = await registry.call("HEAD", `/v2/app/blobs/${blob.digest}`);
          if (there.status === 404) await registry.pushBlob("app", text);
        }
        const manifest = json({
          schemaVersion: 2,
          mediaType: mediaTypes.manifest,
          config: { mediaType: mediaTypes.config, ...config },
          layers: [{ mediaType: mediaTypes.layerTar, ...layer }],
        });
        expect((await registry.put("app", `tag-${i}`, manifest)).status).toBe(201);
        return `tag-${i}`;
      }),
    );
    const tags = await pushes.finally(() => {
      pushing.abort();
    });
    expect(await collecting).toBeGreaterThan(0);
    await registry.server.collectGarbage(anyAge);
    for (const tag of tags) expect((await registry.call("GET", `/v2/app/manifests/${tag}`)).status).toBe(200);
    expect(
      new Set(
        await statusOf(
          registry,
          "app",
          orphans.map(({ digest }) => digest),
        ),
      ),
    ).toEqual(new Set([200]));
  });

  it("collects by itself when told to", async () => {
    const reports: (readonly Garbage[])[] = [];
    await using registry = await startRegistry({ kind, collect: { everyMs: 5, ...anyAge, report: (garbage) => reports.push(garbage) } });
    const { digest } = await registry.pushBlob("app", "orphan");
    while ((await registry.call("GET", `/v2/app/blobs/${digest}`)).status === 200);
    while (!reports.flat().some(({ blobs }) => blobs.includes(digest))) await registry.call("GET", "/v2/");
  });
});

describe("garbage collection of a storage folder", () => {
  async function stored(fill: (registry: TestRegistry) => Promise<void>): Promise<{ path: string } & AsyncDisposable> {
    const registry = await startRegistry({ kind: "directory" });
    const path = registry.folder ?? "";
    await fill(registry);
    await registry.server.close();
    return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
  }

  it("works without a server, and refuses while one serves the folder", async () => {
    await using place = await stored(async (registry) => {
      await registry.pushBlob("team/app", "orphan");
      await registry.put("team/app", "1", await registry.manifest("team/app"));
      await expect(collectStoredGarbage(registry.folder ?? "", {})).rejects.toMatchObject({ code: "ERR_REGISTRY_SERVER_LOCKED" });
    });
    expect(only(await collectStoredGarbage(place.path, {}))).toMatchObject({ blobs: [], young: 1 });
    expect(only(await collectStoredGarbage(place.path, { ...anyAge, mode: "report" })).blobs).toHaveLength(1);
    expect(only(await collectStoredGarbage(place.path, anyAge)).blobs).toEqual([digestOf(Buffer.from("orphan"))]);
    expect(await readdir(join(place.path, "team+app/blobs/sha256"))).toHaveLength(3);
    await expect(collectStoredGarbage(join(place.path, "absent"), {})).rejects.toBeInstanceOf(RegistryServerError);
    expect(await readdir(place.path)).toEqual(["team+app"]);
  });

  it("keeps everything of a repository with a manifest that cannot be read, and says so", async () => {
    await using place = await stored(async (registry) => {
      await registry.pushBlob("app", "orphan");
      const bytes = await registry.manifest("app");
      await registry.put("app", "1", bytes);
      await writeFile(join(registry.folder ?? "", "app/blobs/sha256", encodedOf(digestOf(bytes))), randomBytes(100));
    });
    const garbage = only(await collectStoredGarbage(place.path, anyAge));
    expect(garbage.blobs).toEqual([]);
    expect(garbage.failure).toMatch(/other content/);
    expect(await readdir(join(place.path, "app/blobs/sha256"))).toHaveLength(4);
  });

  it("keeps what a document of an unknown type mentions, that another program put there", async () => {
    const artifact = (layer: Digest) => json({ mediaType: "application/vnd.oci.artifact.manifest.v1+json", blobs: [{ digest: layer }] });
    const layer = digestOf(Buffer.from("of the artifact"));
    await using place = await stored(async (registry) => {
      await registry.pushBlob("app", "of the artifact");
      await registry.pushBlob("app", artifact(layer));
      await registry.pushBlob("app", "orphan");
    });
    const path = join(place.path, "app/index.json");
    const index = JSON.parse(await readFile(path, "utf8")) as { manifests: unknown[] };
    const bytes = artifact(layer);
    index.manifests.push({
      mediaType: "application/vnd.oci.artifact.manifest.v1+json",
      digest: digestOf(bytes),
      size: bytes.length,
      annotations: { "org.opencontainers.image.ref.name": "example.com/app:1" },
    });
    await writeFile(path, JSON.stringify(index));
    expect(only(await collectStoredGarbage(place.path, anyAge)).blobs).toEqual([digestOf(Buffer.from("orphan"))]);
  });

  it("leaves folders alone that are no repositories", async () => {
    const path = await mkdtemp(join(tmpdir(), "ociseal-garbage-"));
    try {
      await writeFile(join(path, "notes.txt"), "mine");
      expect(await collectStoredGarbage(path, anyAge)).toEqual([]);
      expect(await readdir(path)).toEqual(["notes.txt"]);
    } finally {
      await rm(path, { recursive: true, force: true });
    }
  });
});
