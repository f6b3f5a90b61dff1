import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodedOf } from "../../src/bytes/index.ts";
import { makeHelloImage } from "../../registry-fixtures/index.ts";
import { caCertificate, serverCertificate, serverKey } from "../registry/test-certificates.ts";
import { missingPeers, missingRoot } from "../peers.ts";
import { answer, startFaultServer } from "../registry/fault-server.ts";
import { emptyConfig, manifestOf } from "../registry/images.ts";
import { run as program } from "../registry-server/programs.ts";
import { ociseal, startServer } from "./run.ts";

let folder: string;
const user = "alice:$2y$05$ociseal/test/salt.....2F6YtRgiyiXfRmd98mpSvFhVY/KfHG2\n";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-serve-"));
  const image = await makeHelloImage();
  await mkdir(join(folder, "image/blobs/sha256"), { recursive: true });
  for (const { descriptor, bytes } of image.contents)
    await writeFile(join(folder, "image/blobs/sha256", encodedOf(descriptor.digest)), bytes);
  const entry = { ...image.descriptor, annotations: { "org.opencontainers.image.ref.name": "app" } };
  await writeFile(join(folder, "image/index.json"), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  await writeFile(join(folder, "image/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await mkdir(join(folder, "certs"));
  await writeFile(join(folder, "certs/ca.crt"), caCertificate);
  await writeFile(join(folder, "site.pem"), serverCertificate);
  await writeFile(join(folder, "site.key"), serverKey);
  await writeFile(join(folder, "users"), user);
  await writeFile(join(folder, "password"), "open:sesame\n");
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const run = (...args: readonly string[]) => ociseal(args, { cwd: folder });

describe("registry serve", () => {
  it("serves TLS, lets everybody pull and those with a password push", async () => {
    const tls = ["--tls-cert", "site.pem", "--tls-key", "site.key"];
    const server = await startServer(
      ["registry", "serve", "--quiet", "--listen", "127.0.0.1:0", ...tls, "--htpasswd", "users", "--anonymous-pull"],
      { cwd: folder },
    );
    try {
      expect(server.ready).toMatchObject({ auth: "token", storage: "memory" });
      const host = (server.ready["listening"] ?? "").replace("https://", "");
      const trust = ["--tls-ca", "certs/ca.crt"];
      expect(await run("copy", "oci:image:app", `${host}/app:1`, ...trust)).toMatchObject({ status: 5 });
      const login = await run("login", host, ...trust, "--authfile", "auth.json", "-u", "alice", "--password-file", "password");
      expect(login, login.stderr).toMatchObject({ status: 0 });
      const pushed = await run("copy", "oci:image:app", `${host}/app:1`, ...trust, "--creds-file", "auth.json");
      expect(pushed, pushed.stderr).toMatchObject({ status: 0 });
      expect(await run("copy", `${host}/app:1`, "oci:pulled:app", ...trust)).toMatchObject({ status: 0 });
      if (missingPeers("skopeo-1.22")) return;
      const skopeo = ["copy", "--insecure-policy", "--src-cert-dir", "certs", "--dest-cert-dir", "certs"];
      expect(await program("skopeo-1.22", [...skopeo, `docker://${host}/app:1`, "oci:theirs:app"], folder)).toMatchObject({ code: 0 });
      const push = [...skopeo, "oci:theirs:app", `docker://${host}/app:2`];
      expect(await program("skopeo-1.22", push, folder)).not.toMatchObject({ code: 0 });
      const login2 = [...push, "--dest-creds", "alice:open:sesame"];
      expect(await program("skopeo-1.22", login2, folder)).toMatchObject({ code: 0 });
    } finally {
      expect(await server.stop()).toBe(0);
    }
  });

  it.each([
    [["--tls-cert", "site.pem"], "--tls-cert and --tls-key go together"],
    [["--tls-client-ca", "certs/ca.crt"], "--tls-client-ca goes with"],
    [["--anonymous-pull"], "--anonymous-pull goes with --htpasswd"],
    [["--push-user", "alice"], "--push-user goes with --htpasswd"],
    [["--gc-untagged"], "--gc-untagged goes with --gc-every"],
    [["--gc-every", "soon"], "--gc-every takes a time"],
    [["--gc-every", "1h", "--gc-grace", "5s"], "--gc-grace takes at least 1m"],
    [["--htpasswd", "password"], "line 1 has no bcrypt hash"],
    [["--tls-cert", "users", "--tls-key", "users"], "certificate and key cannot be used"],
  ])("refuses %j", async (flags, message) => {
    const refused = await run("registry", "serve", "--listen", "127.0.0.1:0", "--storage", "never", ...flags);
    expect(refused).toMatchObject({ status: 2, stdout: "" });
    expect(refused.stderr).toContain(message);
  });
});

const podmanAndSkopeo = ["podman-5.4", "skopeo-1.22"] as const;

describe.skipIf(missingPeers(...podmanAndSkopeo) || missingRoot("podman"))("login", () => {
  it("writes what podman and skopeo read, reads what they write, and logs out of it", async () => {
    const home = join(folder, "home");
    await mkdir(home);
    const server = await startServer(["registry", "serve", "--quiet", "--listen", "127.0.0.1:0", "--htpasswd", "users"], { cwd: folder });
    const host = (server.ready["listening"] ?? "").replace("http://", "");
    const ours = (...args: readonly string[]) => ociseal(args, { cwd: folder, env: { HOME: home, XDG_RUNTIME_DIR: home } });
    const enter = ["-u", "alice", "--password-stdin", host];
    try {
      for (const peer of podmanAndSkopeo) {
        const login = ["login", host, "-u", "alice", "--password-file", "password"];
        expect(await ours(...login)).toMatchObject({ status: 0 });
        const read = await program(peer, ["login", "--get-login", host], home);
        expect(read, read.stderr).toMatchObject({ code: 0, stdout: "alice\n" });
        expect(await program(peer, ["logout", host], home)).toMatchObject({ code: 0 });
        expect(await ours("inspect", `${host}/app:1`)).toMatchObject({ status: 5 });
        const theirs = ["login", "--tls-verify=false", "--authfile", join(home, "containers/auth.json"), ...enter];
        const entered = await program(peer, theirs, home, {}, "open:sesame");
        expect(entered, entered.stderr).toMatchObject({ code: 0 });
        // Past the password: what is asked for is not there.
        expect(await ours("inspect", `${host}/app:1`)).toMatchObject({ status: 3 });
        expect(await ours("logout", host)).toMatchObject({ status: 0 });
        expect(await program(peer, ["login", "--get-login", host], home)).not.toMatchObject({ code: 0 });
      }
    } finally {
      expect(await server.stop()).toBe(0);
    }
  });
});

describe("a token service elsewhere", () => {
  it("gets a registry's credentials only when the pair is allowed", async () => {
    const registry = await startFaultServer();
    const service = await startFaultServer();
    try {
      const image = manifestOf(emptyConfig, []);
      registry.seed(emptyConfig);
      registry.seed(image, "1");
      registry.on("*", /^\/v2\//, (context) =>
        context.request.headers.authorization === "Bearer granted"
          ? context.pass()
          : answer(401, { "www-authenticate": `Bearer realm="${service.origin}/token",service="test"` })(context),
      );
      service.on("GET", /^\/token/, answer(200, {}, '{"token":"granted"}'));
      const auths = { [registry.host]: { auth: Buffer.from("alice:open").toString("base64") } };
      await writeFile(join(folder, "elsewhere.json"), JSON.stringify({ auths }));
      const pull = ["copy", `${registry.host}/app:1`, "oci:elsewhere:1", "--creds-file", "elsewhere.json"];
      const refused = await run(...pull);
      expect(refused).toMatchObject({ status: 5 });
      expect(refused.stderr).toContain(`error: source: manifest 1 of docker://${registry.host}/app: `);
      expect(refused.stderr).toContain(`--allow-realm ${registry.host}=${service.host}`);
      const key = ["key", "generate", "ec", "--out", "elsewhere"];
      expect(await run(...key)).toMatchObject({ status: 0 });
      const push = ["encrypt", "oci:image:app", `${registry.host}/sealed:1`, "--creds-file", "elsewhere.json", "-r", "jwe:elsewhere.pub"];
      const unwritten = await run(...push);
      expect(unwritten).toMatchObject({ status: 5 });
      expect(unwritten.stderr).toMatch(new RegExp(`error: destination: .* docker://${registry.host}/sealed`));
      expect(await run(...pull, "--allow-realm", `other.example=${service.host}`)).toMatchObject({ status: 5 });
      expect(await run(...pull, "--allow-realm", service.host)).toMatchObject({ status: 2 });
      expect(service.requests).toEqual([]);
      const allowed = await run(...pull, "--allow-realm", `${registry.host}=${service.host}`);
      expect(allowed, allowed.stderr).toMatchObject({ status: 0 });
    } finally {
      await registry.close();
      await service.close();
    }
  });
});

describe("registry gc", () => {
  it("removes what a deleted image leaves, plans first, and refuses while a registry serves the folder", async () => {
    const server = await startServer(["registry", "serve", "--quiet", "--listen", "127.0.0.1:0", "--storage", "images"], { cwd: folder });
    const host = (server.ready["listening"] ?? "").replace("http://", "");
    try {
      for (const name of ["kept:1", "dropped:1"])
        expect(await run("copy", "oci:image:app", `${host}/${name}`)).toMatchObject({ status: 0 });
      const { headers } = await fetch(`http://${host}/v2/dropped/manifests/1`, { method: "HEAD" });
      const digest = headers.get("docker-content-digest") ?? "";
      expect((await fetch(`http://${host}/v2/dropped/manifests/${digest}`, { method: "DELETE" })).status).toBe(202);
      const busy = await run("registry", "gc", "--storage", "images");
      expect(busy).toMatchObject({ status: 9 });
      expect(busy.stderr).toContain("--gc-every");
    } finally {
      expect(await server.stop()).toBe(0);
    }
    const young = await run("registry", "gc", "--storage", "images");
    expect(young).toMatchObject({ status: 0, stdout: "0 B were removed\n" });
    expect(young.stderr).toContain("--grace 0s");
    const planned = await run("registry", "gc", "--storage", "images", "--grace", "0s", "--dry-run");
    expect(planned.stdout).toMatch(/^dropped: 0 manifests and 2 blobs, .*\n.* would be removed\n$/);
    const done = await run("registry", "gc", "--storage", "images", "--grace", "0s", "--json");
    const report = JSON.parse(done.stdout) as { repositories: { repository: string; blobs: string[] }[] };
    expect(report.repositories.map(({ repository, blobs }) => [repository, blobs.length])).toEqual([
      ["dropped", 2],
      ["kept", 0],
    ]);
    expect(await run("copy", "oci:images/kept:1", "oci:again:1")).toMatchObject({ status: 0 });
    expect(await run("registry", "gc", "--storage", "nowhere")).toMatchObject({ status: 9 });
  });
});

describe("--progress", () => {
  it("is honoured by every command that moves blobs", async () => {
    const kinds = (stderr: string): ReadonlySet<string> =>
      new Set(
        stderr
          .split("\n")
          .filter((line) => line.startsWith("{"))
          .map((line) => (JSON.parse(line) as { kind: string }).kind),
      );
    const whole = new Set(["started", "moved", "finished"]);
    expect(await run("key", "generate", "ec", "--out", "reader")).toMatchObject({ status: 0 });
    const commands = [
      ["copy", "oci:image:app", "oci:copied:app"],
      ["unpack", "oci:image:app", "unpacked", "--rootless"],
      ["encrypt", "oci:image:app", "oci:sealed:app", "-r", "jwe:reader.pub"],
      ["rewrap", "oci:sealed:app", "oci:rewrapped:app", "-k", "reader.key", "--add", "jwe:reader.pub"],
      ["pull", "oci:rewrapped:app", "pulled-tree", "-k", "reader.key", "--insecure-accept-unsigned", "--rootless"],
      ["decrypt", "oci:rewrapped:app", "oci:opened:app", "-k", "reader.key"],
    ];
    for (const command of commands) {
      const loud = await run(...command, "--progress", "json");
      expect(loud, `${command[0]}: ${loud.stderr}`).toMatchObject({ status: 0 });
      expect([command[0], [...whole].filter((kind) => !kinds(loud.stderr).has(kind))]).toEqual([command[0], []]);
    }
    const quiet = await run("unpack", "oci:image:app", "unpacked-quietly", "--rootless", "--progress", "none");
    expect(quiet).toMatchObject({ status: 0, stderr: "" });
  });

  it("copy --dry-run plans for the platforms that are chosen", async () => {
    const json = async (...args: readonly string[]) => JSON.parse((await run("copy", "--json", ...args)).stdout) as { digest: string };
    const planned = await json("oci:image:app", "oci:chosen:app", "--platform", "linux/amd64", "--dry-run");
    const done = await json("oci:image:app", "oci:chosen:app", "--platform", "linux/amd64");
    expect(planned.digest).toBe(done.digest);
    expect(await run("copy", "oci:image:app", "oci:chosen:app", "--platform", "linux/s390x", "--dry-run")).toMatchObject({ status: 3 });
  });
});
