import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import { unpackImage } from "../../src/guest/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { bytesStream, memoryStore, type ContentStore } from "../../src/store/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "guest-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function put(store: ContentStore, mediaType: string, bytes: Buffer): Promise<Descriptor> {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.length };
  await store.push(descriptor, async () => bytesStream(bytes));
  return descriptor;
}

describe("unpacking a plain image", () => {
  it("puts a complete tree at the target and leaves no staging behind", async () => {
    const store = memoryStore();
    const tar = pack();
    tar.entry({ name: "etc/", type: "directory", mode: 0o755 });
    tar.entry({ name: "etc/motd", mode: 0o640 }, "hello\n");
    tar.finalize();
    const bytes = await buffer(tar);
    const layer = await put(store, mediaTypes.layerTarGzip, gzipSync(bytes));
    const config = await put(
      store,
      mediaTypes.config,
      serializeJson({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: [digestOf(bytes)] } }),
    );
    const root = await put(
      store,
      mediaTypes.manifest,
      serializeJson({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer] }),
    );
    const target = join(folder, "out");
    const report = await unpackImage({ store, root, target, output: "rootfs", ownership: { kind: "rootless" } });
    expect(report).toMatchObject({ entries: 2, bytes: 6, layers: 1 });
    expect(readFileSync(join(target, "etc/motd"), "utf8")).toBe("hello\n");
    expect(statSync(join(target, "etc/motd")).mode & 0o7777).toBe(0o640);
    expect(readdirSync(folder)).toEqual(["out"]);
  });
});
