import { existsSync, readdirSync } from "node:fs";
import { buffer } from "node:stream/consumers";
import { describe, expect, it } from "vitest";
import { cipherNames } from "../../src/cipher/index.ts";
import { pullImage, type PullOutput } from "../../src/guest/index.ts";
import { bytesStream } from "../../src/store/index.ts";
import { broker, image, readerOf, testFolder, type ImagePlan } from "./images.ts";
import { tar } from "./tar-bytes.ts";

const folder = testFolder();

const layers = [
  tar(
    { name: "d/", type: "5" },
    { name: "d/f", data: Buffer.alloc(3000, "f") },
    { name: "l", type: "2", link: "d" },
    { name: "g", data: "g" },
  ),
];

const ways: readonly (readonly [string, Partial<ImagePlan>])[] = [
  ["plain", {}],
  ["gzip", { compression: "gzip" }],
  ["zstd", { compression: "zstd" }],
  ...cipherNames.map((cipher) => [cipher, { seal: broker().seal(cipher) }] as const),
];

describe("a layer that a store cuts", () => {
  it.each(ways)("at any 512-byte step of its %s form leaves nothing", async (_, plan) => {
    const { store, layers: descriptors } = await image({ layers, ...plan });
    const [layer] = descriptors;
    if (layer === undefined) throw new Error("no layer");
    const whole = await buffer(await store.fetch(layer));
    const outputs: readonly PullOutput[] = ["rootfs", "oci"];
    const cuts = [...Array.from({ length: Math.ceil(whole.length / 512) }, (__, i) => i * 512), whole.length - 1];
    for (const cut of cuts) {
      for (const output of outputs) {
        const cutting = readerOf(store, async (wanted, options) => {
          if (wanted.digest !== layer.digest) return await store.fetch(wanted, options);
          const { start, end } = options?.range ?? { start: 0, end: wanted.size };
          return bytesStream(whole.subarray(start, Math.min(end, cut)));
        });
        const pulled = pullImage({
          store: cutting,
          reference: "latest",
          target: folder.path("out"),
          output,
          verification: { kind: "insecure-accept-unsigned" },
          openKeys: async () => [broker().unwrapper],
        });
        await expect(pulled, `${output} cut at ${cut}`).rejects.toMatchObject({ category: "integrity" });
      }
    }
    expect(existsSync(folder.path("out"))).toBe(false);
    expect(readdirSync(folder.path())).toEqual([]);
    expect(cuts.length).toBeGreaterThan(1);
  });
});
