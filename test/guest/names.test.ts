import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { unpackImage, type SpecialsPolicy, type TreeOutput } from "../../src/guest/index.ts";
import { image, testFolder } from "./images.ts";
import { entry, pax, tar } from "./tar-bytes.ts";
import { isRoot, keptOwnership, missingSetfattr, namesIn, xattrsOf } from "./trees.ts";

const folder = testFolder();
const out = (path = "") => folder.path("out", path);

async function unpack(layers: readonly Buffer[], output: TreeOutput = "rootfs", specials: SpecialsPolicy = "skip") {
  const { store, root } = await image({ layers });
  return await unpackImage({ store, root, target: out(), output, specials, ownership: keptOwnership });
}

describe("a name", () => {
  it("that is absolute starts at the image's root, in entries and hard links alike", async () => {
    await unpack([
      tar({ name: "/etc/passwd", data: "mine" }, { name: "//x/./y", data: "y" }, { name: "l", type: "1", link: "/etc/passwd" }),
    ]);
    expect(namesIn(out())).toEqual(["etc", "etc/passwd", "l", "x", "x/y"]);
    expect(readFileSync(out("l"), "utf8")).toBe("mine");
  });

  it("that leads to a neighbour called as the target with more behind it stays inside", async () => {
    mkdirSync(folder.path("out-neighbour"));
    await unpack([tar({ name: "s", type: "2", link: "../out-neighbour" }, { name: "s/x", data: "x" })]);
    expect(readdirSync(folder.path("out-neighbour"))).toEqual([]);
    expect(namesIn(out())).toEqual(["out-neighbour", "out-neighbour/x", "s"]);
  });

  it("is its bytes: case and Unicode's ways to write a letter make other names", async () => {
    const composed = Buffer.from("é");
    const decomposed = Buffer.from("e\u0301");
    const sharp = Buffer.from("straße");
    await unpack([
      tar(
        { name: "Link", type: "2", link: "/nowhere" },
        { name: "link", data: "a file" },
        { name: composed, data: "1" },
        { name: decomposed, data: "2" },
        { name: sharp, type: "2", link: "/nowhere" },
        { name: "STRASSE/x", data: "x" },
      ),
    ]);
    expect(lstatSync(out("Link")).isSymbolicLink()).toBe(true);
    expect(lstatSync(out("link")).isFile()).toBe(true);
    expect(readdirSync(out()).toSorted()).toEqual(["Link", "STRASSE", "e\u0301", "link", "straße", "é"]);
  });

  it("of a symlink's target is kept as it is, wherever it leads", async () => {
    const targets = ["../../../../etc/shadow", "/etc/shadow", "a//b/./c/..", "."];
    await unpack([tar(...targets.map((link, i) => ({ name: `l${i}`, type: "2", link })))]);
    const { readlinkSync } = await import("node:fs");
    expect(targets.map((_, i) => readlinkSync(out(`l${i}`)))).toEqual(targets);
  });

  it.each<TreeOutput>(["rootfs", "overlay"])(
    "of a path of directories that come and go costs no more than its entries, output %s",
    async (output) => {
      // A directory that is replaced again and again forgets what was resolved through it, and nothing else is walked.
      const parts = Array.from({ length: 600 }, (_, i) =>
        i % 2 === 0 ? { name: "a/b/c/d/e/f/", type: "5" } : { name: "a/b/c/d/e/f", type: "2", link: "g" },
      );
      const { entries } = await unpack([tar(...parts)], output);
      // The parents that no entry names are counted where each layer has a folder of its own.
      expect(entries).toBeLessThanOrEqual(600 + 5);
    },
  );
});

describe.skipIf(!isRoot || missingSetfattr())("an extended attribute of a symlink", () => {
  it("is the link's own, and what it points to has none", async () => {
    writeFileSync(folder.path("canary"), "canary");
    symlinkSync(folder.path("canary"), folder.path("probe"));
    await unpack([tar(pax([["SCHILY.xattr.trusted.note", "x"]]), entry({ name: "s", type: "2", link: folder.path("canary") }))]);
    expect(xattrsOf(out("s"))).toEqual(["trusted.note=0x78"]);
    expect(xattrsOf(folder.path("canary"))).toEqual([]);
  });

  it("is set on more files than one helper takes", async () => {
    const parts = Array.from({ length: 300 }, (_, i) => [
      pax([["SCHILY.xattr.user.i", String(i)]]),
      entry({ name: `f${i}`, data: "x" }),
    ]).flat();
    await unpack([tar(...parts)]);
    expect([xattrsOf(out("f0")), xattrsOf(out("f299"))]).toEqual([["user.i=0x30"], ["user.i=0x323939"]]);
  });
});

describe("what the file system does not take", () => {
  // No file system knows this one: its kind has no such name.
  const layers = [tar(pax([["SCHILY.xattr.system.nobody", "x"]]), { name: "f", data: "f" })];

  it("ends the unpack, and leaves nothing", async () => {
    await expect(unpack(layers, "rootfs", "require")).rejects.toMatchObject({ code: "ERR_GUEST_HELPER_MISSING", category: "io" });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("is left out and counted when the policy says so", async () => {
    expect((await unpack(layers, "rootfs", "skip")).omitted).toMatchObject({ xattrs: 1, samples: ['xattrs: "f"'] });
    expect(readdirSync(out())).toEqual(["f"]);
  });
});
