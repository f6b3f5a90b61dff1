import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from "jose";
import { afterEach, describe, expect, it } from "vitest";
import { generateRootKey, openMemoryStore } from "../../src/kbs/index.ts";
import { Keyring } from "../../src/kbs/keys/keyring.ts";
import { SigningKeys } from "../../src/kbs/tokens/signing-keys.ts";
import { handshake, raw, startBench, type Bench } from "./harness.ts";

let bench: Bench;
let folder: string | undefined;
afterEach(async () => {
  await bench.close();
  if (folder !== undefined) await rm(folder, { recursive: true });
  folder = undefined;
});

const dayMs = 24 * 3600 * 1000;
const jwks = async () => (await raw(`${bench.server.url}/.well-known/jwks.json`)).json as unknown as JSONWebKeySet;
const fetchWith = async (token: string) =>
  (await raw(`${bench.server.url}/kbs/v0/resource/a/b/c`, { headers: { authorization: `Bearer ${token}` } })).status;
const listWith = async (token: string) =>
  (await raw(`${bench.server.url}/api/v1/keys`, { headers: { authorization: `Bearer ${token}` } })).status;

describe("the key that signs attestation tokens", () => {
  it("is rotated without anybody noticing: former tokens verify until they expire, here and with the published keys", async () => {
    bench = await startBench();
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("value"));
    const before = await handshake(bench.server.url);
    const { kid } = await bench.admin.system.rotateSigningKey();
    const after = await handshake(bench.server.url);
    const published = await jwks();
    expect(published.keys.map((key) => key.kid)).toHaveLength(2);
    expect(published.keys[0]?.kid).toBe(kid);
    for (const { token } of [before, after]) {
      expect(await fetchWith(token)).toBe(200);
      await jwtVerify(token, createLocalJWKSet(published));
    }
    bench.clock.now = new Date(bench.clock.now.getTime() + 2 * dayMs);
    expect((await jwks()).keys.map((key) => key.kid)).toEqual([kid]);
  });

  it("is revoked at once when it may have leaked", async () => {
    bench = await startBench();
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("value"));
    const { token, cookie } = await handshake(bench.server.url);
    const { kid } = await bench.admin.system.rotateSigningKey({ former: "revoke" });
    expect(await fetchWith(token)).toBe(401);
    const byCookie = await raw(`${bench.server.url}/kbs/v0/resource/a/b/c`, { headers: { cookie: `kbs-session-id=${cookie}` } });
    expect(byCookie.status).toBe(401);
    expect((await jwks()).keys.map((key) => key.kid)).toEqual([kid]);
    // A guest attests again, and goes on.
    expect((await bench.guest.fetchResource("kbs:///a/b/c")).toString()).toBe("value");
  });

  it("signed the audit log, too, which verifies whatever became of the key", async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-rotation-"));
    bench = await startBench({ audit: { directory: folder, checkpointEvery: 2 } });
    const call = (path: string, body?: unknown) => {
      const token = bench.server.issueAdminToken({ subject: "auditor", role: "admin", lifetimeSeconds: 600 });
      return raw(`${bench.server.url}${path}`, { headers: { authorization: `Bearer ${token}` }, ...(body === undefined ? {} : { body }) });
    };
    for (const former of ["keep", "revoke", "keep", "revoke"]) {
      await call("/kbs/v0/resource/a/b/c", former);
      expect((await call("/api/v1/system/rotate-signing-key", { former })).status).toBe(200);
      bench.clock.now = new Date(bench.clock.now.getTime() + 40 * dayMs);
    }
    const verdict = await call("/api/v1/audit/verify");
    expect(verdict.json).toMatchObject({ verdict: "intact" });
    expect(verdict.json["checkpoints"]).toBeGreaterThan(4);
  });
});

describe("the key that signs administration tokens", () => {
  it("is rotated with overlap: former tokens go on", async () => {
    bench = await startBench();
    const before = await bench.admin.system.issueToken({ subject: "ci", role: "admin" });
    await bench.admin.system.rotateSigningKey({ purpose: "admin" });
    const after = await bench.admin.system.issueToken({ subject: "ci", role: "admin" });
    expect([await listWith(before), await listWith(after)]).toEqual([200, 200]);
    // Whoever trusts the published keys for attestation must not come to trust administrators' tokens.
    expect((await jwks()).keys).toHaveLength(1);
    expect(await bench.admin.system.describe()).toMatchObject({
      admin_signing_keys: [
        { state: "signing", active: true },
        { state: "verifying", active: false, retired_at: bench.clock.now.toISOString() },
      ],
    });
  });

  it("is revoked with every token that it signed, but for a new one of whoever did it", async () => {
    bench = await startBench();
    const stolen = await bench.admin.system.issueToken({ subject: "ci", role: "admin" });
    const { token = "" } = await bench.admin.system.rotateSigningKey({ purpose: "admin", former: "revoke" });
    expect([await listWith(stolen), await listWith(token)]).toEqual([401, 200]);
    await expect(bench.admin.system.describe()).rejects.toMatchObject({ code: "ERR_KBS_ADMIN_DENIED" });
  });

  it("needs the right to manage the system, and is in the audit", async () => {
    folder = await mkdtemp(join(tmpdir(), "kbs-rotation-"));
    bench = await startBench({ audit: { directory: folder } });
    const narrow = await bench.admin.system.issueToken({
      subject: "ci",
      role: "x",
      grants: [{ actions: ["token:create", "audit:read"], paths: ["**"] }],
    });
    const rotate = (token: string, body: unknown) =>
      raw(`${bench.server.url}/api/v1/system/rotate-signing-key`, { body, headers: { authorization: `Bearer ${token}` } });
    expect((await rotate(narrow, { purpose: "admin" })).status).toBe(403);
    for (const body of [{ purpose: "x" }, { former: "forget" }, { key: 1 }]) {
      expect((await rotate(bench.server.adminToken ?? "", body)).status).toBe(400);
    }
    await bench.admin.system.rotateSigningKey({ purpose: "admin" });
    const { records } = await bench.admin.audit.read({ last: 2 });
    expect(records).toMatchObject([
      { action: "system.rotate-signing-key", decision: "intent", resource: "admin", reasons: ["former keys: keep"] },
      { action: "system.rotate-signing-key", decision: "allow", reasons: ["former keys: keep", expect.stringMatching(/^new key /)] },
    ]);
  });
});

describe("signing keys that replicas share", () => {
  const open = async (store = openMemoryStore(), root = generateRootKey()) => {
    const keyring = await Keyring.open(store, [root]);
    const options = { purpose: "attestation", algorithm: "ES256", overlapMs: dayMs, keepMs: 100 * dayMs } as const;
    const now = new Date("2026-01-01T00:00:00Z");
    return { store, one: await SigningKeys.open(store, keyring, now, options), two: await SigningKeys.open(store, keyring, now, options) };
  };

  it("are both there after both rotated at once, and private halves go with the signing", async () => {
    bench = await startBench();
    const { one, two } = await open();
    const first = one.active.key.kid;
    const now = new Date("2026-02-01T00:00:00Z");
    await Promise.all([one.rotate({ former: "keep", now }), two.rotate({ former: "keep", now })]);
    const last = one.former.length > two.former.length ? one : two;
    expect(last.former.map(({ key }) => key.kid)).toContain(first);
    expect(last.former).toHaveLength(2);
    expect(last.former.every(({ key }) => !("privateKey" in key))).toBe(true);
  });

  it("are forgotten when nothing can name them any more", async () => {
    bench = await startBench();
    const { one } = await open();
    const first = one.active.key.kid;
    await one.rotate({ former: "keep", now: new Date("2026-02-01T00:00:00Z") });
    await one.rotate({ former: "keep", now: new Date("2026-03-01T00:00:00Z") });
    expect(one.everByKid(first)).toBeDefined();
    await one.rotate({ former: "keep", now: new Date("2026-06-01T00:00:00Z") });
    expect(one.everByKid(first)).toBeUndefined();
    expect(one.former).toHaveLength(2);
  });
});
