import { readdirSync } from "node:fs";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { unpackImage } from "../../src/guest/index.ts";
import { bytesStream } from "../../src/store/index.ts";
import { image, readerOf, testFolder } from "./images.ts";
import { tar } from "./tar-bytes.ts";
import { namesIn } from "./trees.ts";

const folder = testFolder();
describe("two unpacks of one target", () => {
  it("do not remove each other's staging while both live", async () => {
    const { store, root } = await image({ layers: [tar({ name: "a", data: "x" })] });
    const inner = readerOf(store, async (wanted, options) => {
      // In the middle of the outer one's first layer.
      if (wanted.mediaType.includes("layer")) await unpackImage({ store, root, target: folder.path("out"), output: "rootfs" });
      return await store.fetch(wanted, options);
    });
    await expect(unpackImage({ store: inner, root, target: folder.path("out"), output: "rootfs" })).rejects.toMatchObject({
      code: "ERR_GUEST_TARGET_EXISTS",
    });
    expect(namesIn(folder.path())).toEqual(["out", "out/a"]);
  });
});

describe("an unpack that fails in the middle", () => {
  const layers = [tar({ name: "a", data: "x".repeat(9000) }), tar({ name: "b", data: "y".repeat(9000) })];

  it.each([0, 1])("leaves nothing when layer %i breaks off", async (broken) => {
    const { store, root, layers: descriptors } = await image({ layers });
    const cut = readerOf(store, async (wanted, options) =>
      wanted.digest === descriptors[broken]?.digest
        ? bytesStream(layers[broken]?.subarray(0, 5000) ?? Buffer.alloc(0))
        : await store.fetch(wanted, options),
    );
    await expect(unpackImage({ store: cut, root, target: folder.path("out"), output: "rootfs" })).rejects.toMatchObject({
      category: "integrity",
    });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("leaves nothing when it is interrupted", async () => {
    const { store, root } = await image({ layers });
    const abort = new AbortController();
    const unpacking = unpackImage(
      { store, root, target: folder.path("out"), output: "rootfs" },
      { signal: abort.signal, onEvent: (event) => event.kind === "layer-done" && abort.abort() },
    );
    await expect(unpacking).rejects.toThrow();
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("ends a store that stalls when its time is over", async () => {
    const { store, root, layers: descriptors } = await image({ layers });
    const stalled = readerOf(store, async (wanted, options) =>
      wanted.digest === descriptors[1]?.digest ? new Readable({ read: () => undefined }) : await store.fetch(wanted, options),
    );
    const unpacking = unpackImage({ store: stalled, root, target: folder.path("out"), output: "rootfs", limits: { maxTimeMs: 200 } });
    await expect(unpacking).rejects.toMatchObject({ code: "ERR_GUEST_LIMIT_EXCEEDED", details: { limit: "maxTimeMs" } });
    expect(readdirSync(folder.path())).toEqual([]);
  });

  it("closes every descriptor", async () => {
    const { store, root } = await image({ layers: [...layers, Buffer.from("no tar, but as long as a block".padEnd(600))] });
    const before = readdirSync("/proc/self/fd").length;
    for (let turn = 0; turn < 5; turn += 1) {
      await expect(unpackImage({ store, root, target: folder.path("out"), output: "rootfs" })).rejects.toMatchObject({
        category: "integrity",
      });
    }
    expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before + 1);
  });
});
