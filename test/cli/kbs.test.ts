import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ociseal, projectFolder, startServer, type Outcome } from "./run.ts";

let folder: string;
let kbs: Awaited<ReturnType<typeof startServer>>;
let url: string;
const admin = (...args: string[]): Promise<Outcome> => ociseal(["kbs", ...args, "--kbs", url, "--admin-token", "token"], { cwd: folder });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ociseal-kbs-"));
  kbs = await startServer(["kbs", "serve", "--data", "kbs", "--listen", "127.0.0.1:0", "--admin-token-out", "token"], { cwd: folder });
  url = kbs.ready["listening"] ?? "";
});

afterAll(async () => {
  expect(await kbs.stop()).toBe(0);
  await rm(folder, { recursive: true, force: true });
});

async function ok(...args: string[]): Promise<string> {
  const outcome = await admin(...args);
  expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
  return outcome.stdout;
}

describe("a production service and its operator", () => {
  it("begins with one token, and hands out narrower ones", async () => {
    const token = await ok("token", "--subject", "ci", "--role", "ci", "--grant", "resource:create,resource:confirm:default/ci/**");
    await writeFile(join(folder, "ci.token"), token);
    const put = (uri: string) =>
      ociseal(["kbs", "resource", "put", uri, "token", "--if-absent", "--kbs", url, "--admin-token", "ci.token"], { cwd: folder });
    expect(await put("kbs:///default/ci/one")).toMatchObject({ status: 0 });
    expect(await put("kbs:///default/other/one")).toMatchObject({ status: 5 });
  });

  it("keeps keys: create, list, rotate, disable, enable", async () => {
    await ok("key", "create", "kbs:///default/kek/app", "--rotation-days", "30");
    expect(await ok("key", "list", "--prefix", "default/kek")).toContain("kbs:///default/kek/app");
    expect(await ok("key", "rotate", "kbs:///default/kek/app", "--dry-run")).toContain("version 2");
    await ok("key", "rotate", "kbs:///default/kek/app");
    await ok("key", "disable", "kbs:///default/kek/app", "--key-version", "1");
    const shown = JSON.parse(await ok("key", "show", "kbs:///default/kek/app", "--json")) as { versions: { state: string }[] };
    expect(shown.versions.map(({ state }) => state).toSorted()).toEqual(["disabled", "enabled"]);
    await ok("key", "enable", "kbs:///default/kek/app", "--key-version", "1");
  });

  it("says beforehand whom a policy lets in, and refuses one that it does not understand", async () => {
    await writeFile(join(folder, "policy.json"), JSON.stringify({ version: 1, tee: ["snp"], allowed_measurements: ["ab".repeat(48)] }));
    await ok("policy", "set", "policy.json", "--id", "app", "--resources", "default/kek/*");
    expect(await ok("policy", "list")).toContain("default/kek/*");
    const claims = (measurement: string) => ({
      submods: { cpu0: { "ear.status": "affirming", "ear.veraison.annotated-evidence": { snp: { measurement, debug: false } } } },
    });
    await writeFile(join(folder, "good.json"), JSON.stringify(claims("ab".repeat(48))));
    await writeFile(join(folder, "bad.json"), JSON.stringify(claims("cd".repeat(48))));
    expect(await ok("policy", "evaluate", "kbs:///default/kek/app", "--claims", "good.json")).toContain("allowed by app");
    const denied = await admin("policy", "evaluate", "kbs:///default/kek/app", "--claims", "bad.json");
    expect(denied).toMatchObject({ status: 5 });
    expect(denied.stdout).toContain("not among the 1 allowed");
    await writeFile(join(folder, "wrong.rego"), "package policy\nallow if { http.send({}) }\n");
    const refused = await admin("policy", "set", "wrong.rego", "--dry-run", "--json");
    expect(refused).toMatchObject({ status: 2 });
    expect(refused.stdout).toContain('"line":2');
  });

  it("takes a policy that OPA compiled by what its file holds, and says what it decides", async () => {
    const compiled = join(projectFolder, "test/policy/wasm");
    expect(await ok("policy", "set", join(compiled, "release.tar.gz"), "--id", "compiled", "--resources", "default/image-key/*")).toContain(
      "(wasm)",
    );
    await writeFile(join(folder, "measured.json"), JSON.stringify({ submods: { cpu0: { launch_digest: "abcde" } } }));
    await writeFile(join(folder, "other.json"), JSON.stringify({ submods: { cpu0: { launch_digest: "other" } } }));
    expect(await ok("policy", "evaluate", "kbs:///default/image-key/app", "--claims", "measured.json")).toContain("allowed by compiled");
    const denied = await admin("policy", "evaluate", "kbs:///default/image-key/app", "--claims", "other.json");
    expect(denied).toMatchObject({
      status: 5,
      stdout: expect.stringContaining("device cpu0 has no measurement that is allowed") as unknown,
    });
    const refused = await admin("policy", "set", join(compiled, "strange.tar.gz"), "--dry-run");
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining("http.send") as unknown });
  });

  it("has the console's page in the bundle, byte for byte", async () => {
    const page = join(projectFolder, "src/kbs/console/page");
    const names = await readdir(page);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names)
      expect(await (await fetch(`${url}/console/${name}`)).text(), name).toBe(await readFile(join(page, name), "utf8"));
  });

  it("registers reference values of any JSON type", async () => {
    await ok("reference", "set", "svn", "1", "2");
    await ok("reference", "set", "major_version", "--value", "1");
    expect(JSON.parse(await ok("reference", "list", "--json"))).toMatchObject({
      values: expect.arrayContaining([expect.objectContaining({ name: "major_version", value: 1 })]) as unknown,
    });
  });

  it("says what every change would do, and does nothing of it", async () => {
    await ok("resource", "put", "kbs:///dry/run/there", "policy.json");
    await ok("key", "create", "kbs:///dry/run/key");
    await ok("reference", "set", "dry", "1");
    await writeFile(join(folder, "appraisal.rego"), 'package policy\n\nimport rego.v1\n\ntrust_claims := {"executables": 33}\n');
    const everything = async () => {
      const lists = ["resource list", "key list", "policy list", "reference list", "system show"];
      return Promise.all(lists.map((list) => ok(...list.split(" "), "--json")).map(async (text) => (await text).replace(/"audit".*/, "")));
    };
    const before = await everything();
    const plans = {
      "key create kbs:///dry/run/new": "would create kbs:///dry/run/new",
      "key rotate kbs:///dry/run/key": "would add version 2",
      "key disable kbs:///dry/run/key": "would be disabled",
      "key destroy kbs:///dry/run/key": "would be destroyed",
      "resource put kbs:///dry/run/new policy.json": "bytes as kbs:///dry/run/new",
      "resource put kbs:///dry/run/there token": "as a new version of kbs:///dry/run/there",
      "resource delete kbs:///dry/run/there": "would delete",
      "policy set policy.json --id dry": "would set policy dry",
      "policy delete app": "would delete policy app",
      "policy attestation set appraisal.rego": "would set appraisal policy",
      "reference set dry 2": "would set dry",
      "reference delete dry": "would delete dry",
      "system rotate-signing-key": "would make a new attestation signing key",
      "system rotate-encryption-key": "would make a new key-encryption key",
      "system reseal": "would seal every record",
    };
    for (const [line, plan] of Object.entries(plans)) {
      expect(await ok(...line.split(" "), "--dry-run")).toContain(plan);
      expect(JSON.parse(await ok(...line.split(" "), "--dry-run", "--json")), line).toMatchObject({ dryRun: true });
    }
    expect(await everything()).toEqual(before);
  });

  it("is told by a dry run what would be refused", async () => {
    for (const [line, status] of [
      ["key create kbs:///dry/run/key", 2],
      ["key create nonsense", 2],
      ["key rotate kbs:///dry/run/none", 3],
      ["resource put kbs:///dry/run/there token --if-absent", 2],
      ["resource put nonsense token", 2],
      ["resource delete nonsense", 2],
      ["resource delete kbs:///dry/run/none", 3],
      ["policy delete none", 3],
      ["reference delete none", 3],
      ["policy attestation set policy.json", 2],
    ] as const) {
      const { status: exit, stdout } = await admin(...line.split(" "), "--dry-run", "--json");
      expect([line, exit]).toEqual([line, status]);
      expect((JSON.parse(stdout) as { error: { hint?: string } }).error.hint, line).toBeTruthy();
    }
  });

  it("is reached over plain HTTP elsewhere only when told to", async () => {
    const list = ["kbs", "resource", "list", "--kbs", "http://kbs.invalid:1", "--admin-token", "token"];
    expect(await ociseal(list, { cwd: folder })).toMatchObject({ status: 2, stderr: expect.stringContaining("--plain-http") as unknown });
    expect(await ociseal([...list, "--plain-http", "kbs.invalid:1"], { cwd: folder })).toMatchObject({ status: 4 });
  });

  it("rotates the keys of the service, and revokes them only with a token for afterwards", async () => {
    expect(await ok("system", "rotate-signing-key", "--dry-run")).toContain("until they expire");
    await ok("system", "rotate-signing-key");
    const shown = JSON.parse(await ok("system", "show", "--json")) as { signing_keys: { state: string }[] };
    expect(shown.signing_keys.map(({ state }) => state)).toEqual(["signing", "verifying"]);
    expect(await admin("system", "rotate-signing-key", "--purpose", "admin", "--revoke-former")).toMatchObject({ status: 2 });
    await ok("system", "rotate-signing-key", "--purpose", "admin", "--revoke-former", "--admin-token-out", "new.token");
    expect(await admin("key", "list")).toMatchObject({ status: 5 });
    await rename(join(folder, "new.token"), join(folder, "token"));
    await ok("key", "list");
    expect(await ok("system", "rotate-encryption-key")).toContain("sealed under a new key");
    await ok("system", "reseal");
  });

  it("gets another root key while it runs, and keeps the one that it has when the other opens nothing", async () => {
    const keys = { first: "a1".repeat(32), second: "b2".repeat(32) };
    for (const [name, key] of Object.entries(keys)) await writeFile(join(folder, `${name}.root`), key, { mode: 0o600 });
    const configure = (...names: string[]) => {
      const list = names.map((name) => `{ kind = "file", path = "${join(folder, `${name}.root`)}" }`).join(", ");
      const text = `listen = { port = 0 }\nroot_keys = [${list}]\nstore = { kind = "directory", path = "${join(folder, "rooted")}" }\n`;
      return writeFile(join(folder, "kbs.toml"), text);
    };
    await configure("first");
    const service = await startServer(["kbs", "serve", "--config", "kbs.toml", "--admin-token-out", "rooted.token"], { cwd: folder });
    const there = ["--kbs", service.ready["listening"] ?? "", "--admin-token", "rooted.token"];
    const ask = async (...args: string[]) => {
      const outcome = await ociseal(["kbs", ...args, ...there, "--json"], { cwd: folder });
      expect(outcome, outcome.stderr).toMatchObject({ status: 0 });
      return JSON.parse(outcome.stdout) as { rewrapped?: number };
    };
    const told: string[] = [];
    service.child.stderr?.on("data", (chunk: Buffer) => told.push(chunk.toString()));
    const hangUp = async (answer: string) => {
      told.length = 0;
      service.child.kill("SIGHUP");
      await expect.poll(() => told.join(""), { timeout: 10_000 }).toContain(answer);
    };
    await ask("key", "create", "kbs:///a/b/c");
    await configure("second");
    await hangUp("root keys were not read again");
    await configure("second", "first");
    await hangUp("root keys were read again");
    expect(await ask("system", "rotate-root-key", "--dry-run")).toMatchObject({ dryRun: true });
    expect(await ask("system", "rotate-root-key")).toMatchObject({ rewrapped: 1 });
    await configure("second");
    await hangUp("root keys were read again");
    await ask("key", "rotate", "kbs:///a/b/c");
    expect(await service.stop()).toBe(0);
    const again = await startServer(["kbs", "serve", "--config", "kbs.toml"], { cwd: folder });
    expect(await again.stop()).toBe(0);
    await configure("first");
    const former = await ociseal(["kbs", "serve", "--config", "kbs.toml"], { cwd: folder });
    expect(former).toMatchObject({ status: 7, stderr: expect.stringContaining("ERR_KBS_ROOT_KEY_UNUSABLE") as unknown });
  });

  it("says everything that is wrong with a configuration, and what a good one is", async () => {
    await writeFile(join(folder, "bad.toml"), 'mode = "prodction"\n[listen]\nport = "x"\n[store]\nkind = "directory"\n');
    const bad = await ociseal(["kbs", "config", "check", "bad.toml", "--json"], { cwd: folder });
    const { valid, problems } = JSON.parse(bad.stdout) as { valid: boolean; problems: { path: string }[] };
    expect([bad.status, valid]).toEqual([2, false]);
    expect(problems.map(({ path }) => path)).toEqual(expect.arrayContaining(["mode", "listen.port", "store.path"]));
    await writeFile(join(folder, "good.toml"), '[store]\nkind = "memory"\n');
    expect(await ociseal(["kbs", "config", "check", "good.toml"], { cwd: folder })).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("valid configuration") as unknown,
    });
  });

  it("takes over what a Trustee folder holds", async () => {
    const resource = join(folder, "trustee/repository/default/key");
    await mkdir(resource, { recursive: true });
    await writeFile(join(resource, "old"), "the old secret");
    const listed = await admin("import", "trustee", "--dry-run");
    expect(listed, listed.stderr).toMatchObject({ status: 0 });
  });

  it("has an audit log that is whole, and exports it", async () => {
    expect(await ok("audit", "verify")).toContain("intact");
    const lines = (await ok("audit", "export")).trim().split("\n");
    expect(lines.length).toBeGreaterThan(5);
    expect(lines.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual(lines.map((_, i) => i + 1));
    const tail = await admin("audit", "tail", "-n", "3", "--json");
    const { records } = JSON.parse(tail.stdout) as { records: { seq: number; hash: string }[] };
    expect(records.length).toBe(3);
    expect(records.map(({ seq }) => seq)).toEqual([1, 2, 3].map((n) => (records[0]?.seq ?? 0) + n - 1));
    expect(await ok("audit", "tail", "-n", "1")).toMatch(/^\d+ \S+ (?:allow|deny|intent) \S+/);
    expect(await readFile(join(folder, "token"), "utf8")).not.toBe("");
    expect(lines.join("\n")).not.toContain((await readFile(join(folder, "token"), "utf8")).trim());
  });
});
