import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { GuestError, unpackImage, type UnpackRequest } from "../../src/guest/index.ts";
import { image, testFolder, type ImagePlan } from "./images.ts";
import { entry, pax, tar, type RawEntry } from "./tar-bytes.ts";
import { keptOwnership } from "./trees.ts";

const folder = testFolder();
const secret = "canary";

beforeEach(() => {
  mkdirSync(folder.path("outside"));
  writeFileSync(folder.path("outside/canary"), secret, { mode: 0o600 });
  writeFileSync(folder.path("canary"), secret, { mode: 0o600 });
});

async function unpack(plan: ImagePlan, request: Partial<UnpackRequest> = {}) {
  const { store, root } = await image(plan);
  return await unpackImage({ store, root, target: folder.path("out"), output: "rootfs", ownership: keptOwnership, ...request });
}

/** Nothing beside the target changed: neither content, nor mode, nor names. */
function expectCanaries(names: readonly string[] = ["canary", "outside"]) {
  for (const path of ["canary", "outside/canary"]) {
    expect(readFileSync(folder.path(path), "utf8")).toBe(secret);
    expect(statSync(folder.path(path)).mode & 0o777).toBe(0o600);
    expect(statSync(folder.path(path)).nlink).toBe(1);
  }
  expect(readdirSync(folder.path("outside"))).toEqual(["canary"]);
  expect(readdirSync(folder.path()).toSorted()).toEqual(names);
}

async function refusal(plan: ImagePlan, request: Partial<UnpackRequest> = {}): Promise<GuestError> {
  try {
    await unpack(plan, request);
  } catch (error) {
    if (error instanceof GuestError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

const everything = () => readdirSync(folder.path(), { recursive: true, encoding: "utf8" }).toSorted();
const outside = () => folder.path("outside");

describe("a hostile layer", () => {
  const cases: readonly (readonly [what: string, rule: string, parts: () => readonly (RawEntry | Buffer)[]])[] = [
    ["climbs with ..", "dot-dot", () => [{ name: "../canary", data: "x" }]],
    ["climbs with .. in the middle", "dot-dot", () => [{ name: "a/b/../../../canary", data: "x" }]],
    ["climbs with a trailing ..", "dot-dot", () => [{ name: "a/..", type: "5" }]],
    ["climbs after a slash", "dot-dot", () => [{ name: "/../canary", data: "x" }]],
    ["climbs in a PAX path", "dot-dot", () => [pax([["path", "../canary"]]), { name: "a", data: "x" }]],
    ["climbs in a GNU long name", "dot-dot", () => [entry({ name: "L", type: "L", data: "../canary\0" }), { name: "a", data: "x" }]],
    ["climbs in a ustar prefix", "dot-dot", () => [{ name: "canary", prefix: "..", data: "x" }]],
    ["climbs in a hard link's target", "dot-dot", () => [{ name: "l", type: "1", link: "../canary" }]],
    [
      "climbs in a sparse name",
      "dot-dot",
      () => [
        pax([
          ["GNU.sparse.size", "1"],
          ["GNU.sparse.map", "0,1"],
          ["GNU.sparse.name", "../canary"],
        ]),
        { name: "a", data: "x" },
      ],
    ],
    ["links hard to what is not in the image", "link-target-missing", () => [{ name: "l", type: "1", link: folder.path("canary") }]],
    [
      "links hard to a file outside through a symlink",
      "link-target-missing",
      () => [
        { name: "s", type: "2", link: outside() },
        { name: "l", type: "1", link: "s/canary" },
      ],
    ],
    [
      "links hard to a later entry",
      "link-target-missing",
      () => [
        { name: "l", type: "1", link: "later" },
        { name: "later", data: "x" },
      ],
    ],
    [
      "links hard to a directory",
      "link-target-directory",
      () => [
        { name: "d/", type: "5" },
        { name: "l", type: "1", link: "d" },
      ],
    ],
    ["links hard to the root", "link-target-directory", () => [{ name: "l", type: "1", link: "/" }]],
    [
      "links hard to itself",
      "link-to-itself",
      () => [
        { name: "l", data: "x" },
        { name: "l", type: "1", link: "l" },
      ],
    ],
    ["makes the root a symlink", "root-not-a-directory", () => [{ name: ".", type: "2", link: outside() }]],
    ["makes the root a file", "root-not-a-directory", () => [{ name: ".", type: "0", data: "x" }]],
    ["makes the root a hard link", "root-not-a-directory", () => [{ name: "./", type: "1", link: "a" }]],
    ["has an empty name", "empty-name", () => [{ name: "", data: "x" }]],
    ["has a component beyond 255 bytes", "name-too-long", () => [pax([["path", "n".repeat(256)]]), { name: "a" }]],
    ["has a path beyond 4095 bytes", "path-too-long", () => [pax([["path", "n/".repeat(2100)]]), { name: "a", type: "5" }]],
    ["is deeper than allowed", "too-deep", () => [pax([["path", "n/".repeat(300)]]), { name: "a", type: "5" }]],
    [
      "uses links to get deeper than allowed",
      "too-deep",
      () => [
        pax([["path", "n/".repeat(200)]]),
        { name: "d", type: "5" },
        pax([["linkpath", "n/".repeat(200)]]),
        { name: "deep", type: "2", link: "x" },
        pax([["path", `deep/${"n/".repeat(100)}`]]),
        { name: "d", type: "5" },
      ],
    ],
    [
      "runs its parent in a circle of symlinks",
      "too-many-links",
      () => [
        { name: "a", type: "2", link: "b" },
        { name: "b", type: "2", link: "a" },
        { name: "a/x", data: "x" },
      ],
    ],
    [
      "links a name to itself and goes through it",
      "too-many-links",
      () => [
        { name: "a", type: "2", link: "a" },
        { name: "a/x", data: "x" },
      ],
    ],
    [
      "goes through a file",
      "parent-not-a-directory",
      () => [
        { name: "f", data: "x" },
        { name: "f/x", data: "x" },
      ],
    ],
    [
      "goes through a fifo",
      "parent-not-a-directory",
      () => [
        { name: "f", type: "6" },
        { name: "f/x", data: "x" },
      ],
    ],
    ["has a symlink with an empty target", "link-target-invalid", () => [{ name: "l", type: "2", link: "" }]],
    [
      "has a symlink with a target beyond 4095 bytes",
      "link-target-invalid",
      () => [pax([["linkpath", "n".repeat(4096)]]), { name: "l", type: "2", link: "x" }],
    ],
    ["whites out nothing", "whiteout-name", () => [{ name: ".wh." }]],
    ["whites out a directory itself", "whiteout-name", () => [{ name: "d/.wh.." }]],
    ["whites out the parent of the root", "whiteout-name", () => [{ name: ".wh..." }]],
    ["whites out a parent directory", "whiteout-name", () => [{ name: "a/b/.wh..." }]],
    ["has a whiteout as a directory", "whiteout-in-path", () => [{ name: ".wh.a/b", data: "x" }]],
    ["has a device number that does not exist", "device-number", () => [{ name: "dev", type: "3", patch: { 329: "7777777\0" } }]],
    ["has an extended attribute without a namespace", "xattr-name", () => [pax([["SCHILY.xattr.evil", "x"]]), { name: "a" }]],
    [
      "smuggles lines into an attribute's name",
      "xattr-name",
      () => [pax([["SCHILY.xattr.user.a\n# file: /etc/passwd\nuser.b", "x"]]), { name: "a" }],
    ],
  ];

  it.each(cases)("that %s is refused by rule %s and leaves nothing", async (_, rule, parts) => {
    const layers = [tar({ name: "ok", data: "ok" }), tar(...parts())];
    const error = await refusal({ layers });
    expect([error.code, error.details["rule"]]).toEqual(["ERR_GUEST_ENTRY_REFUSED", rule]);
    expect(error.details["layer"]).toBe(1);
    expect(error.hint).toBeDefined();
    expectCanaries();
  });

  it("that writes through an absolute symlink writes inside the image", async () => {
    await unpack({ layers: [tar({ name: "s", type: "2", link: outside() }, { name: "s/canary", data: "evil" })] });
    expect(readFileSync(`${folder.path("out")}${outside()}/canary`, "utf8")).toBe("evil");
    expectCanaries(["canary", "out", "outside"]);
  });

  it("that writes through a climbing symlink stops at the root", async () => {
    await unpack({ layers: [tar({ name: "a/s", type: "2", link: "../../../../../canary-dir" }, { name: "a/s/x", data: "evil" })] });
    expect(readFileSync(folder.path("out/canary-dir/x"), "utf8")).toBe("evil");
    expectCanaries(["canary", "out", "outside"]);
  });

  it.each<readonly [string, RawEntry]>([
    ["a file", { name: "s", data: "evil" }],
    ["a hard link", { name: "s", type: "1", link: "ok" }],
    ["another symlink", { name: "s", type: "2", link: "ok" }],
    ["a directory", { name: "s", type: "5", mode: 0o777 }],
    ["a fifo", { name: "s", type: "6" }],
  ])("replaces its symlink by %s and never follows it", async (_, replacement) => {
    await unpack({ layers: [tar({ name: "ok", data: "ok" }, { name: "s", type: "2", link: folder.path("canary") }, replacement)] });
    expect(lstatSync(folder.path("out/s")).isSymbolicLink()).toBe(replacement.type === "2");
    expectCanaries(["canary", "out", "outside"]);
  });

  it("does not change the other name of a hard link when a file takes its place", async () => {
    await unpack({
      layers: [tar({ name: "a", data: "first" }, { name: "b", type: "1", link: "a" }), tar({ name: "b", data: "second", mode: 0o777 })],
    });
    expect(readFileSync(folder.path("out/a"), "utf8")).toBe("first");
    expect(statSync(folder.path("out/a")).mode & 0o777).toBe(0o644);
  });

  it("does not hang on a fifo that a later entry overwrites", async () => {
    await unpack({ layers: [tar({ name: "f", type: "6" }), tar({ name: "f", data: "x" })] });
    expect(readFileSync(folder.path("out/f"), "utf8")).toBe("x");
  });

  it("links a symlink itself, never what it points to", async () => {
    await unpack({ layers: [tar({ name: "s", type: "2", link: folder.path("canary") }, { name: "l", type: "1", link: "s" })] });
    expect(readlinkSync(folder.path("out/l"))).toBe(folder.path("canary"));
    expectCanaries(["canary", "out", "outside"]);
  });

  it("does not give modes or times to what a symlink points to", async () => {
    const before = statSync(folder.path("canary"));
    await unpack({ layers: [tar({ name: "s", type: "2", link: folder.path("canary"), mode: 0o777, mtime: 5 })] });
    expect(statSync(folder.path("canary"))).toMatchObject({ mode: before.mode, mtimeMs: before.mtimeMs });
  });

  it("finds a directory again after it was replaced by a symlink", async () => {
    await unpack({
      layers: [tar({ name: "d/x", data: "1" }, { name: "d", type: "2", link: outside() }, { name: "d/canary", data: "evil" })],
    });
    expect(lstatSync(folder.path("out/d")).isSymbolicLink()).toBe(true);
    expectCanaries(["canary", "out", "outside"]);
  });

  it("removes through no symlink when a whiteout names one", async () => {
    await unpack({ layers: [tar({ name: "s", type: "2", link: outside() }), tar({ name: ".wh.s" })] });
    expect(existsSync(folder.path("out/s"))).toBe(false);
    await unpack(
      { layers: [tar({ name: "s", type: "2", link: outside() }), tar({ name: "s/.wh.canary" })] },
      { target: folder.path("out2") },
    );
    await unpack(
      { layers: [tar({ name: "s", type: "2", link: outside() }), tar({ name: "s/.wh..wh..opq" })] },
      { target: folder.path("out3") },
    );
    expectCanaries(["canary", "out", "out2", "out3", "outside"]);
  });
});

describe("limits", () => {
  const cases: readonly (readonly [limit: string, plan: ImagePlan, limits: UnpackRequest["limits"]])[] = [
    ["maxBytes", { layers: [tar({ name: "a", data: "x".repeat(600) }, { name: "b", data: "x".repeat(600) })] }, { maxBytes: 1000 }],
    ["maxBytes", { layers: [tar({ name: "a", data: "x".repeat(600) }), tar({ name: "a", data: "x".repeat(600) })] }, { maxBytes: 1000 }],
    [
      "maxBytes",
      {
        layers: [
          tar(
            pax([
              ["GNU.sparse.size", "9000000000000"],
              ["GNU.sparse.map", "0,1"],
            ]),
            { name: "a", data: "x" },
          ),
        ],
      },
      {},
    ],
    ["maxEntries", { layers: [tar({ name: "a" }, { name: "b" }, { name: ".wh.c" })] }, { maxEntries: 2 }],
    ["maxRatio", { layers: [tar({ name: "a", data: Buffer.alloc(80 * 1024 ** 2) })], compression: "gzip" }, { maxRatio: 100 }],
    ["maxRatio", { layers: [tar({ name: "a", data: Buffer.alloc(80 * 1024 ** 2) })], compression: "zstd" }, {}],
    ["maxTimeMs", { layers: [tar({ name: "a" })] }, { maxTimeMs: -1 }],
    [
      "maxZstdWindow",
      { layers: [tar({ name: "a", data: Buffer.alloc(4 * 1024 ** 2, "abc") })], compression: "zstd" },
      { maxZstdWindow: 1024 },
    ],
  ];
  it.each(cases)("%s is kept", async (limit, plan, limits) => {
    const error = await refusal(plan, { limits });
    expect([error.code, error.details["limit"]]).toEqual(["ERR_GUEST_LIMIT_EXCEEDED", limit]);
    expectCanaries();
  });

  it("names the entry that goes beyond it", async () => {
    const plan = { layers: [tar({ name: "a" }, { name: "b\u001b", data: "xyz" })] };
    expect(await refusal(plan, { limits: { maxBytes: 2 } })).toMatchObject({ details: { entry: '"b\\u001b"', layer: 0 } });
    expect((await refusal(plan, { limits: { maxEntries: 1 } })).message).toContain('entry "b\\u001b"');
  });

  it("is the default when undefined is given", async () => {
    await unpack({ layers: [tar({ name: "a" })] }, { limits: { maxBytes: undefined } });
  });

  it("bounds a flood of opaque markers to one walk", async () => {
    const files = Array.from({ length: 2000 }, (_, i): RawEntry => ({ name: `d/f${i}` }));
    const flood = Array.from({ length: 3000 }, (): RawEntry => ({ name: "d/.wh..wh..opq" }));
    await unpack({ layers: [tar({ name: "d/", type: "5" }, ...files), tar(...flood, { name: "d/new" })] });
    expect(readdirSync(folder.path("out/d"))).toEqual(["new"]);
  });
});

describe("a target", () => {
  const layers = [tar({ name: "a", data: "x" })];

  it("that is an empty directory is replaced", async () => {
    mkdirSync(folder.path("out"));
    await unpack({ layers });
    expect(readdirSync(folder.path("out"))).toEqual(["a"]);
  });

  it.each<readonly [string, () => void]>([
    [
      "a directory with content",
      () => {
        mkdirSync(folder.path("out"));
        writeFileSync(folder.path("out/x"), "x");
      },
    ],
    ["a file", () => writeFileSync(folder.path("out"), "x")],
    [
      "a symlink to an empty directory",
      () => {
        mkdirSync(folder.path("empty"));
        symlinkSync("empty", folder.path("out"));
      },
    ],
  ])("that is %s is left alone", async (_, make) => {
    make();
    const before = everything();
    expect((await refusal({ layers })).code).toBe("ERR_GUEST_TARGET_EXISTS");
    expect(everything()).toEqual(before);
  });

  it.each(["missing/out", "canary/out"])("%s without a directory to be in is an error of input and output", async (path) => {
    expect((await refusal({ layers }, { target: folder.path(path) })).category).toBe("io");
  });

  it("has the mode of the image's root, or 0755", async () => {
    await unpack({ layers });
    expect(statSync(folder.path("out")).mode & 0o7777).toBe(0o755);
    await unpack({ layers: [tar({ name: "./", type: "5", mode: 0o1711 })] }, { target: folder.path("other") });
    expect(statSync(folder.path("other")).mode & 0o7777).toBe(0o1711);
  });

  it("is free of what a locked directory would keep", async () => {
    const locked = tar({ name: "d/", type: "5", mode: 0 }, { name: "d/e/", type: "5", mode: 0 }, { name: "d/e/f", mode: 0 });
    await unpack({ layers: [locked, tar({ name: "d/e/g", data: "x" })] });
    expect(statSync(folder.path("out/d")).mode & 0o777).toBe(0);
    chmodSync(folder.path("out/d"), 0o700);
    await refusal({ layers: [locked], diffIds: [`sha256:${"0".repeat(64)}`] }, { target: folder.path("second") });
    expect(existsSync(folder.path("second"))).toBe(false);
    expect(readdirSync(folder.path()).toSorted()).toEqual(["canary", "out", "outside"]);
  });
});

describe("what does not match", () => {
  it("is a layer with another diffID", async () => {
    const error = await refusal({ layers: [tar({ name: "a" })], diffIds: [`sha256:${"0".repeat(64)}`] });
    expect(error.code).toBe("ERR_GUEST_DIFF_ID_MISMATCH");
    expectCanaries();
  });

  it("is a hidden tail: the diffID is of the whole stream, past the end marker", async () => {
    const layer = tar({ name: "a" });
    const { digestOf } = await import("../../src/bytes/index.ts");
    const error = await refusal({ layers: [Buffer.concat([layer, Buffer.from("tail")])], diffIds: [digestOf(layer)] });
    expect(error.code).toBe("ERR_GUEST_DIFF_ID_MISMATCH");
  });

  it.each([0, 2])("is a configuration with %i diffIDs for one layer", async (count) => {
    const error = await refusal({ layers: [tar({ name: "a" })], diffIds: Array.from({ length: count }, () => `sha256:${"0".repeat(64)}`) });
    expect(error.code).toBe("ERR_GUEST_CONFIG_REFUSED");
  });
});
