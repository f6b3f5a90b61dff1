import { execFile } from "node:child_process";
import { createWriteStream } from "node:fs";
import { copyFile, mkdir, readdir, readFile, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { extract, pack } from "tar-stream";
import { describe, expect, it, vi } from "vitest";
import { collect, digestOf } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson } from "../../src/oci/index.ts";
import {
  copyGraph,
  memoryStore,
  openDir,
  openDockerArchive,
  openOciArchive,
  readManifest,
  type ContentStore,
} from "../../src/store/index.ts";
import { TarFile } from "../../src/store/archive/tar-file.ts";
import { codeOf } from "./contract.ts";
import { put, putImage, putMultiPlatform } from "./images.ts";
import { temporaryFolder } from "./temporary.ts";

const execute = promisify(execFile);

interface Member {
  readonly name: string;
  readonly bytes?: Uint8Array;
  readonly linkname?: string;
  readonly type?: "file" | "symlink" | "link";
}

async function writeTar(path: string, members: readonly Member[]): Promise<void> {
  const archive = pack();
  const written = pipeline(archive as unknown as NodeJS.ReadableStream, createWriteStream(path));
  for (const { name, bytes, linkname, type = "file" } of members) {
    if (type === "file") archive.entry({ name, type }, Buffer.from(bytes ?? []));
    else archive.entry({ name, type, linkname: linkname ?? "" });
  }
  archive.finalize();
  await written;
}

/** All small members of a tar file, read by tar-stream. */
async function readTar(path: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const reader = extract();
  reader.end(await readFile(path));
  for await (const entry of reader) {
    const bytes = await collect(entry as AsyncIterable<Uint8Array>, { maxBytes: 1 << 24 });
    if (entry.header.type === "file") found.set(entry.header.name, bytes);
  }
  return found;
}

async function saved(path: string, image: Awaited<ReturnType<typeof dockerImage>>): Promise<void> {
  await writeTar(path, image.members);
}

/** What `docker save` of an older docker writes; `pack` compresses the layers, as some builders do. */
async function dockerImage(options: { readonly tags?: readonly string[] | null; readonly packLayer?: (layer: Buffer) => Buffer } = {}) {
  const layers = [Buffer.alloc(1024, "a"), Buffer.alloc(2048, "b"), Buffer.alloc(1024, "a")];
  const config = serializeJson({
    architecture: "amd64",
    os: "linux",
    config: { Cmd: ["/bin/sh"], Labels: null },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => digestOf(layer)) },
  });
  const configName = `${digestOf(config).slice(7)}.json`;
  const packLayer = options.packLayer ?? ((layer: Buffer) => layer);
  const members: Member[] = [
    { name: "l0/layer.tar", bytes: packLayer(layers[0] ?? Buffer.alloc(0)) },
    { name: "shared.tar", bytes: packLayer(layers[1] ?? Buffer.alloc(0)) },
    { name: "l1/layer.tar", type: "symlink", linkname: "../shared.tar" },
    { name: "l2/layer.tar", type: "link", linkname: "l0/layer.tar" },
    { name: configName, bytes: config },
  ];
  const manifest = [
    {
      Config: configName,
      RepoTags: options.tags === undefined ? ["alpine:3", "<none>:<none>"] : options.tags,
      Layers: ["l0/layer.tar", "l1/layer.tar", "l2/layer.tar"],
    },
  ];
  return { layers, config, members: [...members, { name: "manifest.json", bytes: serializeJson(manifest) }], manifest };
}

async function manifestOf(store: ContentStore, reference?: string) {
  return (await readManifest(store, await store.resolve(reference))).manifest;
}

describe("the tar reader", () => {
  it("finds what tar-stream finds: long names, large and small members, any order", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    const members: Member[] = [
      { name: "./empty", bytes: Buffer.alloc(0) },
      { name: `${"long/".repeat(60)}name`, bytes: Buffer.from("deep") },
      { name: "ünïcode", bytes: Buffer.from("u") },
      { name: "block", bytes: Buffer.alloc(512, 1) },
      { name: "block1", bytes: Buffer.alloc(513, 2) },
      { name: `${"p".repeat(90)}/${"n".repeat(90)}`, bytes: Buffer.from("prefix") },
    ];
    await writeTar(path, members);
    const tar = await TarFile.open(path, "a.tar");
    for (const [name, bytes] of await readTar(path)) {
      const member = tar.find(name.replace(/^\.\//, ""));
      if (member === undefined) throw new Error(`${name} is missing`);
      expect(await tar.read(member, 1 << 20)).toEqual(bytes);
      expect(await collect(tar.stream(member, {}), { maxBytes: 1 << 20 })).toEqual(bytes);
    }
    expect([...tar.names()]).toHaveLength(members.length);
    await tar.close();
  });

  it("follows one link inside the archive, and none out of it", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    await writeTar(path, [
      { name: "real", bytes: Buffer.from("x") },
      { name: "d/up", type: "symlink", linkname: "../real" },
      { name: "d/hard", type: "link", linkname: "./real" },
      { name: "d/twice", type: "symlink", linkname: "up" },
      { name: "d/out", type: "symlink", linkname: "../../etc/passwd" },
      { name: "d/absolute", type: "symlink", linkname: "/etc/passwd" },
    ]);
    const tar = await TarFile.open(path, "a.tar");
    expect(tar.find("d/up")?.name).toBe("real");
    expect(tar.find("d/hard")?.name).toBe("real");
    expect(tar.find("d/twice")).toBeUndefined();
    expect(tar.find("d/out")).toBeUndefined();
    expect(tar.find("d/absolute")).toBeUndefined();
    await tar.close();
  });

  it("refuses what is cut, damaged, or no tar file", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "a.tar");
    await writeTar(path, [{ name: "a", bytes: Buffer.alloc(5000, 1) }]);
    const cut = join(folder, "cut.tar");
    await copyFile(path, cut);
    await truncate(cut, 3000);
    const flipped = join(folder, "flipped.tar");
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(3) ^ 0x20, 3);
    await writeFile(flipped, bytes);
    const text = join(folder, "text.tar");
    await writeFile(text, "no tar at all\n".repeat(100));
    const empty = join(folder, "empty.tar");
    await writeFile(empty, "");
    for (const wrong of [cut, flipped, text, empty]) expect(await codeOf(TarFile.open(wrong, wrong))).toBe("ERR_STORE_MALFORMED");
    expect(await codeOf(TarFile.open(join(folder, "none"), "none"))).toBe("ERR_STORE_NOT_FOUND");
    expect(await codeOf(TarFile.open(folder, "folder"))).toBe("ERR_STORE_MALFORMED");
  });

  it("does not believe a size that leads beyond the file or wraps around", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    await writeTar(path, [{ name: "a", bytes: Buffer.from("x") }]);
    const bytes = await readFile(path);
    bytes.fill(0xff, 124, 136); // base-256, as large as can be
    bytes.fill(0x20, 148, 156);
    let sum = 0;
    for (const byte of bytes.subarray(0, 512)) sum += byte;
    bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    await writeFile(path, bytes);
    expect(await codeOf(TarFile.open(path, "a"))).toBe("ERR_STORE_MALFORMED");
  });
});

describe("oci-archive", () => {
  it("writes the same bytes for the same image, whatever the order of pushes", async () => {
    const folder = await temporaryFolder();
    const memory = memoryStore();
    const root = await putMultiPlatform(memory);
    const written: Buffer[] = [];
    for (const [name, concurrency] of [
      ["a.tar", 1],
      ["b.tar", 6],
    ] as const) {
      const archive = await openOciArchive({ path: join(folder, name), mode: "write" });
      await copyGraph({ from: memory, to: archive, root, tags: ["v1"], concurrency });
      await archive.close();
      written.push(await readFile(join(folder, name)));
    }
    expect(written[0]?.equals(written[1] ?? Buffer.alloc(0))).toBe(true);
    expect((await readdir(folder)).sort()).toEqual(["a.tar", "b.tar"]);
  });

  it("leaves the old archive as it is when nothing was tagged, and nothing beside it", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "a.tar");
    await writeFile(path, "old");
    const archive = await openOciArchive({ path, mode: "write" });
    await putImage(archive);
    await archive.close();
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["a.tar"]);
  });

  it("replaces the old archive whole", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    for (const name of ["first", "second"]) {
      const archive = await openOciArchive({ path, mode: "write" });
      await archive.tag(await putImage(archive), name);
      await archive.close();
    }
    const back = await openOciArchive({ path, mode: "read" });
    expect(await back.tags()).toEqual(["second"]);
    await back.close();
  });

  it("reads archives compressed with gzip or zstd, and refuses xz with a hint", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "a.tar");
    const memory = memoryStore();
    const root = await putMultiPlatform(memory);
    const archive = await openOciArchive({ path, mode: "write" });
    await copyGraph({ from: memory, to: archive, root, tags: ["v1"] });
    await archive.close();
    const plain = await readFile(path);
    for (const [name, bytes] of [
      ["a.tar.gz", gzipSync(plain)],
      ["a.tar.zst", zstdCompressSync(plain)],
    ] as const) {
      await writeFile(join(folder, name), bytes);
      const store = await openOciArchive({ path: join(folder, name), mode: "read" });
      await copyGraph({ from: store, to: memoryStore(), root: await store.resolve("v1") });
      await store.close();
      await writeFile(join(folder, `cut-${name}`), bytes.subarray(0, bytes.length / 2));
      expect(await codeOf(openOciArchive({ path: join(folder, `cut-${name}`), mode: "read" }))).toBe("ERR_STORE_MALFORMED");
      const limited = openOciArchive({ path: join(folder, name), mode: "read", maxUnpackedSize: 1000 });
      expect(await codeOf(limited)).toBe("ERR_CONTENT_TOO_LARGE");
    }
    await writeFile(join(folder, "a.tar.xz"), Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 1, 2]));
    await expect(openOciArchive({ path: join(folder, "a.tar.xz"), mode: "read" })).rejects.toMatchObject({
      code: "ERR_STORE_UNSUPPORTED",
      hint: expect.stringContaining("unxz") as string,
    });
  });

  it.skipIf(process.platform === "win32")(
    "reads archives that come through a pipe, compressed too, and leaves no file of them",
    async () => {
      const folder = await temporaryFolder();
      const path = join(folder, "a.tar");
      const memory = memoryStore();
      const root = await putMultiPlatform(memory);
      const archive = await openOciArchive({ path, mode: "write" });
      await copyGraph({ from: memory, to: archive, root, tags: ["v1"] });
      await archive.close();
      const plain = await readFile(path);
      const spools = join(folder, "spools");
      await mkdir(spools);
      vi.stubEnv("TMPDIR", spools);
      for (const [name, bytes] of [
        ["plain", plain],
        ["zipped", gzipSync(plain)],
      ] as const) {
        const pipe = join(folder, name);
        await execute("mkfifo", [pipe]);
        const written = writeFile(pipe, bytes);
        const store = await openOciArchive({ path: pipe, mode: "read" });
        await written;
        await copyGraph({ from: store, to: memoryStore(), root: await store.resolve("v1") });
        await store.close();
        const flood = writeFile(pipe, plain).catch(() => undefined);
        expect(await codeOf(openOciArchive({ path: pipe, mode: "read", maxUnpackedSize: 1000 }))).toBe("ERR_CONTENT_TOO_LARGE");
        await flood;
      }
      vi.unstubAllEnvs();
      expect(await readdir(spools)).toEqual([]);
    },
  );

  it("refuses an archive with index.json twice, without oci-layout, or of another version", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    const index = { name: "index.json", bytes: serializeJson({ schemaVersion: 2, manifests: [] }) };
    const layout = { name: "oci-layout", bytes: serializeJson({ imageLayoutVersion: "1.0.0" }) };
    for (const members of [
      [layout, index, index],
      [index],
      [{ name: "oci-layout", bytes: serializeJson({ imageLayoutVersion: "2.0.0" }) }, index],
      [{ name: "manifest.json", bytes: serializeJson([]) }],
    ]) {
      await writeTar(path, members);
      expect(await codeOf(openOciArchive({ path, mode: "read" }))).toBe("ERR_STORE_MALFORMED");
    }
    await writeTar(path, [layout, index]);
    const store = await openOciArchive({ path, mode: "read" });
    expect(await codeOf(store.resolve(undefined))).toBe("ERR_STORE_NOT_FOUND");
    expect(await codeOf(putImage(store))).toBe("ERR_STORE_UNSUPPORTED");
    await store.close();
  });

  it("notices a blob that was changed in the archive", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    const archive = await openOciArchive({ path, mode: "write" });
    const layer = Buffer.alloc(3000, "layer");
    const target = await put(archive, mediaTypes.layerTar, layer);
    await archive.tag(await putImage(archive), "v1");
    await archive.close();
    const bytes = await readFile(path);
    const at = bytes.indexOf(layer);
    bytes.writeUInt8(bytes.readUInt8(at + 1500) ^ 1, at + 1500);
    await writeFile(path, bytes);
    const store = await openOciArchive({ path, mode: "read" });
    expect(await codeOf(store.fetch(target).then((stream) => collect(stream, { maxBytes: 5000 })))).toBe("ERR_CONTENT_DIGEST_MISMATCH");
    await store.close();
  });
});

describe("docker-archive", () => {
  it("shows a saved image as an OCI image whose layers are the diffIDs", async () => {
    const path = join(await temporaryFolder(), "saved.tar");
    const image = await dockerImage();
    await saved(path, image);
    const store = await openDockerArchive({ path });
    const manifest = await manifestOf(store, "docker.io/library/alpine:3");
    expect(manifest.layers.map(({ digest, size, mediaType }) => [digest, size, mediaType])).toEqual(
      image.layers.map((layer) => [digestOf(layer), layer.length, mediaTypes.layerTar]),
    );
    expect(manifest.config).toEqual({ mediaType: mediaTypes.config, digest: digestOf(image.config), size: image.config.length });
    expect(await manifestOf(store)).toEqual(manifest);
    expect(await manifestOf(store, "@0")).toEqual(manifest);
    expect(await store.tags()).toEqual(["docker.io/library/alpine:3"]);
    const summary = await copyGraph({ from: store, to: memoryStore(), root: await store.resolve(undefined) });
    expect(summary.pushed).toBe(4);
    await store.close();
  });

  it("reads layers that are compressed inside, and an archive compressed as a whole", async () => {
    const folder = await temporaryFolder();
    for (const [packLayer, mediaType] of [
      [(layer: Buffer) => gzipSync(layer), mediaTypes.layerTarGzip],
      [(layer: Buffer) => zstdCompressSync(layer), mediaTypes.layerTarZstd],
    ] as const) {
      const path = join(folder, "saved.tar");
      await saved(path, await dockerImage({ packLayer }));
      await writeFile(`${path}.gz`, gzipSync(await readFile(path)));
      const store = await openDockerArchive({ path: `${path}.gz` });
      expect((await manifestOf(store)).layers.map((layer) => layer.mediaType)).toEqual([mediaType, mediaType, mediaType]);
      await copyGraph({ from: store, to: memoryStore(), root: await store.resolve(undefined) });
      await store.close();
    }
  });

  it("tells several images apart by name and position, and asks for one", async () => {
    const path = join(await temporaryFolder(), "saved.tar");
    const one = await dockerImage({ tags: null });
    const config = serializeJson({ architecture: "arm64", os: "linux", rootfs: { type: "layers", diff_ids: [] } });
    const list = [...one.manifest, { Config: "other.json", RepoTags: ["localhost:5000/b:1", "localhost:5000/b:2"], Layers: [] }];
    const members = one.members.filter(({ name }) => name !== "manifest.json");
    await writeTar(path, [...members, { name: "other.json", bytes: config }, { name: "manifest.json", bytes: serializeJson(list) }]);
    const store = await openDockerArchive({ path });
    await expect(store.resolve(undefined)).rejects.toMatchObject({
      code: "ERR_STORE_AMBIGUOUS",
      message: expect.stringContaining("has 2 images") as string,
    });
    expect((await manifestOf(store, "@0")).layers).toHaveLength(3);
    expect((await manifestOf(store, "@1")).layers).toHaveLength(0);
    expect(await manifestOf(store, "localhost:5000/b:2")).toEqual(await manifestOf(store, "@1"));
    expect(await codeOf(store.resolve("@2"))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
  });

  it("notices a layer that is not what the configuration says", async () => {
    const path = join(await temporaryFolder(), "saved.tar");
    const image = await dockerImage();
    await writeTar(path, [{ name: "l0/layer.tar", bytes: Buffer.alloc(1024, "X") }, ...image.members.slice(1)]);
    const store = await openDockerArchive({ path });
    const root = await store.resolve(undefined);
    expect(await codeOf(copyGraph({ from: store, to: memoryStore(), root }))).toBe("ERR_CONTENT_DIGEST_MISMATCH");
    await store.close();
  });

  it("refuses an archive that lacks what it names, or names too little", async () => {
    const path = join(await temporaryFolder(), "saved.tar");
    const image = await dockerImage();
    const manifest = (value: unknown): Member => ({ name: "manifest.json", bytes: serializeJson(value) });
    const parts = image.members.slice(0, -1);
    const [first] = image.manifest;
    for (const members of [
      parts,
      [...parts, manifest([])],
      [...parts, manifest({})],
      [...parts, manifest([null])],
      [...parts, manifest([{ ...first, Layers: ["l0/layer.tar"] }])],
      [...parts, manifest([{ ...first, Layers: ["l0/layer.tar", "../../../etc/passwd", "l2/layer.tar"] }])],
      [...parts, manifest([{ ...first, Config: "none.json" }])],
      [...parts.slice(1), manifest([first])],
    ]) {
      await writeTar(path, members);
      expect(await codeOf(openDockerArchive({ path }))).toBe("ERR_STORE_MALFORMED");
    }
  });

  it("prefers the OCI layout that current docker puts beside manifest.json", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "oci.tar");
    const archive = await openOciArchive({ path, mode: "write" });
    await archive.tag(await putImage(archive), "docker.io/library/app:1.0");
    await archive.close();
    const members = [...(await readTar(path))].map(([name, bytes]) => ({ name, bytes }));
    await writeTar(path, [...members, { name: "manifest.json", bytes: serializeJson([]) }]);
    const store = await openDockerArchive({ path });
    expect((await manifestOf(store, "docker.io/library/app:1.0")).layers).toHaveLength(2);
    await store.close();
  });
});

describe("dir", () => {
  it("holds one image or index, gives it back, and replaces it without leaving the old one's files", async () => {
    const path = join(await temporaryFolder(), "dir");
    const memory = memoryStore();
    const multi = await putMultiPlatform(memory);
    const single = await putImage(memory);
    for (const root of [multi, single, multi]) {
      const store = await openDir({ path, mode: "write" });
      await copyGraph({ from: memory, to: store, root, tags: [root.digest] });
      await store.close();
      const back = await openDir({ path, mode: "read" });
      expect(await back.resolve(undefined)).toEqual(root);
      const copied = await copyGraph({ from: back, to: memoryStore(), root });
      expect((await readdir(path)).sort()).toHaveLength(copied.pushed + 1);
      await back.close();
    }
  });

  it("refuses names, referrers and foreign folders", async () => {
    const path = join(await temporaryFolder(), "dir");
    const store = await openDir({ path, mode: "write" });
    const image = await putImage(store);
    expect(await codeOf(store.tag(image, "v1"))).toBe("ERR_STORE_UNSUPPORTED");
    await store.tag(image, image.digest);
    expect(await codeOf(putImage(store, { subject: image }))).toBe("ERR_STORE_UNSUPPORTED");
    expect((await store.resolve(undefined)).digest).toBe(image.digest);
    await store.close();
    const foreign = join(await temporaryFolder(), "home");
    await mkdir(foreign);
    await writeFile(join(foreign, "thesis.txt"), "keep me");
    expect(await codeOf(openDir({ path: foreign, mode: "write" }))).toBe("ERR_STORE_MALFORMED");
    expect(await codeOf(openDir({ path: join(foreign, "none"), mode: "read" }))).toBe("ERR_STORE_NOT_FOUND");
  });

  it("does not follow a blob to a pipe", async () => {
    const path = join(await temporaryFolder(), "dir");
    const store = await openDir({ path, mode: "write" });
    const image = await putImage(store);
    await store.tag(image, image.digest);
    const hex = "ab".repeat(32);
    await symlink("/dev/zero", join(path, hex));
    const zero = { mediaType: mediaTypes.layerTar, digest: `sha256:${hex}`, size: 10 } as const;
    expect(await store.exists(zero)).toBe(false);
    expect(await codeOf(store.fetch(zero))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
  });
});
