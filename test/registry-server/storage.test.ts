import { once } from "node:events";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { digestOf, encodedOf } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { RegistryServerError, serveRegistry } from "../../src/registry-server/index.ts";
import { makeHelloImage, makeIndex, pushImage, seedRegistry } from "../../registry-fixtures/index.ts";
import { call, json, startRegistry, TestRegistry } from "./client.ts";

const listen = { host: "127.0.0.1", port: 0 };

async function folder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "ociseal-storage-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function serve(path: string): Promise<TestRegistry> {
  return new TestRegistry(await serveRegistry({ listen, storage: { kind: "directory", path } }), undefined);
}

async function readIndex(layout: string): Promise<{ manifests: { digest: string; annotations?: Record<string, string> }[] }> {
  return JSON.parse(await readFile(join(layout, "index.json"), "utf8")) as never;
}

describe("directory storage", () => {
  it("is one OCI layout per repository, and an index hides its parts", async () => {
    await using place = await folder();
    const index = makeIndex({ images: [await makeHelloImage(), await makeHelloImage("hi\n", "arm64")] });
    {
      await using registry = await serve(place.path);
      await seedRegistry(registry.server, "team/app", index, "1.0");
    }
    const layout = join(place.path, "team+app");
    expect(JSON.parse(await readFile(join(layout, "oci-layout"), "utf8"))).toEqual({ imageLayoutVersion: "1.0.0" });
    const { manifests } = await readIndex(layout);
    expect(manifests).toEqual([
      {
        mediaType: mediaTypes.index,
        digest: index.descriptor.digest,
        size: index.descriptor.size,
        annotations: { "org.opencontainers.image.ref.name": "1.0" },
      },
    ]);
    for (const { descriptor, bytes } of index.contents) {
      expect(await readFile(join(layout, "blobs/sha256", encodedOf(descriptor.digest)))).toEqual(bytes);
    }
    expect((await readdir(place.path)).sort()).toEqual(["team+app"]);
  });

  it("knows everything again after a restart: tags, parts of an index, untagged manifests, referrers", async () => {
    await using place = await folder();
    const index = makeIndex({ images: [await makeHelloImage(), await makeHelloImage("hi\n", "arm64")] });
    const untagged = await makeHelloImage("untagged\n");
    let referrer: Buffer;
    {
      await using registry = await serve(place.path);
      await seedRegistry(registry.server, "app", index, "1.0");
      await seedRegistry(registry.server, "app", untagged);
      referrer = await registry.manifest("app", { subject: { ...index.descriptor }, artifactType: "application/vnd.example" });
      await registry.put("app", digestOf(referrer), referrer);
    }
    await using registry = await serve(place.path);
    expect((await registry.call("GET", "/v2/app/tags/list")).json()).toEqual({ name: "app", tags: ["1.0"] });
    for (const { descriptor, bytes } of [...index.contents, ...untagged.contents]) {
      const kind =
        descriptor.mediaType.endsWith("manifest.v1+json") || descriptor.mediaType.endsWith("index.v1+json") ? "manifests" : "blobs";
      expect((await registry.call("GET", `/v2/app/${kind}/${descriptor.digest}`)).body).toEqual(bytes);
    }
    const listed = (await registry.call("GET", `/v2/app/referrers/${index.descriptor.digest}`)).json() as {
      manifests: { digest: string }[];
    };
    expect(listed.manifests.map(({ digest }) => digest)).toEqual([digestOf(referrer)]);
  });

  it("lists a part again when its index is deleted", async () => {
    await using place = await folder();
    const image = await makeHelloImage();
    const index = makeIndex({ images: [image] });
    {
      await using registry = await serve(place.path);
      await seedRegistry(registry.server, "app", index, "1.0");
      await registry.call("DELETE", `/v2/app/manifests/${index.descriptor.digest}`);
    }
    expect((await readIndex(join(place.path, "app"))).manifests.map(({ digest }) => digest)).toEqual([image.descriptor.digest]);
    await using registry = await serve(place.path);
    expect((await registry.call("GET", `/v2/app/manifests/${image.descriptor.digest}`)).status).toBe(200);
  });

  it("serves a layout that another tool wrote, and keeps the names in it that are no tags", async () => {
    await using place = await folder();
    const image = await makeHelloImage();
    const layout = join(place.path, "foreign");
    await mkdir(join(layout, "blobs/sha256"), { recursive: true });
    await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion": "1.0.0"}\n');
    for (const { descriptor, bytes } of image.contents) await writeFile(join(layout, "blobs/sha256", encodedOf(descriptor.digest)), bytes);
    const { mediaType, digest, size } = image.descriptor;
    const named = (name: string) => ({ mediaType, digest, size, annotations: { "org.opencontainers.image.ref.name": name } });
    await writeFile(join(layout, "index.json"), json({ schemaVersion: 2, manifests: [named("1.0"), named("docker.io/library/app:1.0")] }));
    {
      await using registry = await serve(place.path);
      expect((await registry.call("GET", "/v2/foreign/tags/list")).json()).toEqual({ name: "foreign", tags: ["1.0"] });
      await registry.put("foreign", "2.0", image.contents.at(-1)?.bytes ?? Buffer.alloc(0));
    }
    const names = (await readIndex(layout)).manifests.map(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"]);
    expect(new Set(names)).toEqual(new Set(["1.0", "2.0", "docker.io/library/app:1.0"]));
  });

  it("fills a layout that umoci has just made, whose index says null", async () => {
    await using place = await folder();
    const layout = join(place.path, "new");
    await mkdir(join(layout, "blobs/sha256"), { recursive: true });
    await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(join(layout, "index.json"), '{"schemaVersion":2,"manifests":null}');
    await using registry = await serve(place.path);
    await registry.put("new", "1.0", Buffer.from(json({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] })), mediaTypes.index);
    expect((await registry.call("GET", "/v2/new/tags/list")).json()).toEqual({ name: "new", tags: ["1.0"] });
  });

  it("refuses to serve a manifest whose file was changed", async () => {
    await using place = await folder();
    const image = await makeHelloImage();
    await using registry = await serve(place.path);
    await seedRegistry(registry.server, "app", image, "1.0");
    const path = join(place.path, "app/blobs/sha256", encodedOf(image.descriptor.digest));
    const bytes = await readFile(path);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const answer = await registry.call("GET", "/v2/app/manifests/1.0");
    expect(answer.status).toBe(500);
    expect(answer.body.toString()).not.toContain(place.path);
  });

  it.each([
    ["{", "broken JSON"],
    [json({ schemaVersion: 2 }).toString(), "no list"],
    [
      json({ schemaVersion: 2, manifests: [{ mediaType: mediaTypes.manifest, digest: "sha256:../../../etc/passwd", size: 1 }] }).toString(),
      "a path for a digest",
    ],
  ])("answers 500 for a layout with a damaged index.json (%#), and goes on with others", async (text) => {
    await using place = await folder();
    await mkdir(join(place.path, "bad/blobs/sha256"), { recursive: true });
    await writeFile(join(place.path, "bad/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(join(place.path, "bad/index.json"), text);
    await using registry = await serve(place.path);
    expect((await registry.call("GET", "/v2/bad/tags/list")).status).toBe(500);
    await registry.pushBlob("good", "x");
    expect((await registry.call("GET", "/v2/good/tags/list")).status).toBe(200);
  });

  it("keeps a second registry out of its folder, and takes over the lock of a dead one", async () => {
    await using place = await folder();
    {
      await using first = await serve(place.path);
      expect(first.server.url).toContain("127.0.0.1");
      await expect(serve(place.path)).rejects.toMatchObject({ code: "ERR_REGISTRY_SERVER_LOCKED", category: "io" });
    }
    // The largest process id of Linux plus one: nobody has it.
    await writeFile(join(place.path, "_lock"), "4194305 1\n");
    await using again = await serve(place.path);
    expect((await again.call("GET", "/v2/")).status).toBe(200);
  });

  it("does not take a lock with its own process id for its own: in a container the id is always the same", async () => {
    await using place = await folder();
    await writeFile(join(place.path, "_lock"), `${process.pid} 12345\n`);
    await using registry = await serve(place.path);
    expect((await registry.call("GET", "/v2/")).status).toBe(200);
  });

  it("says what is wrong with a folder that it cannot use", async () => {
    await using place = await folder();
    await writeFile(join(place.path, "file"), "x");
    const error = await serve(join(place.path, "file")).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(RegistryServerError);
    expect(error).toMatchObject({ code: "ERR_REGISTRY_SERVER_STORAGE", category: "io" });
  });

  it("leaves no unfinished write behind: cancelled, refused, broken, closed", async () => {
    await using place = await folder();
    const registry = await serve(place.path);
    const pending = join(place.path, "_pending");
    const cancelled = await registry.begin("a");
    await registry.call("PATCH", cancelled, { body: "some" });
    expect(await readdir(pending)).toHaveLength(1);
    await registry.call("DELETE", cancelled);
    await registry.call("POST", `/v2/a/blobs/uploads/?digest=${digestOf(Buffer.from("other"))}`, { body: "some" });
    await registry.pushBlob("a", "whole");
    expect(await readdir(pending)).toEqual([]);
    await registry.call("PATCH", await registry.begin("a"), { body: "unfinished" });
    await registry.server.close();
    expect((await readdir(place.path)).sort()).toEqual(["a"]);
  });

  it("makes a repository only by content, never by asking", async () => {
    await using place = await folder();
    await using registry = await serve(place.path);
    await registry.call("GET", "/v2/x/tags/list");
    await registry.call("PUT", "/v2/x/manifests/v", { body: "{}", headers: { "content-type": mediaTypes.manifest } });
    await registry.begin("x");
    expect(await readdir(place.path)).not.toContain("x");
  });

  it("loses nothing under parallel pushes of tags and blobs", async () => {
    await using place = await folder();
    const tags = Array.from({ length: 60 }, (_, i) => `t${String(i).padStart(2, "0")}`);
    {
      await using registry = await serve(place.path);
      const push = async (tag: string) => {
        const bytes = await registry.manifest("a", { annotations: { tag } }, tag);
        expect((await registry.put("a", tag, bytes)).status).toBe(201);
      };
      await Promise.all(tags.map(push));
    }
    await using registry = await serve(place.path);
    expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags });
  });

  it("shows what another program put into a layout, and neither loses what the other wrote", async () => {
    await using place = await folder();
    await using registry = await serve(place.path);
    await registry.pushBlob("a", "x");
    const layout = await openLayout({ path: join(place.path, "a"), mode: "write" });
    const [mine, theirs] = [Array.from({ length: 15 }, (_, i) => `mine-${i}`), Array.from({ length: 15 }, (_, i) => `theirs-${i}`)];
    const image = await makeHelloImage();
    await pushImage(layout, image, "theirs");
    expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: ["theirs"] });
    const push = async (tag: string) => {
      const bytes = await registry.manifest("a", { annotations: { tag } }, tag);
      expect((await registry.put("a", tag, bytes)).status).toBe(201);
    };
    await Promise.all([...mine.map(push), ...theirs.map((tag) => layout.tag(image.descriptor, tag))]);
    const expected = ["theirs", ...mine, ...theirs].sort();
    expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: expected });
    expect(await layout.tags()).toEqual(expected);
    await layout.close();
  });

  it("goes on with what it knows while the index is half written, and with the new one when it is whole", async () => {
    await using place = await folder();
    await using registry = await serve(place.path);
    const bytes = await registry.manifest("a");
    await registry.put("a", "v1", bytes);
    const path = join(place.path, "a/index.json");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.slice(0, 40));
    expect((await registry.call("GET", "/v2/a/manifests/v1")).status).toBe(200);
    expect((await registry.put("a", "v2", bytes)).status).toBe(500);
    await writeFile(path, text.replace('"v1"', '"v3"'));
    expect((await registry.call("GET", "/v2/a/tags/list")).json()).toEqual({ name: "a", tags: ["v2", "v3"] });
  });

  it("keeps what was acknowledged when the process is killed", async () => {
    await using place = await folder();
    const main = resolve(import.meta.dirname, "../../src/registry-server/index.ts");
    const program = `import { serveRegistry } from ${JSON.stringify(main)};
      const r = await serveRegistry({ listen: ${JSON.stringify(listen)}, storage: { kind: "directory", path: ${JSON.stringify(place.path)} } });
      console.log(r.url);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const url = line.toString().trim();
    const image = await makeHelloImage();
    await seedRegistry({ url }, "app", image, "1.0");
    const begun = await call(`${url}/v2/app/blobs/uploads/`, "POST");
    await call(`${url}${begun.headers.location}`, "PATCH", { body: "half" });
    child.kill("SIGKILL");
    await once(child, "exit");
    await using registry = await serve(place.path);
    expect((await registry.call("GET", "/v2/app/manifests/1.0")).body).toEqual(image.contents.at(-1)?.bytes);
    expect(await readdir(join(place.path, "_pending"))).toEqual([]);
    expect((await registry.call("GET", begun.headers.location ?? "")).status).toBe(404);
  });

  it("mounts by a second name of the same file", async () => {
    await using place = await folder();
    await using registry = await serve(place.path);
    const { digest } = await registry.pushBlob("a", "content");
    await registry.call("POST", `/v2/b/blobs/uploads/?mount=${digest}&from=a`);
    const facts = await stat(join(place.path, "b/blobs/sha256", encodedOf(digest)));
    expect(facts.nlink).toBe(2);
  });

  it("keeps repositories apart whose names begin alike", async () => {
    await using registry = await startRegistry({ kind: "directory" });
    for (const name of ["a", "a/blobs", "a/blobs/sha256", "a/index.json"]) await registry.pushBlob(name, name);
    expect((await registry.call("GET", "/v2/_catalog")).json()).toEqual({
      repositories: ["a", "a/blobs", "a/blobs/sha256", "a/index.json"],
    });
  });
});

describe("memory storage", () => {
  it("stops at its limit, and goes on after something was deleted", async () => {
    await using registry = await startRegistry({ limits: { maxMemoryBytes: 10_000 } });
    const { digest } = await registry.pushBlob("a", Buffer.alloc(6000, 1));
    const more = Buffer.alloc(6000, 2);
    const path = `/v2/a/blobs/uploads/?digest=${digestOf(more)}`;
    expect((await registry.call("POST", path, { body: more })).status).toBe(507);
    await registry.call("DELETE", `/v2/a/blobs/${digest}`);
    expect((await registry.call("POST", path, { body: more })).status).toBe(201);
  });
});
