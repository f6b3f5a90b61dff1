import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { missingPeers, peer, type PeerName } from "../peers.ts";
import { cleanEnvironment, ociseal, startServer, type Outcome } from "./run.ts";
import { freePort } from "../free-port.ts";

const skopeos = ["skopeo-1.18", "skopeo-1.22"] as const;
const cosigns = ["cosign-2.5", "cosign-3.1"] as const;

let folder: string;
let digest: string;
const run = (...args: string[]): Promise<Outcome> => ociseal(args, { cwd: folder, env: { COSIGN_PASSWORD: "secret" } });

function program(name: PeerName, ...args: readonly string[]): Promise<Outcome> {
  return new Promise((done) => {
    const env = cleanEnvironment({ HOME: folder, COSIGN_PASSWORD: "secret" });
    execFile(peer(name) ?? name, [...args], { cwd: folder, env, timeout: 50_000 }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
    });
  });
}

async function indexDigest(layout: string): Promise<string | undefined> {
  const index = JSON.parse(await readFile(join(folder, layout, "index.json"), "utf8")) as { manifests: { digest: string }[] };
  return index.manifests[0]?.digest;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-peers-"));
  const layers = [1, 2].map((n) => ({ entries: [{ kind: "file" as const, path: `file${n}`, content: Buffer.alloc(50_000, n) }] }));
  const image = await makeImage({ layers, platform: { os: "linux", architecture: "amd64" }, run: { Entrypoint: ["/file1"] } });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, image, "app");
  await layout.close();
  digest = image.descriptor.digest;
  for (const args of [
    ["ec", "--out", "ec"],
    ["rsa", "--out", "rsa", "--bits", "2048"],
    ["cosign", "--out", "cosign"],
  ]) {
    expect(await run("key", "generate", ...args)).toMatchObject({ status: 0 });
  }
});

afterAll(() => rm(folder, { recursive: true, force: true }));

describe.skipIf(missingPeers(...skopeos))("skopeo", () => {
  it.each(skopeos.flatMap((skopeo) => ["ec", "rsa"].map((key) => [skopeo, key] as const)))(
    "%s opens what --profile ocicrypt made for an %s key",
    async (skopeo, key) => {
      const sealed = `sealed-${skopeo}-${key}`;
      const made = await run("encrypt", "oci:image:app", `oci:${sealed}:app`, "--profile", "ocicrypt", "-r", `jwe:${key}.pub`);
      expect(made, made.stderr).toMatchObject({ status: 0 });
      const opened = await program(
        skopeo,
        "--insecure-policy",
        "copy",
        "--decryption-key",
        `${key}.key`,
        `oci:${sealed}:app`,
        `oci:${sealed}-open:app`,
      );
      expect(opened, opened.stderr).toMatchObject({ status: 0 });
      expect(await indexDigest(`${sealed}-open`)).toBe(digest);
    },
  );

  it.each(skopeos.flatMap((skopeo) => ["ec", "rsa"].map((key) => [skopeo, key] as const)))(
    "%s encrypts for an %s key, and we open it",
    async (skopeo, key) => {
      const sealed = `theirs-${skopeo}-${key}`;
      const made = await program(
        skopeo,
        "--insecure-policy",
        "copy",
        "--encryption-key",
        `jwe:${key}.pub`,
        "oci:image:app",
        `oci:${sealed}:app`,
      );
      expect(made, made.stderr).toMatchObject({ status: 0 });
      const opened = await run("decrypt", `oci:${sealed}:app`, `oci:${sealed}-open:app`, "-k", `${key}.key`);
      expect(opened, opened.stderr).toMatchObject({ status: 0 });
      expect(await indexDigest(`${sealed}-open`)).toBe(digest);
      // skopeo names nobody in its packets; such recipients go by their scheme.
      const other = key === "ec" ? "rsa" : "ec";
      const change = ["-k", `${key}.key`, "--add", `jwe:${other}.pub`, "--remove", "jwe:?"];
      const changed = await run("rewrap", `oci:${sealed}:app`, `oci:${sealed}-moved:app`, ...change);
      expect(changed, changed.stderr).toMatchObject({ status: 0 });
      const moved = (opener: string): Promise<Outcome> =>
        run("decrypt", `oci:${sealed}-moved:app`, `oci:${sealed}-${opener}:app`, "-k", `${opener}.key`);
      expect(await moved(key)).toMatchObject({ status: 7 });
      expect(await moved(other)).toMatchObject({ status: 0 });
      expect(await indexDigest(`${sealed}-${other}`)).toBe(digest);
    },
  );
});

describe.skipIf(missingPeers("docker-registry", ...cosigns, "skopeo-1.22"))("cosign and docker-registry", () => {
  it("store, verify and are verified, both ways", async () => {
    const port = await freePort();
    await writeFile(
      join(folder, "registry.yml"),
      `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${folder}/registry}, delete: {enabled: true}}\nhttp: {addr: 127.0.0.1:${port}}\n`,
    );
    const registry = execFile(peer("docker-registry") ?? "", ["serve", join(folder, "registry.yml")]);
    try {
      const name = `127.0.0.1:${port}/app`;
      await until(async () => (await fetch(`http://127.0.0.1:${port}/v2/`)).ok);
      const sealed = await run("encrypt", "oci:image:app", `${name}:1`, "-r", "jwe:ec.pub", "--sign-key", "cosign.key");
      expect(sealed, sealed.stderr).toMatchObject({ status: 0 });
      for (const cosign of cosigns) {
        const theirs = await program(
          cosign,
          "verify",
          "--key",
          "cosign.pub",
          "--insecure-ignore-tlog=true",
          "--allow-http-registry",
          `${name}:1`,
        );
        expect(theirs, `${cosign}: ${theirs.stderr}`).toMatchObject({ status: 0 });
      }
      expect(
        await program(
          "skopeo-1.22",
          "copy",
          "--insecure-policy",
          "--src-tls-verify=false",
          "--dest-tls-verify=false",
          "oci:image:app",
          `docker://${name}:plain`,
        ),
      ).toMatchObject({ status: 0 });
      const signed = await program(
        "cosign-2.5",
        "sign",
        "--key",
        "cosign.key",
        "--tlog-upload=false",
        "--yes",
        "--allow-http-registry",
        `${name}:plain`,
      );
      expect(signed, signed.stderr).toMatchObject({ status: 0 });
      const ours = await run("verify", "--key", "cosign.pub", `${name}:plain`);
      expect(ours, ours.stderr).toMatchObject({ status: 0 });
    } finally {
      registry.kill();
    }
  });
});

describe("the embedded registry", () => {
  it("hands ranges out, so that cat moves no more than it needs", async () => {
    const server = await startServer(["registry", "serve", "--listen", "127.0.0.1:0"], { cwd: folder });
    try {
      const name = `${(server.ready["listening"] ?? "").replace("http://", "")}/app:1`;
      expect(await run("encrypt", "oci:image:app", name, "-r", "jwe:ec.pub")).toMatchObject({ status: 0 });
      const cat = (...args: string[]): Promise<Outcome> =>
        ociseal(["cat", name, "-k", "ec.key", ...args], { cwd: folder, encoding: "latin1" });
      const whole = await cat("--layer", "1");
      expect(whole, whole.stderr).toMatchObject({ status: 0 });
      const part = await cat("--layer", "1", "--range", "3-20");
      expect(part.stdout).toBe(whole.stdout.slice(3, 21));
      expect(await cat("--layer", "9")).toMatchObject({ status: 2 });
      expect(await run("lint", "--profile", "coco", name)).toMatchObject({ status: 6 });
    } finally {
      await server.stop();
    }
  });
});

async function until(ready: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    if (await ready().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the peer did not start");
}
