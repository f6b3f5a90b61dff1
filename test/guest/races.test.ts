import { spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GuestError, pullImage, unpackImage, type TreeOutput } from "../../src/guest/index.ts";
import { image, testFolder } from "./images.ts";
import { entry, pax, tar, type RawEntry } from "./tar-bytes.ts";
import { isRoot, missingSetfattr, xattrsOf } from "./trees.ts";

const folder = testFolder();

/**
 * Swaps directories, files and nodes of the staging for symlinks to what lies outside, as fast as it can, until it is killed.
 * Nobody without the rights of the unpacking process could: the staging is 0700. It shows that no name is trusted twice.
 */
const swapper = `
  const { readdirSync, renameSync, symlinkSync, unlinkSync } = require("node:fs");
  const [place, outside] = process.argv.slice(1);
  process.stdout.write("ready\\n");
  const swap = (path, target) => {
    try { renameSync(path, path + ".moved"); symlinkSync(target, path); } catch {}
    try { unlinkSync(path); } catch {}
    try { renameSync(path + ".moved", path); } catch {}
  };
  for (;;) {
    for (const staging of readdirSync(place)) {
      if (!staging.startsWith(".out.ociseal-")) continue;
      for (const top of ["image", "image/rootfs", "image/0", "image/1"]) {
        for (const name of ["d", "e"]) swap(place + "/" + staging + "/" + top + "/" + name, outside);
        for (const name of ["d/f1", "e/f1", "pipe", "able"]) swap(place + "/" + staging + "/" + top + "/" + name, outside + "/f1");
      }
    }
  }
`;

const files = Array.from({ length: 400 }, (_, i): RawEntry => ({
  name: `${i % 2 ? "d" : "e"}/f${i % 40}`,
  data: `${i}`,
  mode: 0o777,
  mtime: 5,
}));
const special: readonly (RawEntry | Buffer)[] = [
  { name: "pipe", type: "6", mode: 0o777, mtime: 5 },
  pax([["SCHILY.xattr.user.raced", "x"]]),
  entry({ name: "able", data: "x", mode: 0o777, mtime: 5 }),
];
const racedLayers = [
  tar(...files, ...special),
  tar({ name: "d/.wh..wh..opq" }, { name: "e/.wh.f1" }, ...files.slice(0, 200), { name: "d/l", type: "1", link: "d/f1" }, ...special),
];

describe.skipIf(!isRoot || missingSetfattr())("a second process that swaps directories, files and pipes for symlinks", () => {
  it.each<TreeOutput>(["rootfs", "bundle", "overlay"])("never makes anything outside change while output %s is made", async (output) => {
    const outside = folder.path("outside");
    const place = folder.path("place");
    mkdirSync(outside);
    mkdirSync(place);
    const canary = join(outside, "f1");
    writeFileSync(canary, "canary", { mode: 0o600 });
    const before = lstatSync(canary);
    const { store, root } = await image({ layers: racedLayers });
    const racer = spawn(process.execPath, ["-e", swapper, place, outside], { stdio: ["ignore", "pipe", "ignore"] });
    const exited = once(racer, "exit");
    try {
      await once(racer.stdout, "data");
      for (let turn = 0; turn < 3; turn += 1) {
        // Whether it wins is chance; that nothing lands outside is not.
        const outcome = await unpackImage({ store, root, target: join(place, "out"), output }).then(
          () => "complete",
          (error: unknown) => (error instanceof GuestError ? error.code : error),
        );
        expect(["complete", "ERR_GUEST_STORAGE", "ERR_GUEST_ENTRY_REFUSED", "ERR_GUEST_HELPER_MISSING"]).toContain(outcome);
        rmSync(join(place, "out"), { recursive: true, force: true });
      }
    } finally {
      racer.kill("SIGKILL");
      await exited;
    }
    expect(readdirSync(outside)).toEqual(["f1"]);
    expect(readFileSync(canary, "utf8")).toBe("canary");
    expect(lstatSync(canary)).toMatchObject({ mode: before.mode, mtimeMs: before.mtimeMs, nlink: 1 });
    expect(xattrsOf(canary)).toEqual([]);
  });
});

describe("a target that somebody makes while an image is pulled", () => {
  const pull = async (meanwhile: () => void) => {
    const { store } = await image({ layers: [tar({ name: "a", data: "x" })] });
    return await pullImage({
      store,
      reference: "latest",
      target: folder.path("place/out"),
      output: "rootfs",
      verification: { kind: "insecure-accept-unsigned" },
      openKeys: async () => [],
      measure: async () => meanwhile(),
    });
  };

  it.each<readonly [string, () => void]>([
    ["a file", () => writeFileSync(folder.path("place/out"), "mine")],
    ["a symlink to an empty directory", () => symlinkSync(folder.path("outside"), folder.path("place/out"))],
    ["a symlink to nothing", () => symlinkSync("nowhere", folder.path("place/out"))],
    [
      "a directory with something in it",
      () => {
        mkdirSync(folder.path("place/out"));
        writeFileSync(folder.path("place/out/mine"), "mine");
      },
    ],
  ])("is left as it is when it is %s", async (_, make) => {
    mkdirSync(folder.path("place"));
    mkdirSync(folder.path("outside"));
    await expect(pull(make)).rejects.toMatchObject({ code: "ERR_GUEST_TARGET_EXISTS" });
    expect(readdirSync(folder.path("place"))).toEqual(["out"]);
    expect(readdirSync(folder.path("outside"))).toEqual([]);
  });

  it("is not made elsewhere when the directory that holds it becomes a symlink", async () => {
    mkdirSync(folder.path("place"));
    mkdirSync(folder.path("outside"));
    const pulled = pull(() => {
      renameSync(folder.path("place"), folder.path("moved"));
      symlinkSync("outside", folder.path("place"));
    });
    await expect(pulled).rejects.toMatchObject({ code: "ERR_GUEST_STORAGE" });
    expect(readdirSync(folder.path("outside"))).toEqual([]);
  });
});
