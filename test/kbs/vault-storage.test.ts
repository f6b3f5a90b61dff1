import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openVaultStore, vaultTransitRootKey, type SecretStore } from "../../src/kbs/index.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingVault, startVault, type TestVault } from "../vault.ts";

describe.skipIf(missingVault())("a real Vault or OpenBao with integrated storage", () => {
  let vault: TestVault;
  let store: SecretStore;
  beforeAll(async () => {
    vault = await startVault({ storage: "raft" });
    store = openVaultStore({ url: vault.url, login: { kind: "token", token: vault.rootToken }, authorities: caCertificate });
  });
  afterAll(async () => {
    await store.close();
    await vault.stop();
  });

  it("takes what fits one entry of it, refuses what does not, and keeps what was there", async () => {
    const largest = Buffer.alloc(780_000, 7);
    await store.write("large", largest, { kind: "absent" });
    await expect(store.write("large", Buffer.alloc(790_000), { kind: "any" })).rejects.toMatchObject({
      code: "ERR_KBS_REQUEST_REFUSED",
      message: expect.stringContaining("790000 bytes"),
    });
    expect((await store.read("large"))?.bytes.equals(largest)).toBe(true);
    await expect(store.write("larger", Buffer.alloc(790_000), { kind: "absent" })).rejects.toMatchObject({
      code: "ERR_KBS_REQUEST_REFUSED",
    });
    // Its limits of versions are there; a record is not.
    expect(await store.read("larger")).toBeUndefined();
    expect((await store.list({ prefix: "", limit: 10 })).keys).toEqual(["large"]);
    expect(await store.write("larger", Buffer.from("1"), { kind: "absent" })).not.toBe("conflict");
  });

  it("is unavailable until it has elected itself again, and has everything that was acknowledged then", async () => {
    await store.write("kept", Buffer.from("1"), { kind: "any" });
    await vault.kill();
    await expect(store.write("kept", Buffer.from("2"), { kind: "any" })).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    await vault.startSealed();
    await expect(store.read("kept")).rejects.toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
    const electing = vault.unseal();
    const seen: unknown[] = [];
    while (seen.length === 0 || seen.at(-1) instanceof Error) seen.push(await store.read("kept").catch((error: unknown) => error));
    await electing;
    expect(seen.at(-1)).toMatchObject({ bytes: Buffer.from("1") });
    for (const error of seen.slice(0, -1)) expect(error).toMatchObject({ code: "ERR_KBS_STORE_UNAVAILABLE" });
  });
});

describe.skipIf(missingVault())("a namespace of a real OpenBao", () => {
  let vault: TestVault;
  let hasNamespaces: boolean;
  beforeAll(async () => {
    vault = await startVault();
    hasNamespaces = (await vault.call("POST", "sys/namespaces/team")).status === 200;
  });
  afterAll(() => vault.stop());

  it("holds records and a root key of its own", async (context) => {
    context.skip(!hasNamespaces, "this server has no namespaces");
    await vault.call("POST", "team/sys/mounts/secret", { type: "kv", options: { version: "2" } });
    await vault.call("POST", "team/sys/mounts/transit", { type: "transit" });
    await vault.call("POST", "team/transit/keys/kbs");
    const outside = { url: vault.url, login: { kind: "token", token: vault.rootToken }, authorities: caCertificate } as const;
    const inside = { ...outside, namespace: "team" };
    const [store, other] = [openVaultStore(inside), openVaultStore(outside)];
    await expect
      .poll(() => store.write("a", Buffer.from("1"), { kind: "any" }).catch((error: unknown) => error))
      .toHaveProperty("revision");
    await store.probe();
    expect((await store.read("a"))?.bytes.toString()).toBe("1");
    expect(await other.read("a")).toBeUndefined();
    const key = vaultTransitRootKey({ ...inside, key: "kbs" });
    expect((await key.unwrap(await key.wrap(Buffer.from("1"), Buffer.from("a")), Buffer.from("a"))).toString()).toBe("1");
    const nowhere = openVaultStore({ ...outside, namespace: "nothing" });
    for (const act of [() => nowhere.read("a"), () => nowhere.probe(), () => nowhere.list({ prefix: "", limit: 1 })])
      await expect(act()).rejects.toMatchObject({ code: "ERR_KBS_STORE_FAILED", hint: expect.stringContaining("namespace") });
    for (const one of [store, other, nowhere, key]) await one.close?.();
  });
});
