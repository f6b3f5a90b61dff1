import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { extract } from "tar-stream";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { mediaTypes, parseIndex, parseManifest } from "../../src/oci/index.ts";
import {
  helloProgram,
  makeDemoImage,
  makeHelloImage,
  makeImage,
  makeIndex,
  makeLayer,
  makeReferrer,
  randomBytes,
  syntheticBlob,
  type FixtureImage,
  type LayerEntry,
} from "../../registry-fixtures/index.ts";

const everything: readonly LayerEntry[] = [
  { kind: "directory", path: "etc" },
  { kind: "file", path: "etc/motd", content: "hello\n", mode: 0o600, uid: 1, gid: 2, mtime: 3 },
  { kind: "symlink", path: "etc/link", target: "motd" },
  { kind: "hardlink", path: "etc/hard", target: "etc/motd" },
  { kind: "fifo", path: "run" },
  { kind: "device", path: "null", type: "character", major: 1, minor: 3 },
  { kind: "whiteout", path: "etc/gone" },
  { kind: "opaque", path: "var" },
  { kind: "file", path: "x", content: "", xattrs: { "user.note": "yes" } },
  { kind: "file", path: `long/${"n".repeat(200)}/name`, content: "deep" },
];

interface Member {
  readonly name: string;
  readonly type: string | null | undefined;
  readonly linkname: string | null | undefined;
}

async function membersOf(tar: Buffer): Promise<readonly Member[]> {
  const members: Member[] = [];
  const reader = extract();
  reader.end(tar);
  for await (const entry of reader) {
    members.push({ name: entry.header.name, type: entry.header.type, linkname: entry.header.linkname });
    entry.resume();
  }
  return members;
}

/** Every descriptor in the documents of a fixture names content that is in it, before it. */
function isWhole(image: FixtureImage): boolean {
  const seen = new Set<string>();
  return image.contents.every(({ descriptor, bytes }) => {
    const named =
      descriptor.mediaType.includes("index") || descriptor.mediaType.includes("list")
        ? parseIndex(bytes, descriptor.mediaType).manifests
        : descriptor.mediaType.includes("manifest")
          ? [parseManifest(bytes, descriptor.mediaType).config, ...parseManifest(bytes, descriptor.mediaType).layers]
          : [];
    const whole =
      named.every(({ digest }) => seen.has(digest)) && digestOf(bytes) === descriptor.digest && bytes.length === descriptor.size;
    seen.add(descriptor.digest);
    return whole;
  });
}

describe("fixture layers", () => {
  it("hold every kind of member", async () => {
    const { tar } = await makeLayer(everything);
    expect((await membersOf(tar)).map(({ name, type, linkname }) => [name, type, linkname ?? undefined])).toEqual([
      ["etc/", "directory", undefined],
      ["etc/motd", "file", undefined],
      ["etc/link", "symlink", "motd"],
      ["etc/hard", "link", "etc/motd"],
      ["run", "fifo", undefined],
      ["null", "character-device", undefined],
      ["etc/.wh.gone", "file", undefined],
      ["var/.wh..wh..opq", "file", undefined],
      ["x", "file", undefined],
      [`long/${"n".repeat(200)}/name`, "file", undefined],
    ]);
  });

  it("are the same bytes every time; stored gzip with every zlib", async () => {
    const layer = await makeLayer(everything, "gzip-stored");
    expect(layer.diffId).toBe("sha256:d436f43d9b140e36ec0b4719c994365b0fb8783650acfb83b0877a006fea48db");
    expect(layer.digest).toBe("sha256:d863e5949494736b7e341c246805d07221d2f7ac8265ef9558fbf2859fce9f72");
    expect((await makeLayer(everything, "gzip")).digest).toBe((await makeLayer(everything, "gzip")).digest);
  });

  it("are what they say in every compression", async () => {
    const plain = await makeLayer(everything, "none");
    expect([plain.bytes, plain.digest, plain.mediaType]).toEqual([plain.tar, plain.diffId, mediaTypes.layerTar]);
    expect(gunzipSync((await makeLayer(everything, "gzip")).bytes)).toEqual(plain.tar);
    expect(gunzipSync((await makeLayer(everything, "gzip-stored")).bytes)).toEqual(plain.tar);
    const zstd = await makeLayer(everything, "zstd");
    expect([zstdDecompressSync(zstd.bytes), zstd.mediaType]).toEqual([plain.tar, mediaTypes.layerTarZstd]);
  });
});

describe("fixture images", () => {
  it("are whole: OCI, Docker, nested, with a subject", async () => {
    const layers = [{ entries: everything, compression: "gzip-stored" }] as const;
    const oci = await makeImage({ layers, annotations: { a: "b" } });
    const docker = await makeImage({ layers, format: "docker", platform: { os: "linux", architecture: "arm", variant: "v7" } });
    const nested = makeIndex({ images: [makeIndex({ images: [oci] }), oci] });
    const list = makeIndex({ images: [docker], format: "docker" });
    const referrer = makeReferrer(oci.descriptor, "application/vnd.example", "content");
    for (const image of [oci, docker, nested, list, referrer]) expect(isWhole(image)).toBe(true);
    expect(docker.descriptor).toMatchObject({ mediaType: mediaTypes.dockerManifest, platform: { variant: "v7" } });
    const last = referrer.contents.at(-1);
    expect(parseManifest(last?.bytes ?? Buffer.alloc(0), mediaTypes.manifest).subject?.digest).toBe(oci.descriptor.digest);
  });

  it.skipIf(process.platform !== "linux" || process.arch !== "x64")("have a program that runs", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ociseal-hello-"));
    try {
      await writeFile(join(folder, "hello"), helloProgram("amd64", "it runs\n"), { mode: 0o755 });
      expect(execFileSync(join(folder, "hello")).toString()).toBe("it runs\n");
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("can be made of a checkout, without its times and owners", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ociseal-demo-"));
    try {
      await mkdir(join(folder, "node_modules/jose/lib"), { recursive: true });
      await writeFile(join(folder, "node_modules/jose/lib/a.js"), "1");
      await mkdir(join(folder, "node_modules/@noble/ciphers"), { recursive: true });
      await writeFile(join(folder, "node_modules/@noble/ciphers/b.js"), "2");
      await mkdir(join(folder, "bin"));
      await writeFile(join(folder, "bin/run"), "#!/bin/sh\n", { mode: 0o755 });
      await symlink("run", join(folder, "bin/again"));
      const image = await makeDemoImage({ projectFolder: folder });
      expect(isWhole(image)).toBe(true);
      expect(image.descriptor.mediaType).toBe(mediaTypes.index);
      const names = (
        await Promise.all(
          image.contents
            .filter(({ descriptor }) => descriptor.mediaType === mediaTypes.layerTarGzip)
            .map(({ bytes }) => membersOf(gunzipSync(bytes))),
        )
      ).flat();
      const found = new Map(names.map(({ name, type }) => [name, type]));
      expect(found.get("app/node_modules/@noble/")).toBe("directory");
      expect(found.get("app/node_modules/jose/lib/a.js")).toBe("file");
      expect(found.get("app/bin/again")).toBe("symlink");
      expect(found.get("bin/hello")).toBe("file");
      const one = await makeDemoImage({ projectFolder: folder, architectures: ["amd64"] });
      expect(one.descriptor.mediaType).toBe(mediaTypes.manifest);
      expect((await makeDemoImage({ projectFolder: folder })).descriptor.digest).toBe(image.descriptor.digest);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("differ by their text", async () => {
    expect((await makeHelloImage("a")).descriptor.digest).not.toBe((await makeHelloImage("b")).descriptor.digest);
  });
});

describe("synthetic blobs", () => {
  it("are the same for the same seed, in one piece or as a stream", async () => {
    const { address, source } = await syntheticBlob(5, 2_500_000);
    expect(address).toEqual({ digest: digestOf(randomBytes(5, 2_500_000)), size: 2_500_000 });
    const chunks: Buffer[] = [];
    for await (const chunk of await source()) chunks.push(chunk as Buffer);
    expect(digestOf(Buffer.concat(chunks))).toBe(address.digest);
    expect(randomBytes(5, 100)).not.toEqual(randomBytes(6, 100));
  });
});
