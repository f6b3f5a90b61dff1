import { generateKeyPairSync } from "node:crypto";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { doctorIn, type Surroundings } from "../../cli/actions/doctor.ts";
import type { DoctorOptions, Finding } from "../../cli/doctor/finding.ts";
import { makeShell } from "../../cli/shell.ts";
import type { ErrorCategory } from "../../src/errors/index.ts";
import { generateRootKey, openMemoryStore, serveKbs } from "../../src/kbs/index.ts";
import { serveRegistry } from "../../src/registry-server/index.ts";

const { privateKey: ecKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const pkcs8 = ecKey.export({ type: "pkcs8", format: "pem" }).toString();
const publicPem = publicKey.export({ type: "spki", format: "pem" }).toString();

let root: string;
const closing: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "ociseal-doctor-"));
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await rm(root, { recursive: true, force: true });
});

afterAll(() => expect(closing).toEqual([]));

interface Visit {
  readonly options?: DoctorOptions;
  readonly env?: Readonly<Record<string, string>>;
  readonly surroundings?: Partial<Surroundings>;
}

async function visit(topic: string | undefined, { options = {}, env = {}, surroundings = {} }: Visit = {}) {
  const stdout = new PassThrough();
  let exit: ErrorCategory | undefined;
  const shell = makeShell(
    {
      stdin: process.stdin,
      stdout,
      stderr: new PassThrough().resume(),
      env: { XDG_RUNTIME_DIR: join(root, "run"), ...env },
      signal: new AbortController().signal,
      exitWith: (category) => (exit = category),
    },
    { json: true },
  );
  const doctor = doctorIn({ root, nodeVersion: "24.15.0", now: () => new Date(), ...surroundings });
  await doctor(shell, topic === undefined ? [] : [topic], options);
  stdout.end();
  const text = (await stdout.toArray()).join("");
  const document = JSON.parse(text) as { readonly healthy: boolean; readonly findings: readonly Finding[] };
  return { ...document, exit, text, verdicts: Object.fromEntries(document.findings.map(({ check, verdict }) => [check, verdict])) };
}

async function put(path: string, text: string, mode = 0o600): Promise<string> {
  const file = join(root, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text, { mode });
  await chmod(file, mode);
  return file;
}

async function listen(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  closing.push(async () => new Promise((resolve) => server.close(resolve)));
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
}

describe("ociseal doctor", () => {
  it("finds nothing wrong on a machine where nothing is configured, and gives every failure a fix", async () => {
    const all = await visit(undefined);
    expect(all).toMatchObject({ healthy: true, exit: undefined });
    expect(new Set(all.findings.map(({ topic }) => topic)).size).toBe(8);
    for (const topic of ["registry", "kbs", "keyprovider", "guest", "containerd", "crio"]) {
      const asked = await visit(topic);
      const failed = asked.findings.filter(({ verdict }) => verdict === "fail");
      expect(failed.length, topic).toBeGreaterThan(0);
      for (const { fix, check } of failed) expect(fix, `${topic} ${check}`).toBeTruthy();
      expect(asked.exit).toBeDefined();
    }
    await expect(visit("health")).rejects.toMatchObject({ code: "ERR_USAGE" });
  });

  it.each([
    ["22.22.1", "fail"],
    ["22.22.2", "ok"],
    ["23.11.0", "fail"],
    ["24.14.9", "fail"],
    ["24.15.0", "ok"],
    ["26.0.0", "ok"],
  ])("knows that Node.js %s is %s", async (nodeVersion, verdict) => {
    expect((await visit("runtime", { surroundings: { nodeVersion } })).verdicts).toMatchObject({ "Node.js": verdict });
  });

  it("looks into DOCKER_AUTH_CONFIG, and shows nothing of it", async () => {
    const auths = { "r.example": { auth: Buffer.from("ci:hunter2").toString("base64") } };
    const good = await visit("credentials", { env: { DOCKER_AUTH_CONFIG: JSON.stringify({ auths }) } });
    expect(good.verdicts).toMatchObject({ DOCKER_AUTH_CONFIG: "ok" });
    const broken = await visit("credentials", { env: { DOCKER_AUTH_CONFIG: '{"auths": {"hunter2"' } });
    expect(broken.verdicts).toMatchObject({ DOCKER_AUTH_CONFIG: "fail" });
    expect(broken.text).toContain("unset DOCKER_AUTH_CONFIG");
    expect(good.text + broken.text).not.toContain("hunter2");
  });

  it("sees credentials that others can read, that are no JSON, or whose helper is missing, and shows none of them", async () => {
    const path = await put("home/.docker/config.json", '{"auths":{"r.example":{"auth":"dTpzZWNyZXQ="}}}', 0o644);
    const env = { HOME: join(root, "home"), PATH: join(root, "bin") };
    expect((await visit("credentials", { env })).verdicts).toEqual({ [path]: "warn" });
    await put("home/.docker/config.json", '{"auths":{"r.example":"c2VjcmV0"');
    const broken = await visit("credentials", { env });
    expect(broken.verdicts).toEqual({ [path]: "fail" });
    expect(broken.text).not.toContain("c2Vj");
    // Each entry as it would be read; what has no colon in it is no user and password.
    await put("home/.docker/config.json", '{"auths":{"r.example":{"auth":"c2VjcmV0"},"s.example":{"auth":"!!"},"t.example":{}}}');
    const entries = await visit("credentials", { env });
    expect(entries.findings.filter(({ verdict }) => verdict === "fail").map(({ message }) => message)).toEqual([
      expect.stringContaining('auths["r.example"]'),
      expect.stringContaining('auths["s.example"]'),
    ]);
    expect(entries.text).not.toContain("c2Vj");
    await put("home/.docker/config.json", '{"credsStore":"vault"}');
    expect((await visit("credentials", { env })).findings.at(-1)).toMatchObject({ verdict: "fail" });
    await put("bin/docker-credential-vault", "#!/bin/sh\n", 0o755);
    expect((await visit("credentials", { env })).healthy).toBe(true);
  });

  it("asks a Key Broker Service for its health, and compares clocks", async () => {
    const server = await serveKbs({
      listen: { host: "127.0.0.1", port: 0 },
      mode: "development",
      store: openMemoryStore(),
      rootKeys: [generateRootKey()],
    });
    closing.push(async () => server.close());
    const healthy = await visit("kbs", { options: { kbs: server.url } });
    expect(healthy.verdicts).toEqual({ reachable: "ok", ready: "ok", clock: "ok" });
    for (const [ahead, verdict] of [
      [10_000, "warn"],
      [-10_000, "warn"],
      [120_000, "fail"],
      [-120_000, "fail"],
    ] as const) {
      const now = (): Date => new Date(Date.now() + ahead);
      expect((await visit("kbs", { options: { kbs: server.url }, surroundings: { now } })).verdicts["clock"], `${ahead}`).toBe(verdict);
    }
  });

  it("tells a service that is not ready, another service, and none apart", async () => {
    const sick = await listen(createServer((request, reply) => reply.writeHead(request.url === "/healthz" ? 200 : 503).end("{}")));
    expect(await visit("kbs", { options: { kbs: sick } })).toMatchObject({ verdicts: { ready: "fail" }, exit: "unavailable" });
    const trustee = await listen(createServer((request, reply) => reply.writeHead(request.url === "/healthz" ? 200 : 404).end()));
    expect(await visit("kbs", { options: { kbs: trustee } })).toMatchObject({
      verdicts: { reachable: "ok", ready: "not-checked" },
      exit: undefined,
    });
    const other = await listen(createServer((_request, reply) => reply.writeHead(404).end()));
    expect((await visit("kbs", { env: { OCISEAL_KBS_URL: other } })).verdicts).toMatchObject({ reachable: "warn" });
    expect((await visit("kbs", { options: { kbs: "http://127.0.0.1:9" } })).verdicts).toEqual({ reachable: "fail" });
    expect((await visit("kbs", { options: { kbs: "http://kbs.example" } })).findings[0]?.message).toContain("plain HTTP");
    expect((await visit("kbs", { options: { kbs: "kbs.example" } })).verdicts).toEqual({ address: "fail" });
  });

  it("knows whether a registry has the referrers API", async () => {
    const server = await serveRegistry({ listen: { host: "127.0.0.1", port: 0 }, storage: { kind: "memory" } });
    closing.push(async () => server.close());
    const ours = await visit("registry", { options: { registry: server.url.replace("http://", "") } });
    expect(ours.verdicts).toMatchObject({ API: "ok" });
    expect(ours.healthy).toBe(true);
    const old = await listen(createServer((request, reply) => reply.writeHead(request.url === "/v2/" ? 401 : 404).end()));
    expect((await visit("registry", { options: { registry: `${old.slice(7)}/org/app` } })).verdicts).toEqual({
      API: "ok",
      "referrers API": "warn",
    });
    const none = await listen(createServer((_request, reply) => reply.writeHead(404).end()));
    expect((await visit("registry", { options: { registry: none.slice(7) } })).verdicts).toEqual({ API: "fail" });
  });

  it("recognises a guest, and that it cannot report", async () => {
    await put("dev/tdx_guest", "");
    expect(await visit("guest")).toMatchObject({ verdicts: { TEE: "ok", reports: "fail" }, exit: "attestation" });
    await mkdir(join(root, "sys/kernel/config/tsm/report"), { recursive: true });
    expect((await visit(undefined)).verdicts).toMatchObject({ TEE: "ok", reports: "ok" });
  });

  it("says what a guest lacks to unpack images whole", async () => {
    expect((await visit("guest")).verdicts).toMatchObject({ helpers: "warn", proc: "fail" });
    for (const program of ["usr/bin/setfattr", "bin/mknod", "bin/mkfifo"]) await put(program, "#!/bin/sh\n", 0o755);
    await put("proc/self/stat", "1");
    const { verdicts } = await visit("guest");
    expect(verdicts).toMatchObject({ helpers: "ok" });
    expect(verdicts).not.toHaveProperty("proc");
  });

  it("follows the key provider configuration to programs and sockets", async () => {
    const program = await put("bin/provider", "#!/bin/sh\n", 0o755);
    const address = (await listen(createServer())).slice(7);
    const config = (providers: object): Promise<string> => put("ocicrypt.json", JSON.stringify({ "key-providers": providers }));
    const env = { OCICRYPT_KEYPROVIDER_CONFIG: await config({ a: { cmd: { path: program } }, b: { grpc: address } }) };
    expect((await visit("keyprovider", { env })).verdicts).toEqual({ configuration: "ok", a: "ok", b: "ok" });
    await config({ a: { cmd: { path: `${program}-not` } }, b: { grpc: "127.0.0.1:9" }, c: { grpc: `unix:${join(root, "no.sock")}` } });
    expect((await visit("keyprovider", { env })).verdicts).toEqual({ configuration: "ok", a: "fail", b: "fail", c: "fail" });
    await put("ocicrypt.json", "[");
    expect((await visit("keyprovider", { env })).verdicts).toEqual({ configuration: "fail" });
  });

  it("reads containerd's stream processors", async () => {
    const config = (path: string): Promise<string> =>
      put(
        "etc/containerd/config.toml",
        `version = 2\n[stream_processors."io.containerd.ocicrypt.decoder.v1.tar"]\naccepts = ["application/vnd.oci.image.layer.v1.tar+encrypted"]\npath = "${path}"\n`,
      );
    await config("/usr/bin/ociseal");
    expect((await visit("containerd")).verdicts).toEqual({ "io.containerd.ocicrypt.decoder.v1.tar": "fail" });
    await put("usr/bin/ociseal", "", 0o755);
    expect((await visit("containerd")).healthy).toBe(true);
    await put("etc/containerd/config.toml", "version = 2\n");
    expect((await visit("containerd")).verdicts).toEqual({ "stream processor": "fail" });
    await put("etc/containerd/config.toml", "version = [\n");
    expect((await visit("containerd")).verdicts).toEqual({ configuration: "fail" });
  });

  it("reads CRI-O's keys and the signature policy", async () => {
    await put("etc/crio/crio.conf", '[crio.image]\nsignature_policy = "/etc/crio/policy.json"\n');
    await put("etc/crio/crio.conf.d/10-keys.conf", '[crio.runtime]\ndecryption_keys_path = "/etc/keys"\n');
    await put("etc/keys/team.key", pkcs8, 0o644);
    await put("etc/crio/policy.json", '{"default":[{"type":"insecureAcceptAnything"}]}');
    const crio = await visit("crio");
    expect(crio.findings.map(({ check, verdict }) => [check, verdict])).toEqual([
      ["keys", "ok"],
      ["team.key", "warn"],
      ["policy", "warn"],
    ]);
  });

  it("names each file in CRI-O's folder for which it pulls nothing, also below and hidden", async () => {
    await put("etc/crio/crio.conf", "");
    await put("etc/containers/policy.json", '{"default":[{"type":"reject"}]}');
    await put("etc/crio/keys/team.key", pkcs8);
    await put("etc/crio/keys/team.crt.d/empty", "");
    await put("etc/crio/keys/token.yaml", "pkcs11:\n  uri: pkcs11:object=a\n");
    expect(await visit("crio")).toMatchObject({ healthy: true, verdicts: { keys: "ok", policy: "ok" } });
    await put("etc/crio/keys/README", "put keys here\n");
    await put("etc/crio/keys/below/.team.pub", publicPem);
    await put(
      "etc/crio/keys/locked.key",
      ecKey.export({ type: "pkcs8", format: "pem", cipher: "aes-128-cbc", passphrase: "x" }).toString(),
    );
    await put("etc/crio/keys/sec1.key", ecKey.export({ type: "sec1", format: "pem" }).toString());
    await symlink("team.key", join(root, "etc/crio/keys/link.key"));
    const { verdicts, text } = await visit("crio");
    for (const name of ["README", "below/.team.pub", "locked.key", "sec1.key", "link.key"])
      expect(verdicts).toMatchObject({ [name]: "fail" });
    expect(text).toContain("pulls no image at all");
    expect(verdicts["team.key"]).toBeUndefined();
  });

  it.each([
    [
      "etc/systemd/system/crio.service.d/ocicrypt.conf",
      "[Service]\nEnvironment=A=b 'OCICRYPT_KEYPROVIDER_CONFIG=/etc/crio/providers.json'\n",
    ],
    ["etc/sysconfig/crio", "# for the unit\nOCICRYPT_KEYPROVIDER_CONFIG=/etc/crio/providers.json\n"],
  ])("finds CRI-O's key providers by %s, beside which keys are not needed", async (file, text) => {
    await put("etc/crio/crio.conf", "");
    await put("etc/containers/policy.json", '{"default":[{"type":"reject"}]}');
    expect((await visit("crio")).verdicts).toMatchObject({ keys: "warn" });
    await put(file, text);
    expect((await visit("crio")).verdicts).toMatchObject({ keys: "ok", configuration: "fail" });
    await put("etc/crio/providers.json", '{"key-providers":{"attestation-agent":{"cmd":{"path":"/nowhere/x"}}}}');
    expect((await visit("crio")).verdicts).toMatchObject({ configuration: "ok", "attestation-agent": "fail" });
  });
});
