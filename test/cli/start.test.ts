import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { ociseal, startServer, type Outcome } from "./run.ts";

let folder: string;
let registry: Awaited<ReturnType<typeof startServer>>;
let host: string;

const env = { COSIGN_PASSWORD: "" };
const run = (args: readonly string[], extra: Readonly<Record<string, string | undefined>> = {}): Promise<Outcome> =>
  ociseal(args, { cwd: folder, env: { ...env, ...extra } });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-start-"));
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, await makeImage({ layers: [{ entries: [{ kind: "file", path: "a", content: Buffer.from("a") }] }] }), "app");
  await layout.close();
  registry = await startServer(["registry", "serve", "--listen", "127.0.0.1:0"], { cwd: folder });
  host = (registry.ready["listening"] ?? "").replace("http://", "");
  for (const args of [
    ["key", "generate", "cosign", "--out", "cosign"],
    ["copy", "oci:image:app", `docker://${host}/app:1`],
    ["sign", "--key", "cosign.key", `${host}/app:1`],
  ]) {
    const done = await run(args);
    expect(done, done.stderr).toMatchObject({ status: 0 });
  }
  await writeFile(
    join(folder, "loaded.cjs"),
    `process.on("exit", () => {
      const chunks = Object.keys(require.cache).filter((path) => path.includes("bundle"));
      process.stderr.write(JSON.stringify({ modules: process.moduleLoadList, chunks }));
    });`,
  );
});

afterAll(async () => {
  await registry.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What a command line loads of Node.js and of the bundle. */
async function loadedBy(...args: readonly string[]): Promise<{ readonly modules: readonly string[]; readonly chunks: readonly string[] }> {
  const done = await run(args, { NODE_OPTIONS: `--require=${join(folder, "loaded.cjs")}` });
  expect(done, done.stderr).toMatchObject({ status: 0 });
  return JSON.parse(done.stderr) as never;
}

describe("an older Node.js", () => {
  it("is told so in one line, or in one document", async () => {
    await writeFile(
      join(folder, "old.cjs"),
      'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.19.0" } });',
    );
    const old = { NODE_OPTIONS: `--require=${join(folder, "old.cjs")}` };
    const line = "error: ociseal needs Node.js 22.22.2 or newer 22, or 24.15 and newer; this is 20.19.0\n";
    expect(await run(["inspect", "oci:image"], old)).toEqual({ status: 2, stdout: "", stderr: line });
    const { status, stdout, stderr } = await run(["inspect", "oci:image", "--json"], old);
    expect([status, stderr]).toEqual([2, ""]);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: "ERR_USAGE", message: line.slice("error: ".length).trim() } });
  });
});

describe("the bundle", () => {
  it("loads neither TLS nor HTTP/2 nor fetch to verify a signature over plain HTTP", async () => {
    const { modules, chunks } = await loadedBy("verify", "--key", "cosign.pub", `${host}/app:1`);
    expect(modules).toContain("NativeModule net");
    for (const name of ["tls", "http", "http2", "zlib", "child_process", "worker_threads", "perf_hooks", "assert"]) {
      expect(modules, name).not.toContain(`NativeModule ${name}`);
    }
    expect(chunks.filter((path) => /kbs|attest|yaml|sigstore|verify-evidence|bundle\/undici-/.test(path))).toEqual([]);
  });

  it("loads no client of registries to look at a folder", async () => {
    const { modules, chunks } = await loadedBy("inspect", "oci:image:app");
    expect(modules).not.toContain("NativeModule tls");
    expect(chunks.length).toBeGreaterThan(5);
    expect(chunks.filter((path) => /registry-access|proxy-agent/.test(path))).toEqual([]);
  });

  it("keeps compiled code below the user's own folder, and does without where there is none", async () => {
    await run(["--version"], { XDG_CACHE_HOME: join(folder, "cache") });
    const [version = ""] = await readdir(join(folder, "cache/ociseal"));
    expect(version).toContain(process.version);
    // A file, a folder that cannot be made, one in which nothing can be made, none at all.
    for (const home of [join(folder, "cosign.pub"), "/nonexistent", "/proc", undefined]) {
      expect(await run(["--version"], { XDG_CACHE_HOME: undefined, HOME: home })).toMatchObject({ status: 0, stderr: "" });
    }
  });
});
