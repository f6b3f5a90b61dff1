import { describe, expect, it } from "vitest";
import { collect } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { isVerifiedFor, memoryStore, observeReader, type CopyEvent } from "../../src/store/index.ts";
import { put, putImage } from "./images.ts";

describe("an observed reader", () => {
  it("tells of blobs from begin to end, also when they are read in ranges, and not of manifests", async () => {
    const store = memoryStore();
    const blob = await put(store, mediaTypes.layerTar, Buffer.alloc(1000, 7));
    const manifest = await putImage(store);
    const events: CopyEvent[] = [];
    const reader = observeReader(store, (event) => events.push(event));
    await collect(await reader.fetch(manifest), { maxBytes: 10_000 });
    expect(events).toEqual([]);
    await collect(await reader.fetch(blob, { range: { start: 0, end: 600 } }), { maxBytes: 1000 });
    expect(events.map(({ kind }) => kind)).toEqual(["found", "started", "moved"]);
    await collect(await reader.fetch(blob, { range: { start: 600, end: 1000 } }), { maxBytes: 1000 });
    const whole = await reader.fetch(blob);
    expect(isVerifiedFor(whole, blob)).toBe(true);
    expect(await collect(whole, { maxBytes: 1000 })).toEqual(Buffer.alloc(1000, 7));
    expect(events.filter(({ kind }) => kind === "finished")).toHaveLength(1);
    expect(events.filter(({ kind }) => kind === "started")).toHaveLength(1);
  });
});
