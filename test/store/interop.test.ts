import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { digestOf } from "../../src/bytes/index.ts";
import {
  copyGraph,
  memoryStore,
  openDir,
  openDockerArchive,
  openLayout,
  openOciArchive,
  readDocument,
  type ContentStore,
} from "../../src/store/index.ts";
import { missingPeers } from "../peers.ts";
import { codeOf } from "./contract.ts";
import { putImage, putMultiPlatform } from "./images.ts";
import { runPeer, skopeo } from "./run.ts";
import { temporaryFolder } from "./temporary.ts";

const skopeos = ["skopeo-1.9", "skopeo-1.18", "skopeo-1.22"] as const;

/** Everything below the only image, read and verified; the number of objects. */
async function readAll(store: ContentStore, reference?: string): Promise<number> {
  const root = await store.resolve(reference);
  return (await copyGraph({ from: store, to: memoryStore(), root })).pushed;
}

async function withStore<Result>(store: ContentStore, use: (store: ContentStore) => Promise<Result>): Promise<Result> {
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

describe.skipIf(missingPeers("skopeo-1.22", "skopeo-1.18", "skopeo-1.9"))("skopeo and our stores", () => {
  it.each(skopeos)("%s reads the layout, archive and dir that we write, every platform, digests kept", async (name) => {
    const folder = await temporaryFolder();
    const memory = memoryStore();
    const root = await putMultiPlatform(memory);
    const path = (transport: string) => join(folder, `ours-${transport}`);
    const write = async (store: ContentStore, tag: string) => withStore(store, (to) => copyGraph({ from: memory, to, root, tags: [tag] }));
    await write(await openLayout({ path: path("oci"), mode: "write" }), "localhost:5000/app:1.0");
    await write(await openOciArchive({ path: path("oci-archive"), mode: "write" }), "v1");
    await write(await openDir({ path: path("dir"), mode: "write" }), root.digest);
    for (const source of [`oci:${path("oci")}:localhost:5000/app:1.0`, `oci-archive:${path("oci-archive")}:v1`, `dir:${path("dir")}`]) {
      const out = join(folder, `theirs-${digestOf(Buffer.from(source)).slice(7, 20)}`);
      await skopeo(name, "copy", "--all", "--preserve-digests", "--quiet", source, `oci:${out}:back`);
      await withStore(await openLayout({ path: out, mode: "read" }), async (store) => {
        expect((await store.resolve("back")).digest).toBe(root.digest);
        expect(await readAll(store)).toBe(15);
      });
    }
  });

  it.each(skopeos)("we read the layout, archives and dir that %s writes", async (name) => {
    const folder = await temporaryFolder();
    const layout = join(folder, "layout");
    const multi = await withStore(await openLayout({ path: layout, mode: "write" }), async (store) => {
      const root = await putMultiPlatform(store);
      await store.tag(root, "multi");
      return root;
    });
    const copy = (destination: string, ...flags: readonly string[]) =>
      skopeo(name, "copy", "--quiet", "--preserve-digests", ...flags, `oci:${layout}:multi`, destination);
    const at = (file: string) => join(folder, file);

    await copy(`oci:${at("o")}:a/b:1.0`, "--all");
    await withStore(await openLayout({ path: at("o"), mode: "read" }), async (store) => {
      expect(await store.tags()).toEqual(["a/b:1.0"]);
      expect((await store.resolve("a/b:1.0")).digest).toBe(multi.digest);
      expect((await store.resolve("1.0")).digest).toBe(multi.digest);
      expect(await readAll(store)).toBe(15);
    });
    await copy(`oci-archive:${at("a.tar")}:v1`, "--all");
    await withStore(await openOciArchive({ path: at("a.tar"), mode: "read" }), async (store) => {
      expect((await store.resolve("v1")).digest).toBe(multi.digest);
      expect(await readAll(store)).toBe(15);
    });
    await copy(`dir:${at("d")}`, "--all");
    await withStore(await openDir({ path: at("d"), mode: "read" }), async (store) => {
      expect((await store.resolve(undefined)).digest).toBe(multi.digest);
      expect(await readAll(store)).toBe(15);
    });
    // Without --all skopeo takes this machine's platform.
    await skopeo(name, "copy", "--quiet", "--override-arch", "amd64", `oci:${layout}:multi`, `docker-archive:${at("s.tar")}:foo:1`);
    await withStore(await openDockerArchive({ path: at("s.tar") }), async (store) => {
      expect(await store.tags()).toEqual(["docker.io/library/foo:1"]);
      expect(await readAll(store, "docker.io/library/foo:1")).toBe(4);
    });
  });

  it("keeps skopeo's entries when we write into its layout, and skopeo keeps ours", async () => {
    const folder = await temporaryFolder();
    const ours = join(folder, "ours");
    await withStore(await openLayout({ path: ours, mode: "write" }), async (store) => store.tag(await putImage(store), "x"));
    const shared = `oci:${join(folder, "shared")}`;
    await skopeo("skopeo-1.22", "copy", "--quiet", `oci:${ours}:x`, `${shared}:theirs`);
    await withStore(await openLayout({ path: join(folder, "shared"), mode: "write" }), async (store) =>
      store.tag(await putImage(store), "ours"),
    );
    await skopeo("skopeo-1.22", "copy", "--quiet", `oci:${ours}:x`, `${shared}:theirs2`);
    await withStore(await openLayout({ path: join(folder, "shared"), mode: "read" }), async (store) => {
      expect(await store.tags()).toEqual(["ours", "theirs", "theirs2"]);
    });
  });

  it("notices the changed manifest that skopeo copies out of a layout without a word", async () => {
    const folder = await temporaryFolder();
    const layout = join(folder, "layout");
    const image = await withStore(await openLayout({ path: layout, mode: "write" }), async (store) => {
      const target = await putImage(store);
      await store.tag(target, "x");
      return target;
    });
    const file = join(layout, "blobs/sha256", image.digest.slice(7));
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace('"schemaVersion":2', '"schemaVersion": 2').slice(0, -1) + "}");
    await skopeo("skopeo-1.22", "copy", "--quiet", `oci:${layout}:x`, `oci:${join(folder, "out")}:x`);
    const store = await openLayout({ path: layout, mode: "read" });
    expect(await codeOf(store.resolve("x"))).toMatch(/^ERR_CONTENT_(TRAILING_DATA|TRUNCATED|DIGEST_MISMATCH)$/);
    await store.close();
  });
});

describe.skipIf(missingPeers("umoci", "skopeo-1.22"))("umoci and our stores", () => {
  it("reads what umoci builds, without mediaType, and umoci unpacks and changes what we copied", async () => {
    const folder = await temporaryFolder();
    const theirs = join(folder, "theirs");
    await mkdir(join(folder, "tree"));
    await writeFile(join(folder, "tree", "file"), "content");
    await runPeer("umoci", "init", "--layout", theirs);
    await runPeer("umoci", "new", "--image", `${theirs}:a`);
    await runPeer("umoci", "insert", "--rootless", "--image", `${theirs}:a`, join(folder, "tree"), "/");
    const ours = join(folder, "ours");
    await withStore(await openLayout({ path: theirs, mode: "read" }), async (from) => {
      const root = await from.resolve("a");
      const document = await readDocument(from, root);
      expect(document.kind).toBe("manifest");
      await withStore(await openLayout({ path: ours, mode: "write" }), (to) => copyGraph({ from, to, root, tags: ["b", "c"] }));
    });
    await runPeer("umoci", "unpack", "--rootless", "--image", `${ours}:b`, join(folder, "bundle"));
    expect(await readFile(join(folder, "bundle/rootfs/file"), "utf8")).toBe("content");
    await runPeer("umoci", "tag", "--image", `${ours}:b`, "d");
    await runPeer("umoci", "gc", "--layout", ours);
    await withStore(await openLayout({ path: ours, mode: "read" }), async (store) => {
      expect(await store.tags()).toEqual(["b", "c", "d"]);
      expect(await readAll(store, "d")).toBe(3);
    });
  });

  it("writes into a layout that umoci has just made, whose index says null", async () => {
    const path = join(await temporaryFolder(), "new");
    await runPeer("umoci", "init", "--layout", path);
    expect(await readFile(join(path, "index.json"), "utf8")).toContain('"manifests":null');
    const memory = memoryStore();
    const root = await putMultiPlatform(memory);
    await withStore(await openLayout({ path, mode: "write" }), (to) => copyGraph({ from: memory, to, root, tags: ["ours"] }));
    expect((await runPeer("umoci", "list", "--layout", path)).trim()).toBe("ours");
  });

  it("keeps what umoci does not know when the layout is copied as files", async () => {
    const folder = await temporaryFolder();
    const path = join(folder, "layout");
    await withStore(await openLayout({ path, mode: "write" }), async (store) => {
      const image = await putImage(store);
      await store.tag(image, "v1");
      await putImage(store, { subject: image, artifactType: "application/vnd.example.sbom" });
    });
    await cp(path, join(folder, "copy"), { recursive: true });
    await withStore(await openLayout({ path: join(folder, "copy"), mode: "read" }), async (store) => {
      expect(await store.referrers(await store.resolve(undefined))).toHaveLength(1);
    });
  });
});
