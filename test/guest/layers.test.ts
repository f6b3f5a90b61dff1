import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, lstatSync, readFileSync, readdirSync, statSync } from "node:fs";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { unpackImage, type UnpackRequest } from "../../src/guest/index.ts";
import { mediaTypes, serializeJson } from "../../src/oci/index.ts";
import { copyGraph, memoryStore, openLayout } from "../../src/store/index.ts";
import { missingPeers, peer } from "../peers.ts";
import { image, put, testFolder, type ImagePlan } from "./images.ts";
import { entry, pax, tar, type RawEntry } from "./tar-bytes.ts";
import { isRoot, keptOwnership, missingSetfattr, namesIn, treeOf, xattrsOf } from "./trees.ts";

const folder = testFolder();

async function unpack(plan: ImagePlan | readonly Buffer[], request: Partial<UnpackRequest> = {}) {
  const { store, root } = await image("layers" in plan ? plan : { layers: plan });
  return await unpackImage({ store, root, target: folder.path("out"), output: "rootfs", ownership: keptOwnership, ...request });
}

const out = (path = "") => folder.path("out", path);
const text = (path: string) => readFileSync(out(path), "utf8");

describe("whiteouts", () => {
  const base = tar(
    { name: "d/", type: "5" },
    { name: "d/a", data: "a" },
    { name: "d/b", data: "b" },
    { name: "d/sub/", type: "5" },
    { name: "d/sub/c", data: "c" },
    { name: "e", data: "e" },
  );

  it("remove a file, a directory, and nothing that is missing", async () => {
    await unpack([base, tar({ name: "d/.wh.a" }, { name: "d/.wh.sub" }, { name: "d/.wh.missing" }, { name: "no/.wh.x" })]);
    expect(namesIn(out())).toEqual(["d", "d/b", "e"]);
  });

  it("count whatever their type", async () => {
    await unpack([
      base,
      tar({ name: ".wh.e", type: "3", device: [0, 0] }, { name: "d/.wh.a", type: "2", link: "x" }, { name: "d/.wh.b", type: "5" }),
    ]);
    expect(namesIn(out())).toEqual(["d", "d/sub", "d/sub/c"]);
  });

  it.each(["first", "last"])("hide only lower layers when they come %s in a layer", async (when) => {
    const marker: RawEntry = { name: "d/.wh..wh..opq" };
    const one: RawEntry = { name: ".wh.e" };
    const own: readonly RawEntry[] = [
      { name: "d/new", data: "n" },
      { name: "d/sub/", type: "5" },
      { name: "d/sub/d", data: "d" },
      { name: "e", data: "E" },
    ];
    await unpack([base, tar(...(when === "first" ? [marker, one, ...own] : [...own, marker, one]))]);
    expect(namesIn(out())).toEqual(["d", "d/new", "d/sub", "d/sub/d", "e"]);
    expect(text("e")).toBe("E");
  });

  it("of a directory that the same layer fills hide its lower content", async () => {
    await unpack([base, tar({ name: "d/sub/new", data: "n" }, { name: "d/.wh.sub" })]);
    expect(readdirSync(out("d/sub"))).toEqual(["new"]);
  });

  it("that are nested hide everything once", async () => {
    await unpack([base, tar({ name: "d/sub/.wh..wh..opq" }, { name: "d/sub/x", data: "x" }, { name: "d/.wh..wh..opq" })]);
    expect(namesIn(out())).toEqual(["d", "d/sub", "d/sub/x", "e"]);
  });

  it("in the first layer hide nothing and do not appear", async () => {
    await unpack([tar({ name: "a", data: "a" }, { name: ".wh.a" }, { name: "d/.wh..wh..opq" }, { name: "d/x", data: "x" })]);
    expect(namesIn(out())).toEqual(["a", "d", "d/x"]);
  });

  it("of AUFS's own files are left out", async () => {
    await unpack([
      tar(
        { name: ".wh..wh.aufs" },
        { name: ".wh..wh.plnk/", type: "5" },
        { name: ".wh..wh.plnk/1.2", data: "x" },
        { name: ".wh..wh.orph/", type: "5" },
        { name: "a" },
      ),
    ]);
    expect(namesIn(out())).toEqual(["a"]);
  });

  it("reach through a symlinked parent, inside the root", async () => {
    await unpack([
      tar({ name: "run/", type: "5" }, { name: "run/x", data: "x" }, { name: "var/run", type: "2", link: "/run" }),
      tar({ name: "var/run/.wh.x" }),
    ]);
    expect(readdirSync(out("run"))).toEqual([]);
  });
});

describe("layers on top of each other", () => {
  it("merge a directory into a directory and replace its attributes", async () => {
    await unpack([
      tar({ name: "d/", type: "5", mode: 0o700, mtime: 5 }, { name: "d/a", data: "a" }),
      tar({ name: "d/", type: "5", mode: 0o1777, mtime: 9 }),
    ]);
    expect(statSync(out("d"))).toMatchObject({ mode: 0o41777, mtimeMs: 9000 });
    expect(text("d/a")).toBe("a");
  });

  it.each<readonly [string, RawEntry, RawEntry]>([
    ["a directory by a file", { name: "x/", type: "5" }, { name: "x", data: "f" }],
    ["a file by a directory", { name: "x", data: "f" }, { name: "x/", type: "5" }],
    ["a symlink to a directory by a directory", { name: "x", type: "2", link: "d" }, { name: "x/", type: "5" }],
    ["a fifo by a symlink", { name: "x", type: "6" }, { name: "x", type: "2", link: "d" }],
  ])("replace %s", async (_, below, above) => {
    await unpack([tar({ name: "d/", type: "5" }, below), tar(above)]);
    const stats = lstatSync(out("x"));
    expect([stats.isFile(), stats.isDirectory(), stats.isSymbolicLink()]).toEqual([
      above.type === undefined,
      above.type === "5",
      above.type === "2",
    ]);
  });

  it("apply a layer again when the manifest names it again", async () => {
    const a = tar({ name: "f", data: "from a" });
    await unpack([a, tar({ name: ".wh.f" }), a]);
    expect(text("f")).toBe("from a");
  });

  it("link to a file of a lower layer, and keep the inode when one name goes", async () => {
    await unpack([tar({ name: "a", data: "a" }), tar({ name: "b", type: "1", link: "/a", mode: 0o777 }), tar({ name: ".wh.a" })]);
    expect(text("b")).toBe("a");
    expect(statSync(out("b"))).toMatchObject({ nlink: 1, mode: 0o100644 });
  });

  it("keep a directory's time when a later layer only adds to it", async () => {
    await unpack([tar({ name: "d/", type: "5", mtime: 1000 }), tar({ name: "d/x", data: "x", mtime: 5 })]);
    expect(statSync(out("d")).mtimeMs).toBe(1_000_000);
    expect(statSync(out("d/x")).mtimeMs).toBe(5000);
  });

  it("make missing parents with mode 0755 at the epoch", async () => {
    await unpack([tar({ name: "a/b/c", data: "x" })]);
    expect(statSync(out("a/b"))).toMatchObject({ mode: 0o40755, mtimeMs: 0 });
  });

  it("give a file the last of several entries of one name", async () => {
    await unpack([tar({ name: "f", data: "long first content" }, { name: "f", data: "2", mode: 0o4711 })]);
    expect([text("f"), statSync(out("f")).mode & 0o7777]).toEqual(["2", 0o4711]);
  });

  it("take a time before 1970 for the epoch", async () => {
    await unpack([tar(pax([["mtime", "-5.5"]]), { name: "f" })]);
    expect(statSync(out("f")).mtimeMs).toBe(0);
  });

  it("leave holes in sparse files", async () => {
    await unpack([
      tar(
        pax([
          ["GNU.sparse.size", "50000000"],
          ["GNU.sparse.map", "0,1,49999999,1"],
        ]),
        { name: "s", data: "xy" },
      ),
    ]);
    const stats = statSync(out("s"));
    expect(stats.size).toBe(50_000_000);
    expect(stats.blocks * 512).toBeLessThan(100_000);
  });
});

describe("compressed layers", () => {
  const layer = tar({ name: "a", data: "x".repeat(5000) }, { name: "b", data: Buffer.alloc(300_000, "xyz") });
  const layerOf = async (mediaType: string, bytes: Buffer) => {
    const store = memoryStore();
    const config = await put(
      store,
      mediaTypes.config,
      serializeJson({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [digestOf(layer)] } }),
    );
    const descriptor = await put(store, mediaType, bytes);
    const root = await put(
      store,
      mediaTypes.manifest,
      serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [descriptor] }),
    );
    return await unpackImage({ store, root, target: out(), output: "rootfs" });
  };

  it("may be gzip of several members", async () => {
    await layerOf(
      mediaTypes.layerTarGzip,
      Buffer.concat([gzipSync(layer.subarray(0, 1000)), gzipSync(layer.subarray(1000)), gzipSync("")]),
    );
    expect(namesIn(out())).toEqual(["a", "b"]);
  });

  it.each<readonly [string, string, (bytes: Buffer) => Buffer]>([
    ["gzip that is cut", mediaTypes.layerTarGzip, () => gzipSync(layer).subarray(0, -9)],
    ["gzip with garbage behind it", mediaTypes.layerTarGzip, () => Buffer.concat([gzipSync(layer), Buffer.from("garbage")])],
    [
      "gzip with a zero byte and garbage behind it",
      mediaTypes.layerTarGzip,
      () => Buffer.concat([gzipSync(layer), Buffer.from("\0garbage")]),
    ],
    ["gzip with zeros behind it", mediaTypes.layerTarGzip, () => Buffer.concat([gzipSync(layer), Buffer.alloc(200_000)])],
    [
      "gzip of two members with a zero byte between them",
      mediaTypes.layerTarGzip,
      () => Buffer.concat([gzipSync(layer), Buffer.alloc(1), gzipSync("")]),
    ],
    ["zstd with a zero byte behind it", mediaTypes.layerTarZstd, () => Buffer.concat([zstdCompressSync(layer), Buffer.alloc(1)])],
    ["gzip with a wrong checksum", mediaTypes.layerTarGzip, () => flip(gzipSync(layer), -6)],
    ["a plain tar called gzip", mediaTypes.layerTarGzip, () => layer],
    ["gzip called zstd", mediaTypes.layerTarZstd, () => gzipSync(layer)],
    ["nothing at all called gzip", mediaTypes.layerTarGzip, () => Buffer.alloc(0)],
    ["nothing at all called zstd", mediaTypes.layerTarZstd, () => Buffer.alloc(0)],
  ])("are refused when they are %s", async (_, mediaType, make) => {
    await expect(layerOf(mediaType, make(layer))).rejects.toMatchObject({ code: "ERR_GUEST_COMPRESSION_MALFORMED", category: "integrity" });
    expect(existsSync(out())).toBe(false);
  });

  it("that are gzip called plain are refused as no tar", async () => {
    await expect(layerOf(mediaTypes.layerTar, gzipSync(randomBytes(4096)))).rejects.toMatchObject({ code: "ERR_GUEST_TAR_MALFORMED" });
  });

  it.each([
    "application/octet-stream",
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    "application/vnd.oci.image.layer.v1.tar+lz4",
  ])("of type %s are refused before they are fetched", async (mediaType) => {
    await expect(layerOf(mediaType, layer)).rejects.toMatchObject({ category: "integrity" });
  });
});

describe.skipIf(!isRoot || missingSetfattr())("extended attributes", () => {
  const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
  const withCapability = (raw: RawEntry) => [
    pax([
      ["SCHILY.xattr.security.capability", capability],
      ["SCHILY.xattr.user.note", Buffer.from([0xff, 0, 0x0a])],
    ]),
    entry(raw),
  ];

  it("are set after owner and content, so file capabilities survive", async () => {
    await unpack([tar(...withCapability({ name: "bin/ping", data: "elf", uid: 7, mode: 0o755 }))]);
    expect(xattrsOf(out("bin/ping"))).toEqual([`security.capability=0x${capability.toString("hex")}`, "user.note=0xff000a"]);
    expect(statSync(out("bin/ping")).uid).toBe(7);
  });

  it("belong to the file that an entry replaced, not to its name", async () => {
    await unpack([tar(...withCapability({ name: "f", data: "1" }), { name: "f", data: "2" })]);
    expect(xattrsOf(out("f"))).toEqual([]);
  });

  it("stay with a file whose first name is replaced", async () => {
    await unpack([tar(...withCapability({ name: "f", data: "1" }), { name: "g", type: "1", link: "f" }, { name: "f", data: "2" })]);
    expect(xattrsOf(out("f"))).toEqual([]);
    expect(xattrsOf(out("g"))).toHaveLength(2);
  });

  it("of a directory are replaced when a layer has an entry for it", async () => {
    const directory = (name: string): Buffer[] => [pax([[`SCHILY.xattr.user.${name}`, "x"]]), entry({ name: "d/", type: "5" })];
    await unpack([tar(...directory("below")), tar(...directory("above"))]);
    expect(xattrsOf(out("d"))).toEqual(["user.above=0x78"]);
  });

  it("reach names with spaces, newlines and bytes that are not UTF-8", async () => {
    const name = Buffer.from([0x61, 0x20, 0x0a, 0x5c, 0xff, 0x3d, 0x23]);
    await unpack([
      tar(
        pax([
          ["SCHILY.xattr.user.a", "x"],
          ["path", name],
        ]),
        { name: "f" },
      ),
    ]);
    const copied = execFileSync("sh", ["-c", `getfattr -h --absolute-names -n user.a --only-values ${out()}/*`], { encoding: "utf8" });
    expect(copied).toBe("x");
  });

  it("that label, translate or steer overlayfs are left out", async () => {
    await unpack([
      tar(
        pax([
          ["SCHILY.xattr.security.selinux", "x"],
          ["SCHILY.xattr.trusted.overlay.opaque", "y"],
          ["SCHILY.xattr.user.overlay.redirect", "/etc"],
          ["SCHILY.xattr.user.rootlesscontainers", "z"],
        ]),
        { name: "d/", type: "5" },
      ),
    ]);
    expect(xattrsOf(out("d"))).toEqual([]);
  });
});

describe("ownership", () => {
  it.skipIf(!isRoot)("is the image's, also beyond 2^31, by default", async () => {
    await unpack([
      tar(
        pax([
          ["uid", "4294967294"],
          ["gid", "3000000000"],
        ]),
        { name: "f" },
        { name: "l", type: "2", link: "f", uid: 5, gid: 6 },
        { name: "d/", type: "5", uid: 8, gid: 9 },
      ),
    ]);
    expect(lstatSync(out("f"))).toMatchObject({ uid: 4_294_967_294, gid: 3_000_000_000 });
    expect(lstatSync(out("l"))).toMatchObject({ uid: 5, gid: 6 });
    expect(lstatSync(out("d"))).toMatchObject({ uid: 8, gid: 9 });
  });

  it.skipIf(!isRoot)("is shifted into mapped ranges, and refused outside them", async () => {
    const ids = [{ container: 0, host: 100_000, size: 1000 }];
    const ownership = { kind: "map", uids: ids, gids: ids } as const;
    await unpack([tar({ name: "d/f", uid: 5, gid: 0 })], { ownership });
    expect(lstatSync(out("d/f"))).toMatchObject({ uid: 100_005, gid: 100_000 });
    expect(lstatSync(out("d"))).toMatchObject({ uid: 100_000, gid: 100_000 });
    await expect(unpack([tar({ name: "f", uid: 1000 })], { ownership, target: folder.path("other") })).rejects.toMatchObject({
      details: { rule: "owner-not-mapped" },
    });
  });

  it("leaves out attributes that only root may set in rootless mode, and counts them", async () => {
    const report = await unpack([tar(pax([["SCHILY.xattr.security.capability", "x"]]), { name: "f" })], {
      ownership: { kind: "rootless" },
    });
    expect(report.omitted).toMatchObject({ xattrs: 1, samples: ['xattrs: "f"'] });
  });

  it("is the caller's in rootless mode, where devices become empty files of mode 0", async () => {
    const report = await unpack([tar({ name: "f", uid: 5, gid: 6, mode: 0o4755 }, { name: "null", type: "3", device: [1, 3] })], {
      ownership: { kind: "rootless" },
    });
    expect(lstatSync(out("f"))).toMatchObject({ uid: process.geteuid?.(), gid: process.getegid?.() });
    expect(lstatSync(out("null"))).toMatchObject({ mode: 0o100000, size: 0 });
    expect(report.omitted).toMatchObject({ devices: 1, samples: ['devices: "null"'] });
  });
});

describe.skipIf(!isRoot)("devices and fifos", () => {
  it("are made with owner, mode and time", async () => {
    await unpack([
      tar(
        { name: "dev/null", type: "3", device: [1, 3], mode: 0o666, uid: 3, mtime: 7 },
        { name: "dev/loop", type: "4", device: [7, 300], mode: 0o660 },
        { name: "pipe", type: "6", mode: 0o622 },
      ),
    ]);
    expect(lstatSync(out("dev/null"))).toMatchObject({ mode: 0o20666, rdev: (1 << 8) | 3, uid: 3, mtimeMs: 7000 });
    expect(lstatSync(out("dev/loop")).isBlockDevice()).toBe(true);
    expect(lstatSync(out("pipe")).mode).toBe(0o10622);
  });
});

describe.skipIf(!isRoot || missingPeers("umoci"))("the same image unpacked by umoci", () => {
  it("gives the same tree: names, types, modes, owners, times, links, content", async () => {
    const layers = [
      tar(
        { name: "./", type: "5", mtime: 11 },
        { name: "bin", type: "2", link: "usr/bin" },
        { name: "usr/", type: "5", mtime: 100 },
        { name: "usr/bin/", type: "5", mode: 0o755, mtime: 101 },
        { name: "usr/bin/su", data: "su", mode: 0o4755 },
        { name: "usr/bin/hard", type: "1", link: "usr/bin/su" },
        { name: "usr/share/", type: "5", mode: 0o2775, gid: 50 },
        { name: "usr/share/doc/", type: "5" },
        { name: "usr/share/doc/readme", data: "r".repeat(100_000), uid: 1000, gid: 1000 },
        { name: "tmp/", type: "5", mode: 0o1777 },
        { name: "var/", type: "5" },
        { name: "var/run", type: "2", link: "/run" },
        { name: "run/", type: "5" },
        { name: "dev/", type: "5" },
        { name: "dev/null", type: "3", device: [1, 3], mode: 0o666 },
        { name: "pipe", type: "6" },
        pax([["path", Buffer.from("usr/share/ünïcode")]]),
        { name: "x", data: "u" },
      ),
      tar(
        { name: "var/run/pid", data: "1" },
        { name: "usr/share/.wh.doc" },
        { name: "bin/new", data: "n" },
        { name: "usr/bin/su", data: "su2", mode: 0o755 },
      ),
      tar(
        { name: "usr/share/", type: "5", mode: 0o755, mtime: 300 },
        { name: "usr/share/.wh..wh..opq" },
        { name: "usr/share/only", data: "o" },
        { name: "tmp/a/", type: "5", mtime: 5 },
      ),
    ];
    const { store, root } = await image({ layers, compression: "gzip" });
    await unpackImage({ store, root, target: out(), output: "rootfs" });
    const layout = await openLayout({ path: folder.path("layout"), mode: "write" });
    await copyGraph({ from: store, to: layout, root, tags: ["it"] });
    execFileSync(peer("umoci") ?? "", ["unpack", "--image", `${folder.path("layout")}:it`, folder.path("umoci")], { stdio: "pipe" });
    expect(treeOf(out())).toEqual(treeOf(folder.path("umoci/rootfs")));
  });
});

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  const index = copy.length + at;
  copy[index] = (copy[index] ?? 0) ^ 1;
  return copy;
}
