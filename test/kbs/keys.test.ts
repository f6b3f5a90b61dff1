import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import * as fc from "fast-check";
import { flattenedDecrypt, FlattenedEncrypt } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  connectKbsAdmin,
  generateRootKey,
  KbsError,
  localRootKey,
  openMemoryStore,
  parseRootKey,
  type SecretStore,
} from "../../src/kbs/index.ts";
import { keyIdOf, openRecord, sealRecord } from "../../src/kbs/keys/envelope.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { ResourceVault } from "../../src/kbs/keys/resource-vault.ts";
import { SealedRecords } from "../../src/kbs/keys/sealed-records.ts";
import { resealEverything } from "../../src/kbs/keys/reseal.ts";
import { raw, startBench, type Bench } from "./harness.ts";

/** A member of a store, `list` replaced. */
function memberOf(store: SecretStore, name: string | symbol, list: SecretStore["list"]): unknown {
  const value: unknown = name === "list" ? list : Reflect.get(store, name);
  return typeof value === "function" ? (value.bind(store) as unknown) : value;
}

describe("the envelope", () => {
  const key = { id: "0011223344556677", secret: Buffer.alloc(32, 1) };

  it("opens what it sealed, for any bytes and place", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), fc.string(), (bytes, binding) => {
        const sealed = sealRecord(bytes, key, binding);
        expect(openRecord(sealed, key.secret, binding)).toEqual(Buffer.from(bytes));
        expect(keyIdOf(sealed, binding)).toBe(key.id);
      }),
    );
  });

  it("detects every changed, missing and added byte, another place and another key", () => {
    const sealed = sealRecord(Buffer.from("value"), key, "resource/a/b/c");
    for (let i = 0; i < sealed.length; i += 1) {
      const changed = Buffer.from(sealed);
      changed[i] = (changed[i] ?? 0) ^ 0x80;
      expect(() => openRecord(changed, key.secret, "resource/a/b/c")).toThrow(expect.objectContaining({ code: "ERR_KBS_RECORD_CORRUPT" }));
      expect(() => openRecord(sealed.subarray(0, i), key.secret, "resource/a/b/c")).toThrow(
        expect.objectContaining({ code: "ERR_KBS_RECORD_CORRUPT" }),
      );
    }
    expect(() => openRecord(Buffer.concat([sealed, Buffer.of(0)]), key.secret, "resource/a/b/c")).toThrow();
    expect(() => openRecord(sealed, key.secret, "resource/a/b/d")).toThrow();
    expect(() => openRecord(sealed, Buffer.alloc(32, 2), "resource/a/b/c")).toThrow();
  });
});

describe("the keyring", () => {
  it("is one and the same for replicas that start at once", async () => {
    const store = openMemoryStore();
    const root = generateRootKey();
    const [left, right] = await Promise.all([Keyring.open(store, [root]), Keyring.open(store, [root])]);
    expect((await right.open(left.seal(Buffer.from("x"), "p"), "p")).toString()).toBe("x");
  });

  it("refuses a wrong root key, and rotates roots without losing anything", async () => {
    const store = openMemoryStore();
    const [old, fresh] = [generateRootKey(), generateRootKey()];
    const sealed = (await Keyring.open(store, [old])).seal(Buffer.from("x"), "p");
    await expect(Keyring.open(store, [fresh])).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE", category: "no-key" });
    const both = await Keyring.open(store, [fresh, old]);
    expect(await both.rewrapUnderFirstRoot()).toBe(1);
    const alone = await Keyring.open(store, [fresh]);
    expect((await alone.open(sealed, "p")).toString()).toBe("x");
    await expect(Keyring.open(store, [old])).rejects.toMatchObject({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" });
  });

  it("lets a replica open what another sealed under a new key", async () => {
    const store = openMemoryStore();
    const root = generateRootKey();
    const [left, right] = [await Keyring.open(store, [root]), await Keyring.open(store, [root])];
    await left.addKey();
    expect((await right.open(left.seal(Buffer.from("x"), "p"), "p")).toString()).toBe("x");
  });

  it("reseals everything and forgets a former key only when nothing is under it and the new one has settled", async () => {
    const store = openMemoryStore();
    const keyring = await Keyring.open(store, [generateRootKey()]);
    const vault = new ResourceVault(store, keyring);
    const records = new SealedRecords(store, keyring);
    const path = { repository: "a", type: "b", tag: "c" };
    const now = new Date();
    for (const size of [10, 20_000]) await vault.put({ path, value: Buffer.alloc(size, 7), condition: "any", by: "t", now });
    await records.write("system/x", { a: 1 }, { kind: "any" });
    await keyring.addKey();
    expect(await resealEverything({ store, records, vault, keyring, now })).toEqual({ resealed: 2, dropped: 0 });
    expect(await resealEverything({ store, records, vault, keyring, now })).toEqual({ resealed: 0, dropped: 0 });
    const later = new Date(now.getTime() + 2 * 3600 * 1000);
    expect(await resealEverything({ store, records, vault, keyring, now: later })).toEqual({ resealed: 0, dropped: 1 });
    expect((await vault.read(path))?.value.length).toBe(20_000);
    expect((await vault.read({ ...path, tag: "c.v1" }))?.value.length).toBe(10);
    expect((await records.read("system/x"))?.value).toEqual({ a: 1 });
  });

  it("reads root keys from hex and base64, and nothing else", () => {
    const bytes = randomBytes(32);
    expect(parseRootKey(`${bytes.toString("hex")}\n`).id).toBe(localRootKey(bytes).id);
    expect(parseRootKey(bytes.toString("base64")).id).toBe(localRootKey(bytes).id);
    for (const bad of ["", "abc", bytes.toString("hex").slice(2)])
      expect(() => parseRootKey(bad)).toThrow(expect.objectContaining({ code: "ERR_KBS_ROOT_KEY_UNUSABLE" }));
  });
});

describe("keys at a service", () => {
  let bench: Bench;
  const uri = "kbs:///default/image-key/app";

  beforeAll(async () => {
    bench = await startBench();
  });
  afterAll(() => bench.close());

  it("makes a key whose value only guests see, and says when it is due", async () => {
    const key = await bench.admin.keys.create(uri, { rotationDays: 30 });
    expect(key).toMatchObject({
      path: "default/image-key/app",
      uri,
      kind: "key",
      currentVersion: 1,
      releasedVersion: 1,
      rotationDays: 30,
      rotationDue: false,
    });
    expect(await bench.guest.fetchResource(uri)).toHaveLength(32);
    await expect(bench.admin.keys.create(uri)).rejects.toMatchObject({ code: "ERR_KBS_CONFLICT" });
    const before = bench.clock.now;
    bench.clock.now = new Date(before.getTime() + 31 * 24 * 3600 * 1000);
    const token = bench.server.issueAdminToken({ subject: "later", role: "admin", lifetimeSeconds: 60 });
    const later = connectKbsAdmin({ url: bench.server.url, token });
    expect((await later.keys.describe(uri)).rotationDue).toBe(true);
    await later.close();
    bench.clock.now = before;
  });

  it("keeps images in the field readable when a key is rotated, and wraps new ones under the new version", async () => {
    const name = "kbs:///default/image-key/rotated";
    await bench.admin.keys.create(name);
    const first = await bench.guest.fetchResource(name);
    expect((await bench.admin.keys.rotate(name)).currentVersion).toBe(2);
    expect(await bench.guest.fetchResource(name)).toEqual(first);
    const second = await bench.guest.fetchResource(`${name}.v2`);
    expect(second).not.toEqual(first);
    const registered = await bench.admin.registerKey(name);
    expect([registered.uri, registered.outcome]).toEqual([`${name}.v2`, "present"]);
    expect(registered.key).toEqual(second);
  });

  it("releases a version under the policy of its key: a version's name is no way around it", async () => {
    const strict = await startBench({
      policyEngines: [
        {
          language: "json",
          compileRelease: (_text, id) => ({
            id,
            digest: "sha256:deny",
            evaluate: ({ resourcePath }) => ({ allow: false, reasons: [resourcePath.join("/")] }),
          }),
        },
      ],
    });
    const name = "kbs:///default/image-key/strict";
    await strict.admin.keys.create(name);
    expect(await strict.guest.fetchResource(`${name}.v1`)).toHaveLength(32);
    await strict.admin.policies.put({ id: "strict", language: "json", text: "deny", resources: "default/image-key/strict" });
    for (const tag of ["", ".v1", ".v9"]) {
      await expect(strict.guest.fetchResource(`${name}${tag}`)).rejects.toMatchObject({
        details: expect.objectContaining({ reasons: ["default/image-key/strict"] }) as unknown,
      });
    }
    await strict.close();
  });

  it("rewraps CoCo's packet and our JWE without showing a key", async () => {
    const name = "kbs:///default/image-key/rewrap";
    const { key } = await bench.admin.registerKey(name);
    await bench.admin.keys.rotate(name);
    const options = Buffer.from('{"symkey":"c2VjcmV0"}');
    const iv = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, iv);
    const wrapped = Buffer.concat([cipher.update(options), cipher.final(), cipher.getAuthTag()]);
    const coco = Buffer.from(
      JSON.stringify({ kid: name, wrapped_data: wrapped.toString("base64"), iv: iv.toString("base64"), wrap_type: "A256GCM" }),
    );
    const fresh = await bench.guest.fetchResource(`${name}.v2`);
    const outcome = await bench.admin.keys.rewrap(name, coco);
    expect([outcome.fromVersion, outcome.toVersion]).toEqual([1, 2]);
    const packet = JSON.parse(outcome.packet.toString()) as Record<string, string>;
    expect(packet["kid"]).toBe(`${name}.v2`);
    const data = Buffer.from(packet["wrapped_data"] ?? "", "base64");
    const decipher = createDecipheriv("aes-256-gcm", fresh, Buffer.from(packet["iv"] ?? "", "base64"));
    decipher.setAuthTag(data.subarray(-16));
    expect(Buffer.concat([decipher.update(data.subarray(0, -16)), decipher.final()])).toEqual(options);

    const jwe = await new FlattenedEncrypt(options).setProtectedHeader({ alg: "A256KW", enc: "A256GCM", kid: name }).encrypt(key);
    const rewrapped = await bench.admin.keys.rewrap(name, Buffer.from(JSON.stringify(jwe)));
    const opened = await flattenedDecrypt(JSON.parse(rewrapped.packet.toString()) as { ciphertext: string }, fresh);
    expect(Buffer.from(opened.plaintext)).toEqual(options);
    expect(opened.protectedHeader?.["kid"]).toBe(`${name}.v2`);
    // Once more: a packet of version 2 is rewrapped from version 2.
    expect((await bench.admin.keys.rewrap(name, rewrapped.packet)).fromVersion).toBe(2);
    await expect(bench.admin.keys.rewrap(uri, coco)).rejects.toMatchObject({ code: "ERR_KBS_REQUEST_REFUSED" });
    const damaged = Buffer.from(coco.toString().replace(wrapped.toString("base64"), Buffer.from(wrapped).fill(0).toString("base64")));
    await expect(bench.admin.keys.rewrap(name, damaged)).rejects.toMatchObject({ code: "ERR_KBS_REQUEST_REFUSED" });
  });

  it("releases neither a disabled nor a destroyed version, and brings none back from destruction", async () => {
    const name = "kbs:///default/image-key/states";
    await bench.admin.keys.create(name);
    await bench.admin.keys.setState(name, { state: "disabled" });
    await expect(bench.guest.fetchResource(name)).rejects.toMatchObject({ code: "ERR_KBS_RELEASE_DENIED" });
    await bench.admin.keys.setState(name, { state: "enabled", version: 1 });
    expect(await bench.guest.fetchResource(name)).toHaveLength(32);
    const destroyed = await bench.admin.keys.setState(name, { state: "destroyed" });
    expect(destroyed.versions).toMatchObject([{ version: 1, state: "destroyed" }]);
    await expect(bench.admin.keys.setState(name, { state: "enabled", version: 1 })).rejects.toMatchObject({ code: "ERR_KBS_CONFLICT" });
    await expect(bench.admin.keys.setState(name, { state: "enabled", version: 9 })).rejects.toMatchObject({ code: "ERR_KBS_NOT_FOUND" });
    await expect(bench.guest.fetchResource(name)).rejects.toMatchObject({ code: "ERR_KBS_RELEASE_DENIED" });
    await expect(bench.admin.registerKey(name)).rejects.toMatchObject({ category: "denied" });
  });

  it("replaces a version only when it is still the current one", async () => {
    const name = "kbs:///default/cas/x";
    expect(await bench.admin.putResource(name, Buffer.from("1"), { condition: "absent" })).toBe("stored");
    const outcomes = await Promise.all(
      [1, 2, 3, 4].map((i) => bench.admin.putResource(name, Buffer.from(`v${i}`), { condition: { version: 1 } })),
    );
    expect(outcomes.filter((outcome) => outcome === "stored")).toHaveLength(1);
  });

  it("lists keys by page", async () => {
    for (let i = 0; i < 5; i += 1) await bench.admin.putResource(`kbs:///pages/key/k${i}`, Buffer.alloc(32));
    const first = await bench.admin.keys.list({ prefix: "pages", limit: 2 });
    expect(first.keys.map(({ path }) => path)).toEqual(["pages/key/k0", "pages/key/k1"]);
    const rest = await bench.admin.keys.list({ prefix: "pages", limit: 10, after: first.next });
    expect(rest.keys).toHaveLength(3);
    expect(rest.next).toBeUndefined();
  });

  it("are counted when they are due, all of them, and metrics are there while the store is not", async () => {
    const store = openMemoryStore();
    const state = { away: false };
    const list: typeof store.list = (request) =>
      state.away ? Promise.reject(new KbsError("ERR_KBS_STORE_UNAVAILABLE", { message: "the store is away" })) : store.list(request);
    const counting = await startBench({ store: new Proxy(store, { get: (target, name) => memberOf(target, name, list) }) });
    await Promise.all(Array.from({ length: 250 }, (_, i) => counting.admin.keys.create(`kbs:///a/b/k${i}`, { rotationDays: 1 + (i % 2) })));
    counting.clock.now = new Date(counting.clock.now.getTime() + 1.5 * 24 * 3600 * 1000);
    const token = counting.server.issueAdminToken({ subject: "prometheus", role: "admin", lifetimeSeconds: 600 });
    const metrics = async () => (await raw(`${counting.server.url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text;
    expect(await metrics()).toContain("ociseal_keys_rotation_due 125");
    state.away = true;
    expect(await metrics()).toContain("ociseal_keys_rotation_due 125");
    await counting.close();
  });

  it("rotates the key-encryption key and the signing key while guests go on", async () => {
    const name = "kbs:///default/image-key/rotations";
    const { key } = await bench.admin.registerKey(name);
    const before = await bench.guest.attestationToken();
    expect((await bench.admin.system.rotateEncryptionKey()).resealed).toBeGreaterThan(3);
    const { kid } = await bench.admin.system.rotateSigningKey();
    expect(await bench.guest.fetchResource(name)).toEqual(key);
    expect(await bench.guest.attestationToken()).toBe(before);
    expect(JSON.stringify(await bench.admin.system.describe())).toContain(kid);
  });
});
