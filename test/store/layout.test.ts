import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rename, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { collect, digestOf, type Digest } from "../../src/bytes/index.ts";
import { mediaTypes, serializeJson, type Descriptor } from "../../src/oci/index.ts";
import { bytesStream, copyGraph, memoryStore, openLayout, withFileLock } from "../../src/store/index.ts";
import { newOwner } from "../../src/store/disk/owner.ts";
import { codeOf } from "./contract.ts";
import { put, putImage, putMultiPlatform } from "./images.ts";
import { temporaryFolder } from "./temporary.ts";

const execute = promisify(execFile);
const script = (name: string) => join(import.meta.dirname, name);

async function newLayout(): Promise<string> {
  return join(await temporaryFolder(), "layout");
}

function blobFile(path: string, digest: Digest): string {
  return join(path, "blobs/sha256", digest.slice(7));
}

describe("a layout", () => {
  it("is not made before there is something to write", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    expect(await store.tags()).toEqual([]);
    expect(await codeOf(store.resolve("x"))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
    expect(await codeOf(openLayout({ path, mode: "read" }))).toBe("ERR_STORE_NOT_FOUND");
  });

  it("says of a blob that is there already that it is in use, for who collects garbage by age", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const { digest, size } = await put(store, mediaTypes.layerTar, Buffer.from("there"));
    const long = new Date("2020-01-01");
    await utimes(blobFile(path, digest), long, long);
    expect(await store.push({ mediaType: mediaTypes.layerTar, digest, size }, async () => bytesStream(Buffer.from("there")))).toBe(
      "present",
    );
    expect((await stat(blobFile(path, digest))).mtimeMs).toBeGreaterThan(long.getTime());
    await store.close();
  });

  it("leaves nothing beside the layout's own files", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    await store.tag(await putImage(store), "v1");
    const bytes = Buffer.alloc(100, 1);
    const target: Descriptor = { mediaType: mediaTypes.layerTar, digest: digestOf(bytes), size: 99 };
    await codeOf(put(store, mediaTypes.manifest, Buffer.from("{}")));
    expect(await codeOf(store.tag(target, "v2"))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
    expect((await readdir(path)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });

  it("refuses folders that are something else, and other versions", async () => {
    const path = await temporaryFolder();
    await writeFile(join(path, "thesis.txt"), "keep me");
    for (const mode of ["read", "write"] as const) expect(await codeOf(openLayout({ path, mode }))).toBe("ERR_STORE_MALFORMED");
    await writeFile(join(path, "oci-layout"), serializeJson({ imageLayoutVersion: "2.0.0" }));
    expect(await codeOf(openLayout({ path, mode: "write" }))).toBe("ERR_STORE_MALFORMED");
    expect(await codeOf(openLayout({ path: join(path, "thesis.txt"), mode: "write" }))).toBe("ERR_STORE_MALFORMED");
  });

  it("notices a changed blob, a cut one, and replaces a cut one when it is pushed again", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const bytes = Buffer.alloc(10_000, "x");
    const target = await put(store, mediaTypes.layerTar, bytes);
    const read = () => codeOf(store.fetch(target).then((stream) => collect(stream, { maxBytes: 20_000 })));
    const changed = Buffer.from(bytes);
    changed.writeUInt8(1, 5000);
    await writeFile(blobFile(path, target.digest), changed);
    expect(await read()).toBe("ERR_CONTENT_DIGEST_MISMATCH");
    await writeFile(blobFile(path, target.digest), bytes.subarray(1));
    expect(await read()).toBe("ERR_CONTENT_TRUNCATED");
    expect(await store.exists(target)).toBe(false);
    expect(store.localPath(target)).toBeUndefined();
    await put(store, mediaTypes.layerTar, bytes);
    expect(await read()).toBe("no error");
    expect(store.localPath(target)).toBe(blobFile(path, target.digest));
    await store.close();
  });

  it("keeps entries and members that it does not know, also two unnamed ones", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const image = await putImage(store);
    const other = await putImage(store);
    const foreign = { mediaType: "application/vnd.example.thing+json", digest: image.digest, size: 5, "x-member": { deep: [1] } };
    const annotated = { ...other, annotations: { "org.opencontainers.image.ref.name": "theirs", "x.y": "z" } };
    const index = { schemaVersion: 2, manifests: [foreign, other, annotated], annotations: { a: "b" }, "x-top": true };
    await writeFile(join(path, "index.json"), JSON.stringify(index));
    await store.tag(image, "ours");
    await store.remove("nothing");
    const after: unknown = JSON.parse(await readFile(join(path, "index.json"), "utf8"));
    const ours = {
      mediaType: image.mediaType,
      digest: image.digest,
      size: image.size,
      annotations: { "org.opencontainers.image.ref.name": "ours" },
    };
    expect(after).toEqual({ ...index, manifests: [foreign, other, annotated, ours] });
    await store.close();
  });

  it("takes two entries of one name for an error, and names them", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const entries = [await putImage(store), await putImage(store)].map((entry) => ({
      ...entry,
      annotations: { "org.opencontainers.image.ref.name": "twice" },
    }));
    await writeFile(join(path, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: entries }));
    expect(await codeOf(store.resolve("twice"))).toBe("ERR_STORE_AMBIGUOUS");
    expect(await codeOf(store.resolve(undefined))).toBe("ERR_STORE_AMBIGUOUS");
    expect((await store.resolve("@1")).digest).toBe(entries[1]?.digest);
    await store.close();
  });

  it("finds containerd's full names by their end", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const image = await putImage(store);
    const annotations = { "io.containerd.image.name": "docker.io/library/app:1.0", "org.opencontainers.image.ref.name": "1.0" };
    await writeFile(join(path, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [{ ...image, annotations }] }));
    for (const name of ["1.0", "docker.io/library/app:1.0"]) expect((await store.resolve(name)).digest).toBe(image.digest);
    expect(await codeOf(store.resolve("app:1.0"))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
  });

  it("finds the only image although signatures are beside it", async () => {
    const store = await openLayout({ path: await newLayout(), mode: "write" });
    const image = await putImage(store);
    await store.tag(image, image.digest);
    const signature = await putImage(store, { subject: image, artifactType: "application/vnd.example.signature" });
    const legacy = await putImage(store);
    await store.tag(legacy, `${image.digest.replace(":", "-")}.sig`);
    expect((await store.resolve(undefined)).digest).toBe(image.digest);
    expect((await store.referrers(image)).map((entry) => entry.digest)).toEqual([signature.digest]);
    await store.close();
  });

  it("lists referrers that another tool left under the referrers tag", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const image = await putImage(store);
    const signature = await putImage(store, { subject: image });
    const fallback = await put(
      store,
      mediaTypes.index,
      serializeJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [signature] }),
    );
    const name = { "org.opencontainers.image.ref.name": image.digest.replace(":", "-") };
    await writeFile(join(path, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [image, { ...fallback, annotations: name }] }));
    expect((await store.referrers(image)).map((entry) => entry.digest)).toEqual([signature.digest]);
    await store.close();
  });

  it("never leaves the folder, whatever an index names", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    await store.tag(await putImage(store), "v1");
    for (const digest of ["sha256:../../../../etc/passwd", `sha256:${"A".repeat(64)}`, "../x:00", `sha512:${"0".repeat(64)}`]) {
      const index = { schemaVersion: 2, manifests: [{ mediaType: mediaTypes.manifest, digest, size: 1 }] };
      await writeFile(join(path, "index.json"), JSON.stringify(index));
      expect(await codeOf(store.resolve(undefined))).toBe("ERR_STORE_MALFORMED");
    }
    for (const name of ["../../x", "a\0b", "a b", "/abs", ""]) {
      expect(await codeOf(store.tag(await putImage(memoryStore()), name))).toMatch(/^ERR_STORE_(NOT_FOUND|UNSUPPORTED)$/);
    }
    await store.close();
  });

  it("reads no pipe or device in the place of a blob or an index", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const image = await putImage(store);
    await store.tag(image, "v1");
    await execute("mkfifo", [join(path, "pipe")]);
    await rename(join(path, "pipe"), blobFile(path, image.digest));
    expect(await codeOf(store.resolve("v1"))).toBe("ERR_STORE_NOT_FOUND");
    await store.close();
  });

  it("follows the links to blobs that build systems make", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const bytes = Buffer.from("linked");
    const target = await put(store, mediaTypes.layerTar, bytes);
    await rename(blobFile(path, target.digest), join(path, "elsewhere"));
    await symlink(join(path, "elsewhere"), blobFile(path, target.digest));
    expect(await collect(await store.fetch(target), { maxBytes: 100 })).toEqual(bytes);
    await store.close();
  });

  it("bounds the index", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    await store.tag(await putImage(store), "v1");
    await writeFile(join(path, "index.json"), Buffer.alloc(5 << 20, " "));
    expect(await codeOf(store.tags())).toBe("ERR_STORE_LIMIT");
    await writeFile(join(path, "index.json"), "[".repeat(100_000));
    expect(await codeOf(store.tags())).toBe("ERR_STORE_MALFORMED");
    await store.close();
  });

  it("takes a staged blob from a writer that hashes for itself, and compares the size", async () => {
    const path = await newLayout();
    const store = await openLayout({ path, mode: "write" });
    const bytes = Buffer.alloc(5000, "s");
    const address = { digest: digestOf(bytes), size: bytes.length };
    const staged = await store.stageBlob();
    await writeFile(staged.path, bytes);
    expect(await codeOf(staged.commit({ ...address, size: 4999 }))).toBe("ERR_STORE_IO");
    expect(await staged.commit(address)).toEqual(address);
    await staged.discard();
    expect(await collect(await store.fetch({ mediaType: mediaTypes.layerTar, ...address }), { maxBytes: 9000 })).toEqual(bytes);
    const dropped = await store.stageBlob();
    await dropped.discard();
    await dropped.discard();
    await store.close();
    expect((await readdir(path)).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("is read-only when it was opened for reading", async () => {
    const path = await newLayout();
    const writer = await openLayout({ path, mode: "write" });
    const image = await putImage(writer);
    await writer.tag(image, "v1");
    await writer.close();
    const store = await openLayout({ path, mode: "read" });
    for (const attempt of [() => putImage(store), () => store.tag(image, "v2"), () => store.remove("v1"), () => store.stageBlob()]) {
      expect(await codeOf(attempt())).toBe("ERR_STORE_UNSUPPORTED");
    }
    await store.close();
  });
});

describe("parallel writers", () => {
  it("lose no name: 8 processes in one layout", async () => {
    const path = await newLayout();
    const names = Array.from({ length: 8 }, (_, i) => `n${i}`);
    await Promise.all(names.map((name) => execute(process.execPath, [script("writer.ts"), path, name])));
    const store = await openLayout({ path, mode: "read" });
    expect(await store.tags()).toEqual(names);
    for (const name of names) await copyGraph({ from: store, to: memoryStore(), root: await store.resolve(name) });
    await store.close();
    expect((await readdir(path)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });

  it("lose no name: 16 stores in one process", async () => {
    const path = await newLayout();
    const names = Array.from({ length: 16 }, (_, i) => `n${String(i).padStart(2, "0")}`);
    await Promise.all(
      names.map(async (name) => {
        const store = await openLayout({ path, mode: "write", durability: "none" });
        await store.tag(await putImage(store), name);
        await store.close();
      }),
    );
    const store = await openLayout({ path, mode: "read" });
    expect(await store.tags()).toEqual(names);
    await store.close();
  });
});

describe("the lock", () => {
  it("is taken over from a process that died, by one of several who want it", async () => {
    const path = join(await temporaryFolder(), "lock");
    const child = spawn(process.execPath, ["-e", "process.stdin.resume()"], { stdio: ["pipe", "ignore", "ignore"] });
    await once(child, "spawn");
    const [machine, boot, namespace] = newOwner().split("-");
    const stat = await readFile(`/proc/${child.pid}/stat`, "latin1");
    const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    await writeFile(path, `${machine}-${boot}-${namespace}-${child.pid}-${start}-${"a".repeat(12)}`);
    let taken = 0;
    const inside: number[] = [];
    const attempts = Array.from({ length: 6 }, () =>
      withFileLock(path, async () => {
        taken += 1;
        inside.push(taken);
        await readFile(path);
        taken -= 1;
      }),
    );
    await readFile(path);
    expect(inside).toEqual([]);
    child.kill("SIGKILL");
    await once(child, "exit");
    await Promise.all(attempts);
    expect(inside).toEqual([1, 1, 1, 1, 1, 1]);
    expect(await readdir(join(path, ".."))).toEqual([]);
  });

  it("of an earlier boot or a reused process id is stale, of another machine only after minutes", async () => {
    const folder = await temporaryFolder();
    const [machine = "", boot = "", namespace, pid, start] = newOwner().split("-");
    const stale = [
      [machine, "00000000", namespace, pid, start],
      [machine, boot, namespace, pid, "1"],
      [machine, boot, namespace, "4194300", "1"],
    ];
    for (const [i, parts] of stale.entries()) {
      const path = join(folder, `lock${i}`);
      await writeFile(path, [...parts, "b".repeat(12)].join("-"));
      await withFileLock(path, async () => undefined);
    }
    const foreign = join(folder, "foreign");
    await writeFile(foreign, ["ffffffff", boot, namespace, pid, start, "c".repeat(12)].join("-"));
    const abort = new AbortController();
    const waiting = withFileLock(foreign, async () => undefined, abort.signal);
    setImmediate(() => abort.abort());
    expect(await codeOf(waiting)).toBe("ERR_INTERRUPTED");
    const past = new Date(Date.now() - 600_000);
    await utimes(foreign, past, past);
    await withFileLock(foreign, async () => undefined);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe("a copy that was killed", () => {
  it("goes on where it was: only the rest moves, and what the dead process staged is swept", async () => {
    const folder = await temporaryFolder();
    const [source, destination] = [join(folder, "source"), join(folder, "destination")];
    const from = await openLayout({ path: source, mode: "write", durability: "none" });
    const image = await putImage(from, { layers: 12, layerSize: 700_000 });
    await from.tag(image, "v1");
    await from.close();
    const killed = execute(process.execPath, [script("copier.ts"), source, destination, "v1"], {
      env: { ...process.env, KILL_AFTER: "5" },
    });
    await expect(killed).rejects.toMatchObject({ signal: "SIGKILL" });
    const half = await openLayout({ path: destination, mode: "write" });
    expect(await half.tags()).toEqual([]);
    await half.close();
    expect((await readdir(destination)).filter((name) => name.startsWith(".ociseal-stage-"))).toHaveLength(1);
    const there = (await readdir(join(destination, "blobs/sha256"))).length;
    expect(there).toBeGreaterThanOrEqual(5);
    const { stdout } = await execute(process.execPath, [script("copier.ts"), source, destination, "v1"]);
    const summary = JSON.parse(stdout) as { readonly pushed: number; readonly present: number; readonly moved: number };
    expect(summary.present).toBe(there);
    expect(summary.pushed).toBe(14 - there);
    expect(summary.moved).toBeLessThan(12 * 701_000 - (there - 2) * 690_000);
    const store = await openLayout({ path: destination, mode: "read" });
    await copyGraph({ from: store, to: memoryStore(), root: await store.resolve("v1") });
    await store.close();
    expect((await readdir(destination)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });

  it("by a power failure does not trust what it left: torn blobs go, whole ones stay", async () => {
    const path = await newLayout();
    const first = await openLayout({ path, mode: "write" });
    const whole = await put(first, mediaTypes.layerTar, Buffer.alloc(3000, "w"));
    const torn = await put(first, mediaTypes.layerTar, Buffer.alloc(3000, "t"));
    await first.close();
    // As a file system may come back: the right name and size, the wrong bytes.
    await writeFile(blobFile(path, torn.digest), Buffer.alloc(3000, 0));
    const [machine, , namespace, pid, start] = newOwner().split("-");
    const left = (boot: string | undefined) =>
      join(path, `.ociseal-stage-${[machine, boot, namespace, pid, start, "d".repeat(12)].join("-")}`);
    await mkdir(left("00000000"));
    const second = await openLayout({ path, mode: "write" });
    let opened = 0;
    const source = async () => {
      opened += 1;
      return bytesStream(Buffer.alloc(3000, "t"));
    };
    expect(await second.push(whole, async () => bytesStream(Buffer.alloc(3000, "w")))).toBe("present");
    expect(await second.push(torn, source)).toBe("pushed");
    expect(opened).toBe(1);
    await second.close();
    expect((await readdir(path)).filter((name) => name.startsWith("."))).toEqual([]);
  });

  it("into an empty folder that a killed process left is a new copy", async () => {
    const path = await newLayout();
    await mkdir(join(path, `.ociseal-stage-${newOwner().replace(/-[0-9]+-([0-9]+)-/, "-4194300-$1-")}`), { recursive: true });
    const store = await openLayout({ path, mode: "write" });
    await store.tag(await putMultiPlatform(store), "v1");
    await store.close();
    expect((await readdir(path)).sort()).toEqual(["blobs", "index.json", "oci-layout"]);
  });
});
