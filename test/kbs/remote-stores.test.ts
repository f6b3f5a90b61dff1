import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openKubernetesStore, openMemoryStore, openVaultStore, vaultTransitRootKey } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { VaultSession } from "../../src/kbs/stores/vault-session.ts";
import { type FakeVault, startFakeVault } from "./fake-vault.ts";
import { startFakeKubernetes } from "./fakes.ts";

let folder: string;
let vault: FakeVault;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-remote-"));
  vault = await startFakeVault();
});
afterAll(async () => {
  await vault.close();
  await rm(folder, { recursive: true });
});

const root = { kind: "token", token: "root" } as const;
const bytes = (text: string) => Buffer.from(text);

describe("a store in Vault's KV engine", () => {
  it("leaves one version of a record behind, however often it is replaced", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "versions" });
    for (const text of ["1", "2", "3"]) await store.write("a", bytes(text), { kind: "any" });
    expect(vault.keptVersions("versions/a")).toBe(1);
    await store.close();
  });

  it("writes on a mount that demands check-and-set, whatever the condition", async () => {
    vault.settings.casRequired = true;
    const store = openVaultStore({ url: vault.url, login: root, folder: "cas" });
    expect(await store.write("a", bytes("1"), { kind: "any" })).not.toBe("conflict");
    expect(await store.write("a", bytes("2"), { kind: "any" })).not.toBe("conflict");
    expect(await store.write("b", bytes("1"), { kind: "absent" })).not.toBe("conflict");
    expect(await store.write("b", bytes("2"), { kind: "absent" })).toBe("conflict");
    const outcomes = await Promise.all(Array.from({ length: 6 }, (_, i) => store.write("a", bytes(`x${i}`), { kind: "any" })));
    expect(outcomes).not.toContain("conflict");
    vault.settings.casRequired = false;
    await store.close();
  });

  it("takes a record that an operator deleted by hand for absent, and can create it again", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "soft" });
    const first = await store.write("a", bytes("1"), { kind: "absent" });
    await store.write("b", bytes("1"), { kind: "absent" });
    vault.softDelete("soft/a");
    expect(await store.read("a")).toBeUndefined();
    expect((await store.list({ prefix: "", limit: 10 })).keys).toEqual(["b"]);
    expect(await store.remove("a", { kind: "any" })).toBe("absent");
    expect(await store.write("a", bytes("2"), { kind: "revision", revision: first === "conflict" ? "" : first.revision })).toBe("conflict");
    expect(await store.write("a", bytes("2"), { kind: "absent" })).not.toBe("conflict");
    expect((await store.read("a"))?.bytes.toString()).toBe("2");
    await store.close();
  });

  it("reads no more records for a page than the page has", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "many" });
    for (let i = 0; i < 30; i += 1) await store.write(`k/${i}`, bytes("x"), { kind: "absent" });
    const before = vault.seen.length;
    const page = await store.list({ prefix: "k", limit: 3 });
    expect(page).toEqual({ keys: ["k/0", "k/1", "k/10"], next: "k/10" });
    expect(await store.list({ prefix: "k", limit: 2, after: page.next })).toEqual({ keys: ["k/11", "k/12"], next: "k/12" });
    expect(vault.seen.slice(before).filter((line) => line.startsWith("GET /v1/secret/data/")).length).toBeLessThan(10);
    await store.close();
  });

  it("works in a namespace", async () => {
    vault.settings.namespace = "team/kbs";
    const inside = openVaultStore({ url: vault.url, login: root, folder: "ns", namespace: "team/kbs" });
    await inside.write("a", bytes("1"), { kind: "absent" });
    expect((await inside.read("a"))?.bytes.toString()).toBe("1");
    await inside.probe();
    const outside = openVaultStore({ url: vault.url, login: root, folder: "ns" });
    // Nothing of what it holds may look as if it were not there.
    for (const act of [() => outside.read("a"), () => outside.list({ prefix: "", limit: 1 }), () => outside.probe()])
      await expect(act()).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining("in this namespace") });
    await expect(outside.write("a", bytes("1"), { kind: "absent" })).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED" });
    vault.settings.namespace = undefined;
    await inside.close();
    await outside.close();
  });

  it.each([
    ["kv1", "not a KV engine of version 2"],
    ["nothing", "is a KV engine mounted"],
  ])("says what is wrong with a mount at %s, and takes no record for absent there", async (mount, hint) => {
    const store = openVaultStore({ url: vault.url, login: root, mount, folder: "wrong" });
    const refusal = { code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining(hint) };
    await expect(store.write("a", bytes("1"), { kind: "any" })).rejects.toMatchObject(refusal);
    await expect(store.read("a")).rejects.toMatchObject(refusal);
    await store.close();
  });

  it("acknowledges nothing on a mount that will delete it", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "ends" });
    vault.settings.deletesBySelf = true;
    const refusal = { code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining("delete_version_after=0s") };
    await expect(store.write("a", bytes("1"), { kind: "any" })).rejects.toMatchObject(refusal);
    vault.settings.deletesBySelf = false;
    await store.close();
  });

  it("refuses what integrated storage does not take, and has what was there", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "large" });
    await store.write("a", bytes("1"), { kind: "any" });
    vault.settings.maxEntryBytes = 1 << 20;
    const refusal = { code: "ERR_KBS_REQUEST_REFUSED", message: expect.stringContaining("790000 bytes") };
    await expect(store.write("a", Buffer.alloc(790_000), { kind: "any" })).rejects.toMatchObject(refusal);
    await expect(store.write("b", Buffer.alloc(790_000), { kind: "absent" })).rejects.toMatchObject(refusal);
    expect((await store.read("a"))?.bytes.toString()).toBe("1");
    expect((await store.list({ prefix: "", limit: 10 })).keys).toEqual(["a"]);
    vault.settings.maxEntryBytes = Number.POSITIVE_INFINITY;
    await store.close();
  });

  it("names the rights that its token needs, and is not ready without them", async () => {
    const store = openVaultStore({ url: vault.url, login: root, folder: "rights" });
    vault.settings.forbidden = true;
    const refusal = { code: "ERR_KBS_STORE_FAILED", details: { status: 403 }, hint: expect.stringContaining("secret/metadata/rights/*") };
    await expect(store.read("a")).rejects.toMatchObject(refusal);
    await expect(store.probe()).rejects.toMatchObject(refusal);
    vault.settings.forbidden = false;
    await store.probe();
    await store.close();
  });

  it.each(["1.8", "1.21"] as const)("waits for a good token when Vault %s does not take its own", async (version) => {
    vault.settings.version = version;
    const store = openVaultStore({ url: vault.url, login: { kind: "token", token: "ended" } });
    const refusal = { code: "ERR_KBS_STORE_UNAVAILABLE", message: expect.stringContaining("our token") };
    await expect(store.read("a")).rejects.toMatchObject(refusal);
    await expect(store.probe()).rejects.toMatchObject(refusal);
    vault.settings.version = "1.21";
    await store.close();
  });

  it("waits for an engine that was just made", async () => {
    const store = openVaultStore({ url: vault.url, login: root });
    vault.settings.upgrading = true;
    for (const act of [() => store.read("a"), () => store.write("a", bytes("1"), { kind: "any" })])
      await expect(act()).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE", message: expect.stringContaining("getting ready") });
    vault.settings.upgrading = false;
    await store.close();
  });

  it.each([
    [307, "ERR_KBS_STORE_UNAVAILABLE"],
    [404, "ERR_KBS_STORE_FAILED"],
    [429, "ERR_KBS_STORE_UNAVAILABLE"],
    [412, "ERR_KBS_STORE_UNAVAILABLE"],
    [503, "ERR_KBS_STORE_UNAVAILABLE"],
    [473, "ERR_KBS_STORE_UNAVAILABLE"],
    [405, "ERR_KBS_STORE_FAILED"],
    [403, "ERR_KBS_STORE_FAILED"],
  ])("says of status %i whether waiting helps", async (status, code) => {
    const store = openVaultStore({ url: vault.url, login: root });
    vault.outage = status;
    await expect(store.read("a")).rejects.toMatchObject({ code });
    await expect(store.list({ prefix: "", limit: 1 })).rejects.toMatchObject({ code });
    await expect(store.write("a", bytes("1"), { kind: "any" })).rejects.toMatchObject({ code });
    vault.outage = undefined;
    await store.close();
  });
});

describe("a session with Vault", () => {
  const paths = (from: number) => vault.seen.slice(from).map((line) => line.split("/v1/")[1] ?? "");

  it("renews its token before it ends, and logs in again when renewals give too little", async () => {
    let now = 0;
    const session = new VaultSession({ url: vault.url, login: { kind: "approle", roleId: "kbs", secretId: "s3cret" } }, () => now);
    const start = vault.seen.length;
    vault.renewals.push(3600, 60);
    await session.call("GET", "secret/data/x");
    now = 2390 * 1000;
    await session.call("GET", "secret/data/x");
    now = 2410 * 1000;
    await session.call("GET", "secret/data/x");
    now = 4900 * 1000;
    await Promise.all([session.call("GET", "secret/data/x"), session.call("GET", "secret/data/x")]);
    expect(paths(start)).toEqual([
      "auth/approle/login",
      "secret/data/x",
      "secret/data/x",
      "auth/token/renew-self",
      "secret/data/x",
      "auth/token/renew-self",
      "auth/approle/login",
      "secret/data/x",
      "secret/data/x",
    ]);
    await session.close();
  });

  it("keeps a given token alive, and reads its file again when it was rotated", async () => {
    const file = join(folder, "vault-token");
    await writeFile(file, "root\n");
    let now = 0;
    const session = new VaultSession({ url: vault.url, login: { kind: "token-file", tokenFile: file } }, () => now);
    vault.renewals.push(300, 300);
    const start = vault.seen.length;
    expect((await session.call("GET", "secret/data/x")).status).toBe(404);
    now = 201_000;
    expect((await session.call("GET", "secret/data/x")).status).toBe(404);
    expect(paths(start).filter((path) => path.endsWith("renew-self"))).toHaveLength(2);
    vault.tokens.delete("root");
    vault.tokens.add("second");
    await expect(session.call("GET", "secret/data/x")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await writeFile(file, "second\n");
    expect((await session.call("GET", "secret/data/x")).status).toBe(404);
    await rm(file);
    vault.tokens.delete("second");
    await expect(session.call("GET", "secret/data/x")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    vault.tokens.add("root");
    await session.close();
  });

  it("reads the secret id of an AppRole at each login", async () => {
    const file = join(folder, "secret-id");
    await writeFile(file, "wrong");
    const session = new VaultSession({ url: vault.url, login: { kind: "approle-file", roleId: "kbs", secretIdFile: file } });
    await expect(session.call("GET", "secret/data/x")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await writeFile(file, "s3cret\n");
    expect((await session.call("GET", "secret/data/x")).status).toBe(404);
    await session.close();
  });
});

describe("a root key in Vault's transit engine", () => {
  it("binds what it wraps to its purpose, and says whether waiting helps", async () => {
    const key = vaultTransitRootKey({ url: vault.url, login: root, key: "kbs" });
    const wrapped = await key.wrap(bytes("x".repeat(32)), bytes("for a"));
    expect(wrapped.toString()).toMatch(/^vault:v\d+:/);
    expect((await key.unwrap(wrapped, bytes("for a"))).toString()).toBe("x".repeat(32));
    await expect(key.unwrap(wrapped, bytes("for b"))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
    for (const [status, code] of [
      [503, "ERR_KBS_STORE_UNAVAILABLE"],
      [429, "ERR_KBS_STORE_UNAVAILABLE"],
      [412, "ERR_KBS_STORE_UNAVAILABLE"],
      [403, "ERR_KBS_ROOT_KEY_UNUSABLE"],
      [404, "ERR_KBS_ROOT_KEY_UNUSABLE"],
    ] as const) {
      vault.outage = status;
      await expect(key.unwrap(wrapped, bytes("for a")), String(status)).rejects.toMatchObject({ code });
    }
    vault.outage = undefined;
    await key.close?.();
  });

  it("is refused of a Vault that would bind nothing, and that takes a wrong ciphertext for its own failure", async () => {
    const old = { code: "ERR_KBS_ROOT_KEY_UNUSABLE", hint: expect.stringContaining("1.13") };
    const connection = { url: vault.url, login: root, key: "kbs" };
    const before = vaultTransitRootKey(connection);
    const wrapped = await before.wrap(bytes("x".repeat(32)), bytes("a"));
    vault.settings.version = "1.8";
    const key = vaultTransitRootKey(connection);
    await expect(key.wrap(bytes("x".repeat(32)), bytes("a"))).rejects.toMatchObject(old);
    await expect(key.unwrap(wrapped, bytes("a"))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
    const unbound = await fetch(`${vault.url}/v1/transit/encrypt/kbs`, {
      method: "POST",
      headers: { "x-vault-token": "root" },
      body: JSON.stringify({ plaintext: "eA==" }),
    });
    const { data } = (await unbound.json()) as { readonly data: { readonly ciphertext: string } };
    await expect(key.unwrap(bytes(data.ciphertext), bytes("a"))).rejects.toMatchObject(old);
    vault.settings.version = "1.21";
    expect((await key.unwrap(wrapped, bytes("a"))).toString()).toBe("x".repeat(32));
    await before.close?.();
    await key.close?.();
  });

  it("asks once whether Vault binds, and again when the answer was none", async () => {
    const key = vaultTransitRootKey({ url: vault.url, login: root, key: "kbs" });
    const from = vault.seen.length;
    const wrapped = await key.wrap(bytes("1"), bytes("a"));
    for (let i = 0; i < 3; i += 1) await key.unwrap(wrapped, bytes("a"));
    const asked = vault.seen.slice(from).filter((line) => line.includes("/transit/"));
    expect(asked.filter((line) => line.includes("/encrypt/"))).toHaveLength(1);
    expect(asked.filter((line) => line.includes("/decrypt/"))).toHaveLength(4);
    await key.close?.();
  });

  it("that Vault rotates wraps the keyring anew, once, so that former versions may be disallowed", async () => {
    const connection = { url: vault.url, login: root, key: "kbs" };
    const store = openMemoryStore();
    const keyring = await Keyring.open(store, [vaultTransitRootKey(connection)]);
    await keyring.addKey();
    expect(await keyring.rewrapUnderFirstRoot()).toBe(0);
    vault.rotateTransitKey();
    vault.settings.minDecryptionVersion = 2;
    await expect(keyring.reload()).rejects.toMatchObject({
      code: "ERR_KBS_ROOT_KEY_UNUSABLE",
      hint: expect.stringContaining("min_decryption_version"),
    });
    vault.settings.minDecryptionVersion = 1;
    expect(await keyring.rewrapUnderFirstRoot()).toBe(2);
    expect(await keyring.rewrapUnderFirstRoot()).toBe(0);
    vault.settings.minDecryptionVersion = 2;
    const again = await Keyring.open(store, [vaultTransitRootKey(connection)]);
    expect(again.list()).toEqual(keyring.list());
    vault.settings.minDecryptionVersion = 1;
    await keyring.close();
    await again.close();
  });
});

describe("a store in Kubernetes Secrets", () => {
  it("begins a listing anew when the cluster let its snapshot go, and gives up in the end", async () => {
    const kubernetes = await startFakeKubernetes(() => "t");
    await writeFile(join(folder, "sa"), "t");
    const store = openKubernetesStore({ url: kubernetes.url, namespace: "kbs", tokenFile: join(folder, "sa") });
    const keys = ["a", "b", "c", "d", "e"];
    for (const key of keys) await store.write(key, bytes("1"), { kind: "absent" });
    kubernetes.settings.gone = 2;
    expect((await store.list({ prefix: "", limit: 10 })).keys).toEqual(keys);
    kubernetes.settings.gone = 10;
    await expect(store.list({ prefix: "", limit: 10 })).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await store.close();
    await kubernetes.close();
  });

  it("follows the rotation of its token, and waits for a file that is missing", async () => {
    let token = "first";
    const kubernetes = await startFakeKubernetes(() => token);
    const file = join(folder, "rotated");
    await writeFile(file, "first");
    const store = openKubernetesStore({ url: kubernetes.url, namespace: "kbs", tokenFile: file });
    await store.write("a", bytes("1"), { kind: "absent" });
    token = "second";
    await expect(store.read("a")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE", message: expect.stringContaining("token") });
    await writeFile(file, "second");
    expect((await store.read("a"))?.bytes.toString()).toBe("1");
    await rm(file);
    await expect(store.read("a")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await store.close();
    await kubernetes.close();
  });

  it("says which rights it needs where it has none, and takes a namespace that is missing for no conflict", async () => {
    const kubernetes = await startFakeKubernetes(() => "t");
    await writeFile(join(folder, "sa"), "t");
    const store = openKubernetesStore({ url: kubernetes.url, namespace: "other", tokenFile: join(folder, "sa") });
    await expect(store.probe()).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining("update and delete") });
    kubernetes.outage = 404;
    for (const kind of ["absent", "any"] as const)
      await expect(store.write("a", bytes("1"), { kind })).rejects.toMatchObject({
        code: "ERR_KBS_STORE_FAILED",
        hint: "is there a namespace of this name?",
      });
    await store.close();
    await kubernetes.close();
  });

  it("asks for no value of a Secret to see whether the cluster answers", async () => {
    const kubernetes = await startFakeKubernetes(() => "t");
    await writeFile(join(folder, "sa"), "t");
    const store = openKubernetesStore({ url: kubernetes.url, namespace: "kbs", tokenFile: join(folder, "sa") });
    await store.probe();
    expect(kubernetes.seen).toEqual([expect.stringContaining("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dociseal-kbs")]);
    expect(kubernetes.accepted).toEqual([expect.stringMatching(/^application\/json;as=PartialObjectMetadataList;/)]);
    await store.close();
    await kubernetes.close();
  });

  it("refuses what no Secret can hold, and names that are no label or namespace", async () => {
    const options = { url: "http://127.0.0.1:1", namespace: "kbs", tokenFile: "t" };
    const store = openKubernetesStore(options);
    await expect(store.write("a", Buffer.alloc(1_000_001), { kind: "any" })).rejects.toMatchObject({ code: "ERR_KBS_REQUEST_REFUSED" });
    for (const instance of ["a,b=c", "-a", "", "x".repeat(64), "a b"])
      expect(() => openKubernetesStore({ ...options, instance })).toThrow(expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }));
    for (const namespace of ["../kube-system", "Kbs", "", "a/b"])
      expect(() => openKubernetesStore({ ...options, namespace })).toThrow(expect.objectContaining({ code: "ERR_KBS_CONFIG_INVALID" }));
    await store.close();
  });
});
