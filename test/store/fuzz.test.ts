import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ToolError } from "../../src/errors/index.ts";
import {
  copyGraph,
  memoryStore,
  openDir,
  openDockerArchive,
  openLayout,
  openOciArchive,
  type ContentStore,
} from "../../src/store/index.ts";
import { TarFile } from "../../src/store/archive/tar-file.ts";
import { putImage } from "./images.ts";
import { temporaryFolder } from "./temporary.ts";

/** Where to change a file, and what to put there. */
const edits = fc.array(fc.record({ at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), byte: fc.nat(255) }), {
  minLength: 1,
  maxLength: 6,
});
const cuts = fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: 1, freq: 3 });

function damage(bytes: Buffer, changes: readonly { readonly at: number; readonly byte: number }[], cut: number): Buffer {
  const damaged = Buffer.from(bytes.subarray(0, Math.round(bytes.length * cut)));
  for (const { at, byte } of changes) if (damaged.length > 0) damaged.writeUInt8(byte, Math.floor(damaged.length * at));
  return damaged;
}

/** Reads everything: either it is all there and right, or it fails with an error of ours. */
async function readOrRefuse(open: () => Promise<ContentStore>): Promise<"read" | "refused"> {
  let store: ContentStore | undefined;
  try {
    store = await open();
    const root = await store.resolve(undefined);
    await store.referrers(root);
    await copyGraph({ from: store, to: memoryStore(), root, referrers: "follow" });
    return "read";
  } catch (error) {
    if (error instanceof ToolError && error.code !== "ERR_INTERNAL") return "refused";
    throw error;
  } finally {
    await store?.close();
  }
}

describe("damaged by chance", () => {
  it("an archive is read right or refused", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    const archive = await openOciArchive({ path, mode: "write" });
    const image = await putImage(archive, { layers: 1, layerSize: 300 });
    await putImage(archive, { layers: 0, subject: image });
    await archive.tag(image, "v1");
    await archive.close();
    const whole = await readFile(path);
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(edits, cuts, async (changes, cut) => {
        await writeFile(path, damage(whole, changes, cut));
        if ((await readOrRefuse(() => openOciArchive({ path, mode: "read" }))) === "refused") refused += 1;
        await readOrRefuse(() => openDockerArchive({ path }));
      }),
      { numRuns: 150 },
    );
    expect(refused).toBeGreaterThan(20);
  });

  it("a tar file's members never lie outside it", async () => {
    const path = join(await temporaryFolder(), "a.tar");
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 0, maxLength: 2048 }), fc.nat(3), async (noise, blocks) => {
        await writeFile(path, Buffer.concat([Buffer.from(noise), Buffer.alloc(blocks * 512)]));
        try {
          const tar = await TarFile.open(path, "noise");
          for (const name of tar.names()) {
            const member = tar.find(name);
            if (member !== undefined) await tar.read(member, 4096);
          }
          await tar.close();
        } catch (error) {
          if (!(error instanceof ToolError)) throw error;
        }
      }),
      { numRuns: 200 },
    );
  });

  it("a layout's index is read right or refused", async () => {
    const path = join(await temporaryFolder(), "layout");
    const store = await openLayout({ path, mode: "write", durability: "none" });
    const image = await putImage(store, { layers: 1 });
    await putImage(store, { layers: 0, subject: image });
    await store.tag(image, "v1");
    await store.close();
    const file = join(path, "index.json");
    const whole = await readFile(file);
    await fc.assert(
      fc.asyncProperty(edits, cuts, async (changes, cut) => {
        await writeFile(file, damage(whole, changes, cut));
        await readOrRefuse(() => openLayout({ path, mode: "read" }));
      }),
      { numRuns: 15 },
    );
  });

  it("a dir's manifest is read right or refused", async () => {
    const path = join(await temporaryFolder(), "dir");
    const store = await openDir({ path, mode: "write" });
    const image = await putImage(store, { layers: 1 });
    await store.tag(image, image.digest);
    await store.close();
    const file = join(path, "manifest.json");
    const whole = await readFile(file);
    await fc.assert(
      fc.asyncProperty(edits, cuts, async (changes, cut) => {
        await writeFile(file, damage(whole, changes, cut));
        await readOrRefuse(() => openDir({ path, mode: "read" }));
      }),
      { numRuns: 100 },
    );
  });
});
