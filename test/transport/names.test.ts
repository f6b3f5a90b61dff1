import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseImageName, parsePlatform, type Descriptor } from "../../src/oci/index.ts";
import { RegistryTransport } from "../../src/registry/index.ts";
import { serveRegistry, type RegistryServer } from "../../src/registry-server/index.ts";
import { memoryStore, openLayout, readIndex, readManifest, type CopyEvent } from "../../src/store/index.ts";
import { checkDigest, copyImage, openImage, planCopy } from "../../src/transport/index.ts";
import { codeOf } from "../store/contract.ts";
import { putImage, putMultiPlatform } from "../store/images.ts";
import { temporaryFolder } from "../store/temporary.ts";

let server: RegistryServer;
let transport: RegistryTransport;
let host: string;

beforeAll(async () => {
  server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
  host = new URL(server.url).host;
  transport = new RegistryTransport({ scheme: "http-on-loopback" });
});

afterAll(async () => {
  await transport.close();
  await server.close();
});

/** A layout with a two-platform index tagged `multi` and its signature. */
async function sourceLayout() {
  const path = join(await temporaryFolder(), "layout");
  const store = await openLayout({ path, mode: "write", durability: "none" });
  const root = await putMultiPlatform(store);
  await store.tag(root, "multi");
  const signature = await putImage(store, { subject: root, artifactType: "application/vnd.example.signature" });
  await store.close();
  return { name: `oci:${path}:multi`, root, signature };
}

function copy(
  source: string,
  destination: string,
  more: { readonly referrers?: "follow"; readonly onProgress?: (event: CopyEvent) => void } = {},
) {
  return copyImage({ source: parseImageName(source), destination: parseImageName(destination), transport, ...more });
}

describe("copying images by name", () => {
  it("goes from any transport to any and back, every platform, with the same digest", async () => {
    const { name, root } = await sourceLayout();
    const folder = await temporaryFolder();
    const chain = [
      `${host}/chain:1`,
      `oci-archive:${join(folder, "a.tar")}:localhost/app:1`,
      `dir:${join(folder, "d")}`,
      `docker://${host}/chain/two:x`,
      `oci:${join(folder, "o")}`,
      `oci-archive:${join(folder, "unnamed.tar")}`,
      `oci:${join(folder, "end")}:end`,
    ];
    let from = name;
    for (const to of chain) {
      const copied = await copy(from, to);
      expect(copied.root).toMatchObject(root);
      expect(copied.pushed + copied.mounted).toBe(15);
      from = to;
    }
  });

  it("mounts blobs between repositories of one registry, and asks once when all is there", async () => {
    const { name } = await sourceLayout();
    await copy(name, `${host}/mount/a:1`);
    const events: CopyEvent[] = [];
    const mounted = await copy(`${host}/mount/a:1`, `${host}/mount/b:1`, { onProgress: (event) => events.push(event) });
    expect(mounted).toMatchObject({ mounted: 10, pushed: 5 });
    expect(events.filter((event) => event.kind === "moved" && event.descriptor.mediaType.includes("layer"))).toEqual([]);
    expect(await copy(`${host}/mount/a:1`, `${host}/mount/b:1`)).toMatchObject({ mounted: 0, pushed: 0, present: 1 });
  });

  it("sends again, once, what the registry has lost although it says that it is there", async () => {
    const { name, root } = await sourceLayout();
    const whole = await copy(name, `${host}/lost/whole:1`);
    const lie = async (target: Descriptor, place: string): Promise<void> => {
      const headers = { "content-type": target.mediaType, "content-length": String(target.size) };
      const path = `/v2/lost/lying/${place}/${target.digest}`;
      server.addFault({ match: { method: "HEAD", path, count: "all" }, do: [{ kind: "respond", status: 200, headers }] });
    };
    const from = await openImage(parseImageName(name), { access: "read", transport });
    const { index } = await readIndex(from.store, root);
    for (const child of index.manifests) {
      const { manifest } = await readManifest(from.store, child);
      await lie(child, "manifests");
      for (const blob of [manifest.config, ...manifest.layers]) await lie(blob, "blobs");
    }
    await from.store.close();
    const copied = await copy(name, `${host}/lost/lying:1`);
    server.clearFaults();
    expect(copied.root).toMatchObject(root);
    expect({ ...copied, mounted: 0 }).toEqual(whole);
    await copy(`${host}/lost/lying:1`, `oci:${join(await temporaryFolder(), "back")}:1`);
  });

  it("gives up when the registry goes on losing it", async () => {
    const { name } = await sourceLayout();
    const body = '{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}';
    const headers = { "content-type": "application/json" };
    server.addFault({ match: { operation: "manifest.put", count: "all" }, do: [{ kind: "respond", status: 404, headers, body }] });
    await expect(copy(name, `${host}/lost/always:1`)).rejects.toMatchObject({ code: "ERR_REGISTRY_BLOB_UNKNOWN", side: "destination" });
    server.clearFaults();
  });

  it("takes signatures along when asked, and only then", async () => {
    const { name, root, signature } = await sourceLayout();
    const open = async (text: string) => (await openImage(parseImageName(text), { access: "read", transport })).store;
    await copy(name, `${host}/signed:1`, { referrers: "follow" });
    expect((await (await open(`${host}/signed:1`)).referrers(root)).map((entry) => entry.digest)).toEqual([signature.digest]);
    await copy(name, `${host}/unsigned:1`);
    expect(await (await open(`${host}/unsigned:1`)).referrers(root)).toEqual([]);
  });

  it("with tag and digest takes the digest, and fails when the tag is elsewhere", async () => {
    const { name, root } = await sourceLayout();
    const out = `oci:${join(await temporaryFolder(), "o")}:x`;
    await copy(name, `${host}/both:1`);
    expect((await copy(`${host}/both:1@${root.digest}`, out)).root).toMatchObject(root);
    expect((await copy(`${host}/both@${root.digest}`, out)).root).toMatchObject(root);
    const memory = memoryStore();
    const other = await putImage(memory);
    const moved = await openImage(parseImageName(`${host}/both:1`), { access: "write", transport });
    for (const part of await memory.tags()) expect(part).toBe("");
    const { copyGraph } = await import("../../src/store/index.ts");
    await copyGraph({ from: memory, to: moved.store, root: other, tags: ["1"] });
    expect(await codeOf(copy(`${host}/both:1@${root.digest}`, out))).toBe("ERR_IMAGE_TAG_MISMATCH");
    expect((await copy(`${host}/both@${root.digest}`, out)).root).toMatchObject(root);
    expect(await codeOf(copy(`${host}/both:none@${root.digest}`, out))).toBe("ERR_STORE_NOT_FOUND");
  });

  it("does not write to a destination whose digest the image does not have", async () => {
    const { name, root } = await sourceLayout();
    const wrong = `sha256:${"ab".repeat(32)}`;
    expect(await codeOf(copy(name, `${host}/expected:1@${wrong}`))).toBe("ERR_IMAGE_DIGEST_UNEXPECTED");
    expect(await codeOf(copy(`${host}/expected:1`, `oci:${join(await temporaryFolder(), "o")}`))).toBe("ERR_STORE_NOT_FOUND");
    await copy(name, `${host}/expected:1@${root.digest}`);
    await copy(name, `${host}/untagged@${root.digest}`);
    const opened = await openImage(parseImageName(`${host}/untagged@${root.digest}`), { access: "read", transport });
    expect(await opened.store.resolve(opened.reference)).toMatchObject(root);
    checkDigest(opened, root);
  });

  it("says which side failed, and leaves no half archive", async () => {
    const { name } = await sourceLayout();
    const folder = await temporaryFolder();
    await expect(copy(`${host}/nothing:1`, `oci:${join(folder, "o")}`)).rejects.toMatchObject({
      category: "not-found",
      message: expect.stringMatching(/^source: manifest 1 of docker:\/\/.*\/nothing was not found/) as string,
      details: { side: "source", store: `docker://${host}/nothing` },
    });
    const impatient = new RegistryTransport({ retry: { attempts: 1 } });
    const nowhere = parseImageName("127.0.0.1:1/app:1");
    await expect(copyImage({ source: parseImageName(name), destination: nowhere, transport: impatient })).rejects.toMatchObject({
      code: "ERR_REGISTRY_UNREACHABLE",
      message: expect.stringMatching(/^destination: manifest sha256:.* of docker:\/\/127\.0\.0\.1:1\/app: HEAD http/) as string,
    });
    await impatient.close();
    const path = parseImageName(name);
    if (path.transport !== "oci") throw new Error("not a layout");
    const layout = await openLayout({ path: path.path, mode: "read" });
    const root = await layout.resolve("multi");
    const file = layout.localPath(root);
    await layout.close();
    const index = JSON.parse(await readFile(file ?? "", "utf8")) as { readonly manifests: readonly { readonly digest: string }[] };
    await writeFile(join(path.path, "blobs/sha256", index.manifests[0]?.digest.slice(7) ?? ""), "changed");
    const archive = join(folder, "a.tar");
    await writeFile(archive, "old");
    await expect(copy(name, `oci-archive:${archive}`)).rejects.toMatchObject({ side: "source", category: "integrity" });
    expect(await readFile(archive, "utf8")).toBe("old");
    await mkdir(join(folder, "readonly"));
    await writeFile(join(folder, "file"), "");
    await expect(copy((await sourceLayout()).name, `oci:${join(folder, "file", "below")}`)).rejects.toMatchObject({
      code: "ERR_STORE_MALFORMED",
    });
  });

  it("refuses docker-archive as a destination, with the way out", async () => {
    const { name } = await sourceLayout();
    await expect(copy(name, "docker-archive:/tmp/never.tar:a:1")).rejects.toMatchObject({
      code: "ERR_IMAGE_SOURCE_ONLY",
      hint: expect.stringContaining("oci-archive:") as string,
    });
  });

  it("plans what a copy would make, also of some platforms, and writes nothing", async () => {
    const { name, root } = await sourceLayout();
    const folder = await temporaryFolder();
    const request = (destination: string, platforms: readonly string[]) => ({
      source: parseImageName(name),
      destination: parseImageName(destination),
      platforms: platforms.map((text) => parsePlatform(text)),
      transport,
    });
    for (const [i, platforms] of [[], ["linux/amd64"], ["linux/arm64"], ["linux/amd64", "linux/arm64"]].entries()) {
      const to = `oci:${join(folder, `copy${i}`)}:x`;
      const planned = await planCopy(request(to, platforms));
      await expect(readdir(join(folder, `copy${i}`))).rejects.toThrow(/ENOENT/);
      expect((await copyImage(request(to, platforms))).root).toEqual(planned);
    }
    await expect(planCopy(request(`oci:${folder}/never:x`, ["linux/s390x"]))).rejects.toMatchObject({ code: "ERR_PLATFORM_NOT_FOUND" });
    await expect(planCopy(request("docker-archive:never.tar:a:1", []))).rejects.toMatchObject({ code: "ERR_IMAGE_SOURCE_ONLY" });
    expect((await planCopy(request(`${host}/never@${root.digest}`, []))).digest).toBe(root.digest);
    await expect(planCopy(request(`${host}/never@${root.digest}`, ["linux/amd64"]))).rejects.toMatchObject({
      code: "ERR_IMAGE_DIGEST_UNEXPECTED",
    });
  });
});
