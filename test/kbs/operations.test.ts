import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  backupStore,
  checkKbsConfig,
  commandRootKey,
  connectKbsAdmin,
  generateRootKey,
  importTrusteeData,
  mountedFolder,
  openKbsConfig,
  openMemoryStore,
  openRootKeyFile,
  parseKbsConfig,
  restoreStore,
  serveKbs,
  vaultTransitRootKey,
  verifyBackup,
} from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { startFakeVault } from "./fake-vault.ts";
import { startBench } from "./harness.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-operations-"));
});
afterEach(() => rm(folder, { recursive: true }));

describe("root keys", () => {
  it("in a file are made once, mode 0600, even by two processes at once", async () => {
    const path = join(folder, "root.key");
    const keys = await Promise.all([1, 2, 3].map(() => openRootKeyFile(path, { ifMissing: "create" })));
    expect(new Set(keys.map(({ id }) => id)).size).toBe(1);
    expect(execFileSync("stat", ["-c", "%a", path]).toString().trim()).toBe("600");
    await expect(openRootKeyFile(join(folder, "none"), { ifMissing: "fail" })).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
  });

  it("in Vault's transit engine wrap there, and say when the key is not the one", async () => {
    const vault = await startFakeVault();
    const root = vaultTransitRootKey({ url: vault.url, login: { kind: "token", token: "root" }, key: "kbs" });
    const store = openMemoryStore();
    const sealed = (await Keyring.open(store, [root])).seal(Buffer.from("x"), "p");
    const again = await Keyring.open(store, [vaultTransitRootKey({ url: vault.url, login: { kind: "token", token: "root" }, key: "kbs" })]);
    expect((await again.open(sealed, "p")).toString()).toBe("x");
    vault.outage = 503;
    await expect(Keyring.open(store, [root])).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    vault.outage = undefined;
    vault.dropTransitKey();
    await expect(Keyring.open(store, [root])).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
    await again.close();
    await root.close?.();
    await vault.close();
  });

  it("behind a program take and give bytes, bound to their place", async () => {
    const openssl = (direction: string) =>
      ["/usr/bin/openssl", "enc", direction, "-aes-256-cbc", "-K", "11".repeat(32), "-iv", "22".repeat(16)] as const;
    const root = commandRootKey({ id: "openssl", wrap: openssl("-e"), unwrap: openssl("-d") });
    const wrapped = await root.wrap(Buffer.alloc(32, 5), Buffer.from("here"));
    expect(await root.unwrap(wrapped, Buffer.from("here"))).toEqual(Buffer.alloc(32, 5));
    await expect(root.unwrap(wrapped, Buffer.from("there"))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
    const broken = commandRootKey({ id: "x", wrap: ["/bin/false"], unwrap: ["/nowhere/at/all"] });
    await expect(broken.wrap(Buffer.alloc(1), Buffer.alloc(0))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
    await expect(broken.unwrap(Buffer.alloc(1), Buffer.alloc(0))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
  });
});

describe("a backup", () => {
  it("restores everything into an empty store, and only into an empty one", async () => {
    const rootKeys = [generateRootKey()] as const;
    const store = openMemoryStore();
    const bench = await startBench({ store, rootKeys });
    const { key } = await bench.admin.registerKey("kbs:///a/b/c");
    await bench.admin.putResource("kbs:///a/b/big", Buffer.alloc(100_000, 3));
    const lines: string[] = [];
    for await (const line of backupStore(store, new Date())) lines.push(line);
    expect(lines.join("")).not.toContain(key.toString("base64"));
    await bench.close();
    const restored = openMemoryStore();
    const report = await restoreStore(restored, () => Readable.from(lines));
    expect(report.records).toBe(lines.length - 2);
    await expect(restoreStore(restored, () => Readable.from(lines))).rejects.toMatchObject({ code: "ERR_KBS_CONFLICT" });
    const again = await startBench({ store: restored, rootKeys });
    expect(await again.guest.fetchResource("kbs:///a/b/c")).toEqual(key);
    expect(await again.guest.fetchResource("kbs:///a/b/big")).toHaveLength(100_000);
    await again.close();
  });

  it("that is cut or changed is refused before anything is written", async () => {
    const store = openMemoryStore();
    for (const key of ["a/1", "a/2", "a/3"]) await store.write(key, Buffer.from(key), { kind: "any" });
    const lines: string[] = [];
    for await (const line of backupStore(store, new Date())) lines.push(line);
    const swapped = [lines[0], lines[2], lines[1], ...lines.slice(3)] as string[];
    const bad = [
      lines.slice(0, -1),
      lines.slice(1),
      [...lines.slice(0, 2), ...lines.slice(3)],
      swapped,
      [...lines, lines[1] ?? ""],
      lines.map((line) => line.replace("YS8y", "YS8z")),
      ["not json\n"],
    ];
    for (const broken of bad) {
      const empty = openMemoryStore();
      await expect(restoreStore(empty, () => Readable.from(broken))).rejects.toMatchObject({ code: "ERR_KBS_RECORD_CORRUPT" });
      expect((await empty.list({ prefix: "", limit: 10 })).keys).toEqual([]);
    }
    expect(await verifyBackup(Readable.from(lines))).toMatchObject({ records: 3 });
  });
});

describe("an import from Trustee", () => {
  it("reads the layouts of its file stores and keeps what is there", async () => {
    const modern = join(folder, "modern");
    const slash = "\\x2F";
    await mkdir(join(modern, "repository"), { recursive: true });
    await mkdir(join(modern, "reference_value"));
    await mkdir(join(modern, "kbs"));
    await writeFile(join(modern, "repository", `default${slash}key${slash}1`), "modern");
    await writeFile(join(modern, "repository", `default${slash}key${slash}present`), "theirs");
    await writeFile(join(modern, "repository", ".hidden"), "x");
    await writeFile(
      join(modern, "reference_value", "svn"),
      JSON.stringify({ version: "0.1.0", name: "svn", expiration: "2099-01-01T00:00:00Z", value: ["1"] }),
    );
    await writeFile(join(modern, "kbs", "resource-policy.rego"), "package policy\n");
    const old = join(folder, "old");
    await mkdir(join(old, "default", "key"), { recursive: true });
    await writeFile(join(old, "default", "key", "2"), "old");
    const json = join(folder, "json");
    await mkdir(json);
    // Without an ending, and in base64url with padding, as Trustee 0.21 wrote it.
    await writeFile(join(json, "repository"), JSON.stringify({ "default/key/3": "anNvbsO_Lg==" }));
    // The folder above the old layout, which Trustee kept beside its policies.
    const above = join(folder, "above");
    await mkdir(join(above, "repository", "default", "key"), { recursive: true });
    await mkdir(join(above, "kbs", "a"), { recursive: true });
    await writeFile(join(above, "repository", "default", "key", "4"), "above");
    const bench = await startBench();
    await bench.admin.putResource("kbs:///default/key/present", Buffer.from("ours"));
    const report = await importTrusteeData(modern, bench.admin);
    expect(report).toMatchObject({ imported: 2, present: 1 });
    expect(report.skipped.map(({ name }) => name).sort()).toEqual([".hidden", "resource-policy"]);
    for (const directory of [old, json])
      expect(await importTrusteeData(directory, bench.admin)).toMatchObject({ imported: 1, skipped: [] });
    expect(await importTrusteeData(above, bench.admin)).toMatchObject({ imported: 1, skipped: [{ name: "kbs/a" }] });
    const values = await Promise.all(
      ["1", "2", "3", "4", "present"].map(async (tag) => (await bench.guest.fetchResource(`kbs:///default/key/${tag}`)).toString()),
    );
    expect(values).toEqual(["modern", "old", "json\xff.", "above", "ours"]);
    expect(await bench.admin.references.get("svn")).toEqual(["1"]);
    await bench.close();
  });
});

describe("a mounted folder", () => {
  it("serves files as resources beside the store, one whole generation at a time", async () => {
    const volume = join(folder, "default", "image-key");
    for (const generation of ["..1", "..2"]) {
      await mkdir(join(volume, generation), { recursive: true });
      await writeFile(join(volume, generation, "app"), `value ${generation}`);
    }
    await symlink("..1", join(volume, "..data"));
    await symlink("..data/app", join(volume, "app"));
    const bench = await startBench({ sources: [mountedFolder(folder)] });
    expect((await bench.guest.fetchResource("kbs:///default/image-key/app")).toString()).toBe("value ..1");
    await symlink("..2", join(volume, "..new"));
    await rename(join(volume, "..new"), join(volume, "..data"));
    expect((await bench.guest.fetchResource("kbs:///default/image-key/app")).toString()).toBe("value ..2");
    await bench.admin.putResource("kbs:///default/image-key/stored", Buffer.from("x"));
    expect((await bench.admin.listResources()).resources).toEqual(["default/image-key/app", "default/image-key/stored"]);
    await expect(bench.guest.fetchResource("kbs:///default/image-key/none")).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
    await bench.close();
  });
});

describe("a configuration", () => {
  const minimal = (extra = "") => `[listen]\nport = 0\n[store]\nkind = "memory"\n${extra}`;

  it("names everything that is wrong with it, at once", () => {
    const problems = checkKbsConfig(`
      mode = "prodution"
      colour = "blue"
      [listen]
      port = 70000
      [store]
      kind = "directory"
      [audit]
      refusals = { in_full = -1, per_minute = 2 }
      [limits]
      max_body_bytes = "2M"
      [roles.x]
      grants = [{ actions = ["resource:fly"], paths = [] }]
      [[issuers]]
      name = "idp"
      keys = { kind = "discovery" }
    `);
    expect(problems.map(({ path }) => path).sort()).toEqual([
      "audit.directory",
      "audit.refusals.in_full",
      "audit.refusals.per_minute",
      "colour",
      "issuers[0].audience",
      "issuers[0].issuer",
      "limits.max_body_bytes",
      "listen.port",
      "mode",
      "roles.x.grants[0].actions",
      "roles.x.grants[0].paths",
      "store.path",
    ]);
    expect(() => parseKbsConfig("mode = ")).toThrow(expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }));
  });

  it("refuses what is unsafe together", () => {
    expect(checkKbsConfig('mode = "development"\n[listen]\nhost = "0.0.0.0"\n[store]\nkind = "memory"').map(({ path }) => path)).toEqual([
      "mode",
      "tls",
    ]);
    expect(checkKbsConfig('[store]\nkind = "directory"\npath = "/x"').map(({ path }) => path)).toEqual(["root_keys"]);
    expect(checkKbsConfig(minimal())).toEqual([]);
    expect(parseKbsConfig(minimal('[audit]\ndirectory = "a"\nrefusals = { interval_seconds = 60, in_full = 0 }')).audit?.refusals).toEqual({
      intervalMs: 60_000,
      inFull: 0,
    });
  });

  it("opens a service with roles, issuers and an audit log", async () => {
    const pair = generateKeyPairSync("ed25519");
    await writeFile(join(folder, "admin.pem"), pair.publicKey.export({ type: "spki", format: "pem" }));
    const config = parseKbsConfig(`
      mode = "development"
      [listen]
      port = 0
      [store]
      kind = "directory"
      path = ${JSON.stringify(join(folder, "data"))}
      [[root_keys]]
      kind = "environment"
      name = "KBS_ROOT"
      [audit]
      directory = ${JSON.stringify(join(folder, "audit"))}
      ship = "log"
      [roles.publisher]
      grants = [{ actions = ["resource:create"], paths = ["default/image-key/*"] }]
      [[issuers]]
      name = "build"
      keys = { kind = "pem", files = [${JSON.stringify(join(folder, "admin.pem"))}] }
    `);
    await expect(openKbsConfig(config, { environment: () => undefined })).rejects.toMatchObject({ code: "ERR_KBS_CONFIG_INVALID" });
    const logged: unknown[] = [];
    const server = await serveKbs({
      ...(await openKbsConfig(config, { environment: (name) => (name === "KBS_ROOT" ? "ab".repeat(32) : undefined) })),
      log: (event) => logged.push(event),
    });
    const token = await new SignJWT({ role: "publisher", sub: "ci" })
      .setProtectedHeader({ alg: "EdDSA" })
      .setExpirationTime("1m")
      .sign(pair.privateKey);
    const admin = connectKbsAdmin({ url: server.url, token });
    expect((await admin.registerKey("kbs:///default/image-key/x")).proof).toBe("confirmed");
    await expect(admin.registerKey("kbs:///default/other/x")).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
    await admin.close();
    await server.close();
    for (const [resource, decision] of [
      ["default/image-key/x", "allow"],
      ["default/other/x", "deny"],
    ]) {
      expect(logged).toContainEqual({ event: "audit", record: expect.objectContaining({ resource, decision }) as unknown });
    }
  });
});
