import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, pushImage } from "../../registry-fixtures/index.ts";
import { generateRootKey, openMemoryStore, serveKbs, connectKbsAdmin, type KbsAdmin, type KbsServer } from "../../src/kbs/index.ts";
import { serveRegistry } from "../../src/registry-server/index.ts";
import { openLayout } from "../../src/store/index.ts";
import { cleanEnvironment, ociseal, program, startServer, type Outcome } from "../cli/run.ts";
import { missingPeers, peer } from "../peers.ts";

const skopeos = ["skopeo-1.18", "skopeo-1.22"] as const;
type Skopeo = (typeof skopeos)[number];

let folder: string;
let kbs: KbsServer;
let admin: KbsAdmin;
let digest: string;
const stops: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-keyprovider-"));
  kbs = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: openMemoryStore(),
    rootKeys: [generateRootKey()],
    mode: "development",
  });
  admin = connectKbsAdmin({ url: kbs.url, token: kbs.adminToken ?? "" });
  await writeFile(join(folder, "token"), `${kbs.adminToken ?? ""}\n`);
  const layers = [1, 2].map((n) => ({ entries: [{ kind: "file" as const, path: `file${n}`, content: Buffer.alloc(40_000, n) }] }));
  const image = await makeImage({ layers, platform: { os: "linux", architecture: "amd64" }, run: { Entrypoint: ["/file1"] } });
  const layout = await openLayout({ path: join(folder, "image"), mode: "write", durability: "none" });
  await pushImage(layout, image, "app");
  await layout.close();
  digest = image.descriptor.digest;
  const connected = ["--kbs", kbs.url, "--kbs-admin-token", join(folder, "token"), "--tee", "sample"];
  await configure("cmd", { cmd: { path: process.execPath, args: [program, "keyprovider", "exec", ...connected] } });
  const socket = join(folder, "provider.sock");
  for (const [name, listen] of [["tcp", "127.0.0.1:0"] as const, ["unix", `unix:${socket}`] as const]) {
    const server = await startServer(["keyprovider", "serve", "--listen", listen, ...connected], { cwd: folder });
    stops.push(() => server.stop());
    await configure(name, { grpc: server.ready["listening"] });
  }
});

afterAll(async () => {
  const statuses = await Promise.all(stops.map((stop) => stop()));
  await admin.close();
  await kbs.close({ graceMs: 100 });
  await rm(folder, { recursive: true, force: true });
  // SIGTERM is the normal end.
  expect(statuses).toEqual([0, 0]);
});

function configure(name: string, provider: unknown): Promise<void> {
  return writeFile(join(folder, `${name}.json`), JSON.stringify({ "key-providers": { "attestation-agent": provider } }));
}

function skopeo(name: Skopeo, way: string, ...args: readonly string[]): Promise<Outcome> {
  return new Promise((done) => {
    const env = cleanEnvironment({ HOME: folder, OCICRYPT_KEYPROVIDER_CONFIG: join(folder, `${way}.json`) });
    execFile(peer(name) ?? name, ["--insecure-policy", ...args], { cwd: folder, env, timeout: 55_000 }, (error, stdout, stderr) => {
      done({ status: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr });
    });
  });
}

interface Manifest {
  readonly layers: readonly { readonly mediaType: string; readonly annotations?: Readonly<Record<string, string>> }[];
}

async function indexDigest(layout: string): Promise<string> {
  const index = JSON.parse(await readFile(join(folder, layout, "index.json"), "utf8")) as { manifests: { digest: string }[] };
  return index.manifests[0]?.digest ?? "";
}

async function kids(layout: string): Promise<readonly string[]> {
  const path = join(folder, layout, "blobs", ...(await indexDigest(layout)).split(":"));
  const { layers } = JSON.parse(await readFile(path, "utf8")) as Manifest;
  return layers.map(({ mediaType, annotations = {} }) => {
    expect(mediaType).toBe("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    const packet = Buffer.from(annotations["org.opencontainers.image.enc.keys.provider.attestation-agent"] ?? "", "base64").toString();
    return (JSON.parse(packet) as { kid: string }).kid;
  });
}

const ways = ["cmd", "tcp", "unix"] as const;

describe.skipIf(missingPeers(...skopeos))("skopeo", () => {
  it.each(skopeos.flatMap((name) => ways.map((way) => [name, way] as const)))(
    "%s encrypts for kbs:///default/image-key by %s, and decrypts; one key for all layers, kept at the KBS",
    async (name, way) => {
      const sealed = `${name}-${way}`;
      const made = await skopeo(
        name,
        way,
        "copy",
        "--encryption-key",
        "provider:attestation-agent:kbs:///default/image-key",
        "oci:image:app",
        `oci:${sealed}:app`,
      );
      expect(made, made.stderr).toMatchObject({ status: 0 });
      const [kid = "", ...others] = await kids(sealed);
      expect(kid).toMatch(/^kbs:\/\/\/default\/image-key\/[a-z0-9-]+$/);
      expect(others).toEqual([kid]);
      expect(await admin.getResource(kid)).toHaveLength(32);
      const opened = await skopeo(name, way, "copy", "--decryption-key", "provider:any", `oci:${sealed}:app`, `oci:${sealed}-open:app`);
      expect(opened, opened.stderr).toMatchObject({ status: 0 });
      expect(await indexDigest(`${sealed}-open`)).toBe(digest);
    },
  );

  it("skopeo-1.22 wraps several layers at once into a registry, still under one key", async () => {
    const server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
    try {
      const layers = [1, 2, 3, 4].map((n) => ({ entries: [{ kind: "file" as const, path: `file${n}`, content: Buffer.alloc(3000, n) }] }));
      const image = await makeImage({ layers, platform: { os: "linux", architecture: "amd64" } });
      const layout = await openLayout({ path: join(folder, "wide"), mode: "write", durability: "none" });
      await pushImage(layout, image, "app");
      await layout.close();
      const name = `docker://${server.url.replace("http://", "")}/app:1`;
      const recipient = "provider:attestation-agent:kbs:///default/image-key";
      const made = await skopeo(
        "skopeo-1.22",
        "cmd",
        "copy",
        "--dest-tls-verify=false",
        "--encryption-key",
        recipient,
        "oci:wide:app",
        name,
      );
      expect(made, made.stderr).toMatchObject({ status: 0 });
      const back = await skopeo("skopeo-1.22", "cmd", "copy", "--src-tls-verify=false", name, "oci:wide-back:app");
      expect(back, back.stderr).toMatchObject({ status: 0 });
      const found = await kids("wide-back");
      expect(found).toHaveLength(4);
      expect(new Set(found).size).toBe(1);
    } finally {
      await server.close();
    }
  });

  it.each(["skopeo-1.18"] as const)("%s encrypts, and we open it at the KBS and through the provider", async (name) => {
    const made = await skopeo(
      name,
      "tcp",
      "copy",
      "--encryption-key",
      "provider:attestation-agent:keyid=kbs:///default/key/named",
      "oci:image:app",
      `oci:${name}-named:app`,
    );
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(new Set(await kids(`${name}-named`))).toEqual(new Set(["kbs:///default/key/named"]));
    const env = { OCICRYPT_KEYPROVIDER_CONFIG: join(folder, "tcp.json") };
    for (const [key, more] of [
      ["kbs", ["--kbs", kbs.url, "--tee", "sample"]],
      ["provider:attestation-agent", []],
    ] as const) {
      const opened = await ociseal(["decrypt", `oci:${name}-named:app`, `oci:${name}-${key.slice(0, 3)}:app`, "-k", key, ...more], {
        cwd: folder,
        env,
      });
      expect(opened, opened.stderr).toMatchObject({ status: 0 });
      expect(await indexDigest(`${name}-${key.slice(0, 3)}`)).toBe(digest);
    }
  });

  it.each(["skopeo-1.22"] as const)("%s opens what we encrypted through the provider", async (name) => {
    const env = { OCICRYPT_KEYPROVIDER_CONFIG: join(folder, "cmd.json") };
    const recipient = "provider:attestation-agent:kbs:///default/image-key";
    const made = await ociseal(["encrypt", "--profile", "ocicrypt", "-r", recipient, "oci:image:app", `oci:${name}-ours:app`], {
      cwd: folder,
      env,
    });
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect(new Set(await kids(`${name}-ours`)).size).toBe(1);
    const opened = await skopeo(name, "unix", "copy", "--decryption-key", "provider:any", `oci:${name}-ours:app`, `oci:${name}-theirs:app`);
    expect(opened, opened.stderr).toMatchObject({ status: 0 });
    expect(await indexDigest(`${name}-theirs`)).toBe(digest);
  });

  it.each(["skopeo-1.22"] as const)(
    "%s fails, and writes nothing that nobody could open, when the KBS refuses or a parameter is unknown",
    async (name) => {
      const cmd = {
        path: process.execPath,
        args: [program, "keyprovider", "exec", "--kbs", kbs.url, "--kbs-admin-token", join(folder, "wrong")],
      };
      await writeFile(join(folder, "wrong"), "wrong");
      await configure("wrong", { cmd });
      const copy = (way: string, parameter: string): Promise<Outcome> =>
        skopeo(name, way, "copy", "--encryption-key", `provider:attestation-agent:${parameter}`, "oci:image:app", `oci:${name}-fails:app`);
      const denied = await copy("wrong", "kbs:///default/image-key");
      expect(denied.status).not.toBe(0);
      expect(denied.stderr).toContain("ERR_KBS_ADMIN_DENIED");
      for (const way of ["cmd", "tcp"]) {
        const unknown = await copy(way, "keyid=kbs:///a/b/c::colour=blue");
        expect(unknown.status).not.toBe(0);
        expect(unknown.stderr).toContain("ERR_KEYPROVIDER_PARAMETER");
      }
    },
  );
});

describe("ociseal keyprovider exec", () => {
  it("says nothing of what it wraps, also when it fails", async () => {
    const request = {
      op: "keywrap",
      keywrapparams: { ec: { Parameters: { "attestation-agent": ["c2FtcGxl"] } }, optsdata: "c2VjcmV0LXNlY3JldA==" },
    };
    const input = JSON.stringify(request);
    const refused = await ociseal(["keyprovider", "exec"], { cwd: folder, input });
    expect(refused).toMatchObject({ status: 2, stdout: "" });
    const made = await ociseal(["keyprovider", "exec", "--allow-sample"], { cwd: folder, input });
    expect(made.status, made.stderr).toBe(0);
    for (const { stdout, stderr } of [refused, made]) expect(`${stdout}${stderr}`).not.toMatch(/c2VjcmV0|secret-secret/);
  });
});
