import { execFile } from "node:child_process";
import { existsSync, chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { credentialsFor, credentialsFromFiles, credentialsInOrder, login, logout, RegistryTransport } from "../../src/registry/index.ts";
import { missingPeers, peer } from "../peers.ts";
import { errorOf } from "./captures.ts";
import { answer, startFaultServer, type FaultServer } from "./fault-server.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");
const alice = { kind: "basic", username: "alice", password: "secret:with:colons" } as const;
const aliceEntry = { auth: base64("alice:secret:with:colons") };

let folder: string;
let oldPath: string | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-credentials-"));
  oldPath = process.env["PATH"];
});
afterEach(() => {
  process.env["PATH"] = oldPath;
  rmSync(folder, { recursive: true, force: true });
});

const file = (content: unknown, name = "config.json") => {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
};
const from = (content: unknown) => credentialsFromFiles([{ path: file(content) }]);

/** A real helper in PATH that keeps its secrets in files, as the protocol wants it. */
function installHelper(name: string, script?: string): void {
  const path = join(folder, `docker-credential-${name}`);
  writeFileSync(
    path,
    script ??
      `#!/bin/sh
echo "$1" >> "${folder}/${name}.log"
case "$1" in
get) read -r key; f="${folder}/$(printf %s "$key" | tr '/:' '__')"
  if [ -f "$f" ]; then cat "$f"; else echo "credentials not found in native keychain"; exit 1; fi;;
store) cat > "${folder}/stored"; key=$(sed 's/.*"ServerURL":"\\([^"]*\\)".*/\\1/' "${folder}/stored"); cp "${folder}/stored" "${folder}/$(printf %s "$key" | tr '/:' '__')";;
erase) read -r key; f="${folder}/$(printf %s "$key" | tr '/:' '__')"; if [ -f "$f" ]; then rm "$f"; else echo "credentials not found in native keychain"; exit 1; fi;;
esac
`,
  );
  chmodSync(path, 0o755);
  process.env["PATH"] = `${folder}:${oldPath}`;
}

describe("credentials from files", () => {
  it("finds what docker wrote, under all spellings of a host", async () => {
    for (const key of [
      "registry.example:5000",
      "https://registry.example:5000",
      "http://registry.example:5000/v1/",
      "https://registry.example:5000/v2/",
    ]) {
      expect(await from({ auths: { [key]: aliceEntry } })("registry.example:5000", "a/b")).toEqual(alice);
    }
    for (const key of ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]) {
      expect(await from({ auths: { [key]: aliceEntry } })("docker.io", "library/alpine")).toEqual(alice);
    }
  });

  it("matches hosts whole: no prefix, suffix, other port or subdomain gets them", async () => {
    const source = from({ auths: { "registry.example": aliceEntry } });
    for (const host of [
      "registry.example.evil",
      "registry.exampl",
      "evil-registry.example",
      "a.registry.example",
      "registry.example:444",
      "example",
    ]) {
      expect(await source(host, "a")).toBeUndefined();
    }
  });

  it("takes podman's most specific namespace, on whole path segments", async () => {
    const source = from({
      auths: {
        "r.example": { auth: base64("host:1") },
        "r.example/team": { auth: base64("team:2") },
        "r.example/team/app": { auth: base64("app:3") },
      },
    });
    const user = async (repository: string) => ((await source("r.example", repository)) as typeof alice | undefined)?.username;
    expect([await user("team/app"), await user("team/app/x"), await user("team/other"), await user("teamx/app"), await user("x")]).toEqual([
      "app",
      "app",
      "team",
      "host",
      "host",
    ]);
  });

  it("reads every kind of entry", async () => {
    const read = (entry: unknown) => from({ auths: { h: entry } })("h", "a");
    expect(await read({ auth: base64("u:p\0\0\0") })).toEqual({ kind: "basic", username: "u", password: "p" });
    expect(await read({ auth: base64("u:"), identitytoken: "refresh" })).toEqual({ kind: "identity-token", token: "refresh" });
    expect(await read({ registrytoken: "ready" })).toEqual({ kind: "registry-token", token: "ready" });
    expect(await read({ username: "u", password: "p" })).toEqual({ kind: "basic", username: "u", password: "p" });
    expect(await read({ auth: base64("<token>:refresh") })).toEqual({ kind: "identity-token", token: "refresh" });
    expect(await read({})).toBeUndefined();
  });

  it("reads the legacy .dockercfg and content that came through the environment", async () => {
    const path = file({ h: aliceEntry }, ".dockercfg");
    expect(await credentialsFromFiles([{ path, style: "dockercfg" }])("h", "a")).toEqual(alice);
    const content = JSON.stringify({ auths: { h: aliceEntry } });
    expect(await credentialsFromFiles([{ path: "DOCKER_AUTH_CONFIG", content }])("h", "a")).toEqual(alice);
  });

  it("looks through files in order, and misses only those that were named", async () => {
    const second = { path: file({ auths: { h: aliceEntry } }) };
    expect(await credentialsFromFiles([{ path: join(folder, "absent") }, second])("h", "a")).toEqual(alice);
    const error = await errorOf(credentialsFromFiles([{ path: join(folder, "absent"), presence: "required" }, second])("h", "a"));
    expect(error).toMatchObject({ code: "ERR_CREDENTIALS_UNREADABLE", category: "io" });
    const either = credentialsInOrder(credentialsFor("x", alice), credentialsFromFiles([second]));
    expect([await either("x", "a"), await either("h", "a"), await either("y", "a")]).toEqual([alice, alice, undefined]);
  });

  it.each([
    ["not JSON", "{auths"],
    ["no object", "[]"],
    ["auths that are none", { auths: [] }],
    ["an entry that is none", { auths: { h: "x" } }],
    ["auth that is no base64", { auths: { h: { auth: "se cret!" } } }],
    ["auth without a colon", { auths: { h: { auth: base64("topsecret") } } }],
    ["a helper that is no text", { credHelpers: { h: 1 } }],
    ["a helper with a path in its name", { credHelpers: { h: "../evil" } }],
  ])("refuses %s, without repeating it", async (_, content) => {
    const error = await errorOf(from(content)("h", "a"));
    expect(error).toMatchObject({ code: "ERR_CREDENTIALS_MALFORMED" });
    expect(error.message).not.toMatch(/se cret|topsecret|dG9wc2VjcmV0/);
  });
});

describe("credential helpers", () => {
  it("named for a host beat the store and the file; the store beats nothing in the file", async () => {
    installHelper("one");
    installHelper("two");
    writeFileSync(join(folder, "h1"), JSON.stringify({ ServerURL: "h1", Username: "from-helper", Secret: "s" }));
    const source = from({ credsStore: "two", credHelpers: { h1: "one" }, auths: { h1: aliceEntry, h2: aliceEntry } });
    expect(await source("h1", "a")).toMatchObject({ username: "from-helper" });
    expect(await source("h2", "a")).toEqual(alice);
    expect(await source("h3", "a")).toBeUndefined();
    await source("h1", "b");
    expect(readFileSync(join(folder, "one.log"), "utf8")).toBe("get\n");
  });

  it("are asked for the Hub by its old key, and may hold an identity token", async () => {
    installHelper("one");
    writeFileSync(join(folder, "https___index.docker.io_v1_"), JSON.stringify({ ServerURL: "", Username: "<token>", Secret: "refresh" }));
    expect(await from({ credsStore: "one" })("docker.io", "library/alpine")).toEqual({ kind: "identity-token", token: "refresh" });
  });

  it("that fail are an error where the file promises something, and none where it does not", async () => {
    const failing = { credsStore: "not-installed-anywhere", auths: { h1: {} } };
    expect(await errorOf(from(failing)("h1", "a"))).toMatchObject({ code: "ERR_CREDENTIAL_HELPER_FAILED" });
    expect(await from(failing)("h2", "a")).toBeUndefined();
    installHelper("noisy", "#!/bin/sh\nyes secret\n");
    installHelper("broken", '#!/bin/sh\necho \'{"Username":"u","Secret":"topsecret"\'\n');
    installHelper("angry", "#!/bin/sh\necho the key ring is locked\nexit 1\n");
    for (const helper of ["noisy", "broken", "angry"]) {
      const error = await errorOf(from({ credHelpers: { h: helper } })("h", "a"));
      expect(error).toMatchObject({ code: "ERR_CREDENTIAL_HELPER_FAILED" });
      expect(error.message).not.toContain("secret");
    }
  });
});

describe("login and logout", () => {
  let registry: FaultServer;
  let transport: RegistryTransport;
  beforeEach(async () => {
    registry = await startFaultServer();
    transport = new RegistryTransport({ retry: { attempts: 1 } });
    registry.on("GET", /^\/v2\/$/, async (context) => {
      const good = context.request.headers.authorization === `Basic ${base64("alice:secret:with:colons")}`;
      await (good ? answer(200, {}, "{}") : answer(401, { "www-authenticate": "Basic realm=x" }))(context);
    });
  });
  afterEach(async () => {
    await transport.close();
    await registry.close();
  });
  const enter = (path: string, password: string = alice.password) =>
    login({ host: registry.host, credential: { ...alice, password }, file: { path }, transport });

  it("writes what docker and podman read, for the owner alone, and keeps the rest of the file", async () => {
    const path = file({ auths: { other: aliceEntry }, HttpHeaders: { a: "b" } });
    expect(await enter(path)).toEqual({ kind: "file", place: path });
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({
      auths: { other: aliceEntry, [registry.host]: aliceEntry },
      HttpHeaders: { a: "b" },
    });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await credentialsFromFiles([{ path }])(registry.host, "a")).toEqual(alice);
    expect(await logout({ host: registry.host, files: [{ path }] })).toBe("removed");
    expect(await logout({ host: registry.host, files: [{ path }, { path: join(folder, "absent") }] })).toBe("absent");
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ auths: { other: aliceEntry }, HttpHeaders: { a: "b" } });
  });

  it("makes the file and its folder, and follows a link to where the file really is", async () => {
    const path = join(folder, "new/deep/auth.json");
    await enter(path);
    expect(Object.keys(JSON.parse(readFileSync(path, "utf8")).auths)).toEqual([registry.host]);
    const link = join(folder, "link.json");
    symlinkSync(path, link);
    await enter(link);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(link, "utf8")).toBe(readFileSync(path, "utf8"));
  });

  it("does not write credentials that the registry refuses, and does not overwrite a broken file", async () => {
    const path = file({ auths: {} });
    expect(await errorOf(enter(path, "wrong"))).toMatchObject({ code: "ERR_REGISTRY_UNAUTHORIZED" });
    expect(readFileSync(path, "utf8")).toBe('{"auths":{}}');
    writeFileSync(path, "{broken");
    expect(await errorOf(enter(path))).toMatchObject({ code: "ERR_CREDENTIALS_MALFORMED" });
    expect(readFileSync(path, "utf8")).toBe("{broken");
  });

  it("gives the secret to the helper that the file names", async () => {
    installHelper("one");
    const path = file({ credsStore: "one" });
    expect(await enter(path)).toEqual({ kind: "helper", place: "docker-credential-one" });
    expect(readFileSync(path, "utf8")).not.toContain(aliceEntry.auth);
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ credsStore: "one", auths: { [registry.host]: {} } });
    expect(await credentialsFromFiles([{ path }])(registry.host, "a")).toEqual(alice);
    expect(await logout({ host: registry.host, files: [{ path }] })).toBe("removed");
    expect(await credentialsFromFiles([{ path }])(registry.host, "a")).toBeUndefined();
  });

  it("keeps a registry in the file that an empty name in credHelpers takes out of the store", async () => {
    installHelper("one");
    const path = file({ credsStore: "one", credHelpers: { [registry.host]: "" } });
    expect(await enter(path)).toEqual({ kind: "file", place: path });
    expect(await credentialsFromFiles([{ path }])(registry.host, "a")).toEqual(alice);
    expect(await logout({ host: registry.host, files: [{ path }] })).toBe("removed");
    expect(await credentialsFromFiles([{ path }])(registry.host, "a")).toBeUndefined();
    expect(existsSync(join(folder, "one.log"))).toBe(false);
  });

  it("tries a token service, and believes its no", async () => {
    registry.on("GET", /^\/v2\/$/, async (context) => {
      const good = context.request.headers.authorization === "Bearer t";
      await (good ? answer(200, {}, "{}") : answer(401, { "www-authenticate": `Bearer realm="${registry.origin}/token",service="s"` }))(
        context,
      );
    });
    registry.on("GET", /^\/token/, async (context) => {
      const good = context.request.headers.authorization === `Basic ${base64("alice:secret:with:colons")}`;
      await (good ? answer(200, {}, '{"token":"t"}') : answer(401))(context);
    });
    const path = join(folder, "auth.json");
    expect(await enter(path)).toEqual({ kind: "file", place: path });
    expect(await errorOf(enter(path, "wrong"))).toMatchObject({ code: "ERR_REGISTRY_UNAUTHORIZED" });
  });
});

describe.skipIf(missingPeers("skopeo-1.22"))("with skopeo", () => {
  let registry: FaultServer;
  beforeEach(async () => {
    registry = await startFaultServer();
    registry.on("GET", /^\/v2\/$/, async (context) => {
      const good = context.request.headers.authorization === `Basic ${base64("alice:secret:with:colons")}`;
      await (good ? answer(200, {}, "{}") : answer(401, { "www-authenticate": "Basic realm=x" }))(context);
    });
  });
  afterEach(() => registry.close());
  /** Runs beside this process, which has to serve the registry. */
  const skopeo = (args: readonly string[], input: string) =>
    new Promise<string>((resolve, reject) => {
      const child = execFile(peer("skopeo-1.22") ?? "", args, { encoding: "utf8" }, (error, output) =>
        error === null ? resolve(output) : reject(error),
      );
      child.stdin?.end(input);
    });

  it("reads what skopeo login wrote, and skopeo reads what login wrote", async () => {
    const theirs = join(folder, "theirs.json");
    await skopeo(["login", "--tls-verify=false", "--authfile", theirs, "-u", "alice", "--password-stdin", registry.host], alice.password);
    expect(await credentialsFromFiles([{ path: theirs }])(registry.host, "a/b")).toEqual(alice);
    const ours = join(folder, "ours.json");
    const transport = new RegistryTransport();
    await login({ host: registry.host, credential: alice, file: { path: ours }, transport });
    await transport.close();
    expect((await skopeo(["login", "--get-login", "--authfile", ours, registry.host], "")).trim()).toBe("alice");
    expect(await logout({ host: registry.host, files: [{ path: theirs }] })).toBe("removed");
    await expect(skopeo(["login", "--get-login", "--authfile", theirs, registry.host], "")).rejects.toThrow("not logged into");
    await skopeo(["logout", "--authfile", ours, registry.host], "");
    expect(await credentialsFromFiles([{ path: ours }])(registry.host, "a/b")).toBeUndefined();
  });
});
