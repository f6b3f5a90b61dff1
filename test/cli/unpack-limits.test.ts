import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readLimits } from "../../cli/unpack-limits.ts";
import { defaultUnpackLimits } from "../../src/guest/index.ts";
import { copyGraph, openLayout } from "../../src/store/index.ts";
import { image } from "../guest/images.ts";
import { tar } from "../guest/tar-bytes.ts";
import { ociseal } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "ociseal-limits-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("--limit", () => {
  it("sets every limit that has no flag of its own", () => {
    const read = readLimits(["depth=512", "ratio=2000", "pax=2M", "zstd-window=1G", "time=2h"]);
    expect(read).toEqual({ maxDepth: 512, maxRatio: 2000, maxPaxBytes: 2 ** 21, maxZstdWindow: 2 ** 30, maxTimeMs: 7_200_000 });
    expect(Object.keys({ ...read, maxBytes: 0, maxEntries: 0 }).toSorted()).toEqual(Object.keys(defaultUnpackLimits).toSorted());
    expect(readLimits(["ratio=10", "ratio=20"])).toEqual({ maxRatio: 20 });
    expect(readLimits([])).toEqual({});
  });

  it.each([
    "depth",
    "depth=",
    "depth=0",
    "depth=-1",
    "depth=769",
    "ratio=many",
    "pax=2G",
    "zstd-window=1",
    "zstd-window=4G",
    "time=5",
    "toString=1",
    "=1",
  ])("refuses %s", (value) => {
    expect(() => readLimits([value])).toThrow(expect.objectContaining({ code: "ERR_USAGE" }));
  });

  it("is kept by what unpacks", async () => {
    const { store, root } = await image({ layers: [tar({ name: "a/b/c", data: "x" })] });
    const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
    await copyGraph({ from: store, to: layout, root, tags: ["app"] });
    await layout.close();
    const unpack = (...limits: readonly string[]) => ociseal(["unpack", "--rootless", ...limits, "oci:image:app", "out"], { cwd: folder });
    const deep = await unpack("--limit", "depth=2");
    expect(deep, deep.stderr).toMatchObject({ status: 6, stderr: expect.stringContaining("more than 2") as string });
    expect(readdirSync(folder)).toEqual(["image"]);
    expect(await unpack("--limit", "depth=3", "--limit", "time=1h")).toMatchObject({ status: 0 });
  });
});
