import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openMemoryStore, openVaultStore, vaultTransitRootKey, type SecretStore } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { localRootKey } from "../../src/kbs/keys/root-key.ts";
import { VaultSession, type VaultLogin } from "../../src/kbs/stores/vault-session.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingVault, startVault, type TestVault } from "../vault.ts";

const bytes = (text: string) => Buffer.from(text);
const howTo = resolve(import.meta.dirname, "../../docs/how-to/run-the-kbs.md");

// The same acts are tried on an imitation in stores.test.ts and remote-stores.test.ts; what only a real one can show is here.
describe.skipIf(missingVault())("a real Vault or OpenBao, with the rights that the how-to gives", () => {
  let vault: TestVault;
  let folder: string;
  let policy: string;
  let store: SecretStore;
  let login: VaultLogin;
  let root: VaultLogin;

  const open = (as: VaultLogin = login, more: { readonly mount?: string; readonly folder?: string } = {}): SecretStore =>
    openVaultStore({ url: vault.url, login: as, authorities: caCertificate, ...more });
  const transit = (key = "ociseal-kbs", as: VaultLogin = login, mount?: string) =>
    vaultTransitRootKey({ url: vault.url, login: as, authorities: caCertificate, key, mount });
  const tokenWith = async (rules: string): Promise<VaultLogin> => ({ kind: "token", token: await vault.token(rules) });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-vault-"));
    vault = await startVault();
    policy = /```hcl\n([^`]*)```/.exec(await readFile(howTo, "utf8"))?.[1] ?? "";
    login = await tokenWith(policy);
    root = { kind: "token", token: vault.rootToken };
    store = open();
    await vault.call("POST", "transit/keys/ociseal-kbs");
  });
  afterAll(async () => {
    await store.close();
    await vault.stop();
    await rm(folder, { recursive: true });
  });

  it("needs each of these rights, and says which when one is missing", async () => {
    const acts: Readonly<Record<string, (one: SecretStore, name: string) => Promise<unknown>>> = {
      "data read": (one) => one.read("rights/a"),
      "data update": (one) => one.write("rights/a", bytes("2"), { kind: "any" }),
      "metadata create": (one, name) => one.write(`rights/new-${name}`, bytes("1"), { kind: "absent" }),
      "metadata read": (one) => one.probe(),
      "metadata update": async (one) => {
        // What a service left behind that was killed before it wrote: limits of a record that is not there.
        await vault.call("POST", "secret/metadata/ociseal-kbs/rights/limited", { max_versions: 1 });
        await one.write("rights/limited", bytes("1"), { kind: "absent" });
      },
      "metadata list": (one) => one.list({ prefix: "rights", limit: 1 }),
      "metadata delete": (one) => one.remove("rights/a", { kind: "any" }),
    };
    const given = ["data", "metadata"].flatMap((kind) => {
      const [, verbs = ""] = new RegExp(`secret/${kind}/[^[]*\\[([^\\]]*)\\]`).exec(policy) ?? [];
      return [...verbs.matchAll(/"(\w+)"/g)].map((match) => `${kind} ${match[1]}`);
    });
    expect(given.sort()).toEqual(Object.keys(acts).sort());
    for (const [right, act] of Object.entries(acts)) {
      await store.write("rights/a", bytes("1"), { kind: "any" });
      const [kind = "", verb = ""] = right.split(" ");
      const less = policy.replace(new RegExp(`(secret/${kind}/[^[]*\\[[^\\]]*)"${verb}",? ?`), "$1");
      expect(less, right).not.toBe(policy);
      const lesser = open(await tokenWith(less));
      await expect(act(lesser, verb), right).rejects.toMatchObject({
        code: "ERR_KBS_STORE_FAILED",
        details: { status: 403 },
        hint: expect.stringContaining(`secret/${kind}/ociseal-kbs/*`),
      });
      await lesser.close();
      await act(store, verb);
    }
  });

  it("has no right beside its folder, to other mounts or to other keys", async () => {
    for (const more of [{ folder: "other" }, { mount: "transit" }, { mount: "nothing" }]) {
      const elsewhere = open(login, more);
      await expect(elsewhere.read("a")).rejects.toMatchObject({ details: { status: 403 } });
      await expect(elsewhere.write("a", bytes("1"), { kind: "any" })).rejects.toMatchObject({ details: { status: 403 } });
      await elsewhere.close();
    }
    const misspelt = transit("ociseal-kps");
    await expect(misspelt.wrap(bytes("1"), bytes("a"))).rejects.toMatchObject({
      code: "ERR_KBS_ROOT_KEY_UNUSABLE",
      hint: expect.stringContaining("transit/encrypt/ociseal-kps"),
    });
    expect(await vault.call("GET", "transit/keys/ociseal-kps")).toMatchObject({ status: 404 });
    await misspelt.close?.();
  });

  it("loses no change of two services that change one record at once", async () => {
    const other = open();
    await store.write("race", bytes("0"), { kind: "any" });
    const count = async (one: SecretStore): Promise<number> => {
      let conflicts = 0;
      for (let done = 0; done < 30;) {
        const record = await one.read("race");
        const next = bytes(String(Number(record?.bytes.toString()) + 1));
        const outcome = await one.write("race", next, { kind: "revision", revision: record?.revision ?? "" });
        if (outcome === "conflict") conflicts += 1;
        else done += 1;
      }
      return conflicts;
    };
    const [left, right] = await Promise.all([count(store), count(other)]);
    expect((await store.read("race"))?.bytes.toString()).toBe("60");
    expect(left + right).toBeGreaterThan(0);
    await other.close();
  });

  it("keeps one version of a record, and nothing of what was removed", async () => {
    for (const text of ["1", "2", "3"]) await store.write("versions/a", bytes(text), { kind: "any" });
    const path = "secret/metadata/ociseal-kbs/versions/a";
    const { value } = await vault.call("GET", path);
    expect(value["data"]).toMatchObject({ current_version: 3, max_versions: 1 });
    expect(Object.keys((value["data"] as { readonly versions: object }).versions)).toEqual(["3"]);
    expect(await vault.call("GET", "secret/data/ociseal-kbs/versions/a?version=2")).toMatchObject({ status: 404 });
    await store.remove("versions/a", { kind: "any" });
    expect(await vault.call("GET", path)).toMatchObject({ status: 404 });
  });

  it("takes a record that an operator deleted or destroyed by hand for absent, and creates it again", async () => {
    for (const act of [
      () => vault.call("DELETE", "secret/data/ociseal-kbs/hand"),
      () => vault.call("PUT", "secret/destroy/ociseal-kbs/hand", { versions: [1, 2, 3, 4] }),
    ]) {
      await store.write("hand", bytes("1"), { kind: "absent" });
      expect(await act()).toMatchObject({ status: 204 });
      expect(await store.read("hand")).toBeUndefined();
      expect((await store.list({ prefix: "hand", limit: 10 })).keys).toEqual([]);
      expect(await store.remove("hand", { kind: "any" })).toBe("absent");
    }
    expect(await store.write("hand", bytes("2"), { kind: "absent" })).not.toBe("conflict");
    expect((await store.read("hand"))?.bytes.toString()).toBe("2");
  });

  it("lists hundreds of records, by pages", async () => {
    const keys = Array.from({ length: 250 }, (_, i) => `many/${i % 7}/${String(i).padStart(4, "0")}`).sort();
    for (let i = 0; i < keys.length; i += 25)
      await Promise.all(keys.slice(i, i + 25).map((key) => store.write(key, bytes(key), { kind: "absent" })));
    const first = await store.list({ prefix: "many", limit: 150 });
    const second = await store.list({ prefix: "many", limit: 150, after: first.next });
    expect([...first.keys, ...second.keys]).toEqual(keys);
    expect(second.next).toBeUndefined();
  });

  it("writes on a mount that demands check-and-set", async () => {
    await vault.call("POST", "sys/mounts/strict", { type: "kv", options: { version: "2" } });
    const strict = open(root, { mount: "strict" });
    // Until the new engine is there, it says that waiting helps.
    await expect.poll(() => strict.write("first", bytes("1"), { kind: "any" }).catch((error: unknown) => error)).toHaveProperty("revision");
    await vault.call("POST", "strict/config", { cas_required: true });
    for (const text of ["1", "2"]) expect(await strict.write("a", bytes(text), { kind: "any" })).not.toBe("conflict");
    expect(await strict.write("a", bytes("3"), { kind: "absent" })).toBe("conflict");
    expect((await strict.read("a"))?.bytes.toString()).toBe("2");
    await vault.call("POST", "strict/config", { delete_version_after: "1h" });
    await expect(strict.write("a", bytes("3"), { kind: "any" })).rejects.toMatchObject({
      code: "ERR_KBS_STORE_FAILED",
      hint: expect.stringContaining("delete_version_after=0s"),
    });
    await strict.close();
  });

  it("says what is wrong with a mount that cannot keep records, and takes none for absent there", async () => {
    await vault.call("POST", "sys/mounts/kv1", { type: "kv", options: { version: "1" } });
    for (const [mount, hint] of [
      ["kv1", "enable-versioning kv1"],
      ["nothing", "is a KV engine mounted at nothing"],
    ] as const) {
      const wrong = open(root, { mount });
      const refusal = { code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining(hint) };
      await expect(wrong.write("a", bytes("1"), { kind: "any" })).rejects.toMatchObject(refusal);
      await expect(wrong.read("a")).rejects.toMatchObject(refusal);
      await wrong.close();
    }
    const gone = open(root, { mount: "nothing" });
    await expect(gone.list({ prefix: "", limit: 1 })).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED" });
    await expect(gone.probe()).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED" });
    await gone.close();
  });

  it("waits for a token that is good again, when its own ended or was revoked", async () => {
    const file = join(folder, "token");
    const first = await vault.token(policy);
    await writeFile(file, `${first}\n`);
    const rotated = open({ kind: "token-file", tokenFile: file });
    await rotated.write("rotated", bytes("1"), { kind: "any" });
    await vault.call("POST", "auth/token/revoke", { token: first });
    for (const act of [() => rotated.read("rotated"), () => rotated.probe()])
      await expect(act()).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE", message: expect.stringContaining("our token") });
    await writeFile(file, await vault.token(policy));
    expect((await rotated.read("rotated"))?.bytes.toString()).toBe("1");
    await rotated.close();
  });

  it("keeps a token alive, and works with one that may not be renewed", async () => {
    let now = 0;
    const session = (token: string) =>
      new VaultSession({ url: vault.url, login: { kind: "token", token }, authorities: caCertificate }, () => now);
    const token = await vault.token(policy, { ttl: "10m" });
    const endOf = async (): Promise<unknown> =>
      ((await vault.call("POST", "auth/token/lookup", { token })).value["data"] as Record<string, unknown>)["expire_time"];
    const renewing = session(token);
    await renewing.call("GET", "secret/data/ociseal-kbs/x");
    const first = await endOf();
    await renewing.call("GET", "secret/data/ociseal-kbs/x");
    expect(await endOf()).toBe(first);
    now = 401_000;
    await renewing.call("GET", "secret/data/ociseal-kbs/x");
    expect(await endOf()).not.toBe(first);
    await renewing.close();
    for (const more of [{ no_default_policy: true }, { renewable: false }, { type: "batch" }]) {
      const other = session(await vault.token(policy, more));
      for (now of [500_000, 9_000_000]) expect((await other.call("GET", "secret/data/ociseal-kbs/x")).status).toBe(404);
      await other.close();
    }
  });

  it("logs in with an AppRole, renews what it got, and logs in again when that was revoked", async () => {
    await vault.call("POST", "sys/auth/approle", { type: "approle" });
    await vault.call("PUT", "sys/policies/acl/approle-kbs", { policy });
    await vault.call("POST", "auth/approle/role/kbs", { token_policies: ["approle-kbs"], token_ttl: "1h", secret_id_num_uses: 2 });
    const member = async (method: string, path: string, name: string): Promise<string> =>
      String(((await vault.call(method, path)).value["data"] as Record<string, unknown>)[name]);
    const roleId = await member("GET", "auth/approle/role/kbs/role-id", "role_id");
    const file = join(folder, "secret-id");
    await writeFile(file, await member("POST", "auth/approle/role/kbs/secret-id", "secret_id"));
    const one = open({ kind: "approle-file", roleId, secretIdFile: file });
    const revokeAll = () => vault.call("PUT", "sys/leases/revoke-prefix/auth/approle");
    await one.write("approle", bytes("1"), { kind: "any" });
    await revokeAll();
    expect((await one.read("approle"))?.bytes.toString()).toBe("1");
    await revokeAll();
    // Both uses of the secret id are spent.
    await expect(one.read("approle")).rejects.toMatchObject({
      code: "ERR_KBS_STORE_UNAVAILABLE",
      hint: expect.stringContaining("credentials"),
    });
    await writeFile(file, await member("POST", "auth/approle/role/kbs/secret-id", "secret_id"));
    expect((await one.read("approle"))?.bytes.toString()).toBe("1");
    await one.close();
  });

  it("is unavailable while it is sealed, and while its certificate is by an authority that nobody named", async () => {
    await store.write("kept", bytes("1"), { kind: "any" });
    const stranger = openVaultStore({ url: vault.url, login });
    await expect(stranger.read("kept")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await stranger.close();
    await vault.seal();
    const key = transit();
    for (const act of [
      () => store.read("kept"),
      () => store.write("kept", bytes("2"), { kind: "any" }),
      () => store.list({ prefix: "", limit: 1 }),
      () => key.wrap(bytes("1"), bytes("a")),
    ])
      await expect(act()).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await expect(store.probe()).rejects.toMatchObject({ message: expect.stringContaining("sealed") });
    await vault.unseal();
    await store.probe();
    expect((await store.read("kept"))?.bytes.toString()).toBe("1");
    await key.close?.();
  });

  describe("as root key", () => {
    it("is refused where it is too old to bind what it wraps", async (context) => {
      context.skip(vault.binds, "this server binds");
      const key = transit();
      const refusal = { code: "ERR_KBS_ROOT_KEY_UNUSABLE", hint: expect.stringContaining("1.13") };
      await expect(key.wrap(bytes("1"), bytes("a"))).rejects.toMatchObject(refusal);
      await expect(Keyring.open(openMemoryStore(), [key])).rejects.toMatchObject(refusal);
      await expect(key.unwrap(bytes("vault:v1:".padEnd(80, "A")), bytes("a"))).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
      await key.close?.();
    });

    it("binds what it wraps to its purpose, and opens nothing that was changed", async (context) => {
      context.skip(!vault.binds, "this server is older than Vault 1.13");
      const key = transit();
      const wrapped = await key.wrap(bytes("1"), bytes("a"));
      expect((await key.unwrap(wrapped, bytes("a"))).toString()).toBe("1");
      const text = wrapped.toString();
      for (const [changed, purpose] of [
        [text, "b"],
        [text.replace("v1", "v9"), "a"],
        [text.replace(/.{8}$/, "AAAAAAA="), "a"],
        ["vault:v1:AAAA", "a"],
        ["nothing", "a"],
      ] as const) {
        await expect(key.unwrap(bytes(changed), bytes(purpose)), changed).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
      }
      await key.close?.();
    });

    it.each([
      ["RSA", { type: "rsa-2048" }],
      ["derived", { derived: true }],
      ["ecdsa", { type: "ecdsa-p256" }],
    ])("is refused when the key is %s", async (name, parameters) => {
      await vault.call("POST", `transit/keys/${name}`, parameters);
      const key = transit(name, root);
      await expect(key.wrap(bytes("1"), bytes("a"))).rejects.toMatchObject({
        code: "ERR_KBS_ROOT_KEY_UNUSABLE",
        hint: expect.stringMatching(/aes256-gcm96|1\.13/),
      });
      await key.close?.();
    });

    it("says that its mount is missing", async () => {
      const key = transit("ociseal-kbs", root, "nothing");
      const refusal = { code: "ERR_KBS_ROOT_KEY_UNUSABLE", hint: expect.stringContaining("mounted at nothing") };
      await expect(key.wrap(bytes("1"), bytes("a"))).rejects.toMatchObject(refusal);
      await key.close?.();
    });

    it("takes over from a root key in memory; rotated in Vault, it wraps anew before the former version is disallowed", async (context) => {
      context.skip(!vault.binds, "this server is older than Vault 1.13");
      const former = localRootKey(Buffer.alloc(32, 1));
      const records = open(login, { folder: "ociseal-kbs/rotation" });
      const first = await Keyring.open(records, [former]);
      await first.addKey();
      await first.useRoots([transit(), former]);
      expect(await first.rewrapUnderFirstRoot()).toBe(2);
      await first.useRoots([transit()]);

      await vault.call("POST", "transit/keys/ociseal-kbs/rotate");
      await vault.call("POST", "transit/keys/ociseal-kbs/config", { min_decryption_version: 2 });
      await expect(Keyring.open(records, [transit()])).rejects.toMatchObject({
        code: "ERR_KBS_ROOT_KEY_UNUSABLE",
        hint: expect.stringContaining("min_decryption_version"),
      });
      await vault.call("POST", "transit/keys/ociseal-kbs/config", { min_decryption_version: 1 });
      expect(await first.rewrapUnderFirstRoot()).toBe(2);
      expect(await first.rewrapUnderFirstRoot()).toBe(0);
      await vault.call("POST", "transit/keys/ociseal-kbs/config", { min_decryption_version: 2, min_encryption_version: 2 });
      // Vault answers 204, OpenBao with what is left.
      expect((await vault.call("POST", "transit/keys/ociseal-kbs/trim", { min_available_version: 2 })).status).toBeLessThan(300);
      const again = await Keyring.open(records, [transit()]);
      expect(again.list()).toEqual(first.list());
      const sealed = first.seal(bytes("secret"), "a");
      expect((await again.open(sealed, "a")).toString()).toBe("secret");
      for (const keyring of [first, again]) await keyring.close();
      await records.close();
    });
  });
});
