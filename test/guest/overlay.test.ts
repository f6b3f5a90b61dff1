import { execFileSync, spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { unpackImage } from "../../src/guest/index.ts";
import { image, testFolder } from "./images.ts";
import { entry, pax, tar } from "./tar-bytes.ts";
import { isRoot, missingSetfattr, namesIn, treeOf } from "./trees.ts";

const folder = testFolder();

async function unpack(layers: readonly Buffer[], output: "overlay" | "rootfs", name: string) {
  const { store, root } = await image({ layers });
  return await unpackImage({ store, root, target: folder.path(name), output });
}

/** Stacks the folders with overlayfs in a mount namespace of its own, and copies what it shows. */
function stacked(name: string): string | undefined {
  const { lowerdir } = JSON.parse(readFileSync(folder.path(name, "overlay.json"), "utf8")) as { lowerdir: string };
  mkdirSync(folder.path("merged"));
  mkdirSync(folder.path("empty"));
  // A single lower layer needs a second one beside it.
  const script = `cd "$1" && mount -t overlay overlay -o "lowerdir=$2:../empty" ../merged && cp -a ../merged ../copy`;
  const result = spawnSync("unshare", ["-m", "sh", "-c", script, "sh", folder.path(name), lowerdir], { encoding: "utf8" });
  if (result.status === 0) return folder.path("copy");
  process.stderr.write(`SKIPPED: overlayfs cannot be mounted here: ${result.stderr.trim()}\n`);
  return undefined;
}

const layers = [
  tar(
    { name: "./", type: "5", mtime: 11 },
    { name: "usr/", type: "5", mtime: 12 },
    { name: "usr/bin/", type: "5", mode: 0o711, uid: 3, mtime: 13 },
    { name: "usr/bin/su", data: "su", mode: 0o4755, uid: 5 },
    { name: "usr/share/", type: "5", mtime: 14 },
    { name: "usr/share/a", data: "a" },
    { name: "usr/share/sub/", type: "5" },
    { name: "usr/share/sub/x", data: "x" },
    { name: "var/", type: "5", mtime: 15 },
    { name: "var/run", type: "2", link: "/run" },
    { name: "run/", type: "5", mtime: 16 },
    { name: "run/old", data: "o" },
    { name: "gone/", type: "5" },
    { name: "gone/f", data: "f" },
    { name: "again/", type: "5" },
    { name: "again/f", data: "f" },
    { name: "top", data: "t" },
  ),
  tar(
    { name: "var/run/pid", data: "1" },
    { name: "var/run/.wh.old" },
    { name: ".wh.gone" },
    { name: "usr/bin/hard", type: "1", link: "usr/bin/su" },
    { name: ".wh.again" },
    { name: "again/", type: "5" },
    { name: "again/new", data: "n" },
  ),
  tar(
    { name: "usr/share/new", data: "new" },
    { name: "usr/share/.wh..wh..opq" },
    { name: "usr/share/sub/", type: "5" },
    { name: "usr/share/sub/y", data: "y" },
    { name: "top/", type: "5" },
    { name: "top/in", data: "i" },
  ),
];

describe.skipIf(!isRoot || missingSetfattr())("layers in folders of their own", () => {
  it("are stacked by overlayfs to the tree that the flat output has", async () => {
    const report = await unpack(layers, "overlay", "layers");
    expect(report).toMatchObject({ output: "overlay", layers: 3 });
    expect(readdirSync(folder.path("layers"))).toEqual(["0", "1", "2", "overlay.json"]);
    await unpack(layers, "rootfs", "flat");
    const merged = stacked("layers");
    // Where nothing can be mounted, the folders themselves are still looked at below.
    expect(merged === undefined ? "not mounted" : treeOf(merged)).toEqual(
      merged === undefined ? "not mounted" : treeOf(folder.path("flat")),
    );
  });

  it("have whiteout devices, opaque directories, and parents with the attributes of lower layers", async () => {
    await unpack(layers, "overlay", "layers");
    const one = folder.path("layers/1");
    expect(lstatSync(`${one}/gone`)).toMatchObject({ rdev: 0 });
    expect(lstatSync(`${one}/gone`).isCharacterDevice()).toBe(true);
    expect(lstatSync(`${one}/usr/bin`)).toMatchObject({ mode: 0o40711, uid: 3, mtimeMs: 13_000 });
    expect(namesIn(`${one}/run`)).toEqual(["old", "pid"]);
    const opaque = execFileSync(
      "getfattr",
      ["-n", "trusted.overlay.opaque", "--only-values", "--absolute-names", `${one}/again`, folder.path("layers/2/usr/share")],
      { encoding: "utf8" },
    );
    expect(opaque).toBe("yy");
  });

  it("copy a file up, attributes and all, when a hard link in a higher layer names it", async () => {
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    const below = tar(
      pax([["SCHILY.xattr.security.capability", capability]]),
      entry({ name: "ping", data: "p".repeat(3_000_000), mode: 0o755, uid: 7 }),
    );
    await unpack([below, tar({ name: "hard", type: "1", link: "/ping" })], "overlay", "layers");
    const copied = lstatSync(folder.path("layers/1/ping"));
    expect(copied).toMatchObject({ size: 3_000_000, uid: 7, nlink: 2, ino: lstatSync(folder.path("layers/1/hard")).ino });
    expect(
      execFileSync("getfattr", ["-n", "security.capability", "-e", "hex", "--absolute-names", folder.path("layers/1/hard")], {
        encoding: "utf8",
      }),
    ).toContain(capability.toString("hex"));
  });

  it.each([
    [
      "a circle of links over two layers",
      tar({ name: "a", type: "2", link: "b" }),
      tar({ name: "b", type: "2", link: "a" }, { name: "a/x" }),
      "too-many-links",
    ],
    ["a path through a lower layer's file", tar({ name: "f", data: "x" }), tar({ name: "f/x" }), "parent-not-a-directory"],
    [
      "a hard link to what a lower layer's whiteout hides",
      tar({ name: "f" }),
      tar({ name: ".wh.f" }, { name: "l", type: "1", link: "f" }),
      "link-target-missing",
    ],
    ["a way out", tar({ name: "a" }), tar({ name: "../a" }), "dot-dot"],
  ] as const)("refuse %s", async (_, below, above, rule) => {
    await expect(unpack([below, above], "overlay", "layers")).rejects.toMatchObject({ details: { rule } });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("follow a lower layer's symlink inside the root only", async () => {
    await unpack([tar({ name: "s", type: "2", link: "/../../../etc" }), tar({ name: "s/passwd", data: "evil" })], "overlay", "layers");
    expect(namesIn(folder.path("layers/1"))).toEqual(["etc", "etc/passwd"]);
  });
});
