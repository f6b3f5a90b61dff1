import { afterEach, describe, expect, it } from "vitest";
import { openMemoryStore, type AuditEntry, type SecretStore } from "../../src/kbs/index.ts";
import { attest, attestBody, auth, handshake, newTestKey, raw, startBench, type Bench } from "./harness.ts";

let bench: Bench;
afterEach(() => bench.close());

/** A store and a log whose acts are heard in the order in which they happen. */
function heard() {
  const store = openMemoryStore();
  const acts: string[] = [];
  const records: AuditEntry[] = [];
  const state = { broken: false };
  const listening: SecretStore = {
    name: store.name,
    read: (key) => store.read(key),
    list: (request) => store.list(request),
    probe: () => store.probe(),
    close: () => store.close(),
    write: (key, bytes, condition) => {
      if (!key.startsWith("system/audit")) acts.push(`write ${key.split("/")[0]}`);
      return store.write(key, bytes, condition);
    },
    remove: (key, condition) => {
      acts.push(`remove ${key.split("/")[0]}`);
      return store.remove(key, condition);
    },
  };
  const auditSink = {
    append: (entry: AuditEntry) => {
      if (state.broken) return Promise.reject(new Error("no space left on device"));
      acts.push(`${entry.action} ${entry.decision}`);
      records.push(entry);
      return Promise.resolve();
    },
  };
  return { store: listening, auditSink, acts, records, state };
}

describe("an act of administration", () => {
  it("is in the log before it takes effect, and its outcome after", async () => {
    const { acts, store, auditSink } = heard();
    bench = await startBench({ store, auditSink });
    const { admin } = bench;
    const uri = "kbs:///a/b/c";
    const acting: readonly (readonly [string, () => Promise<unknown>])[] = [
      ["resource.put", () => admin.putResource(uri, Buffer.from("v"))],
      ["key.create", () => admin.keys.create("kbs:///a/b/k")],
      ["key.rotate", () => admin.keys.rotate("kbs:///a/b/k")],
      ["key.disable", () => admin.keys.setState("kbs:///a/b/k", { state: "disabled" })],
      ["key.enable", () => admin.keys.setState("kbs:///a/b/k", { state: "enabled" })],
      ["key.destroy", () => admin.keys.setState("kbs:///a/b/k", { state: "destroyed" })],
      ["reference.put", () => admin.references.set({ svn: ["1"] })],
      ["reference.delete", () => admin.references.delete("svn")],
      ["system.rotate-signing-key", () => admin.system.rotateSigningKey()],
      ["system.rotate-encryption-key", () => admin.system.rotateEncryptionKey()],
      ["resource.delete", () => admin.deleteResource(uri)],
    ];
    for (const [action, act] of acting) {
      acts.length = 0;
      await act();
      expect([acts[0], acts.at(-1), acts.length > 2], `${action}: ${acts.join(", ")}`).toEqual([
        `${action} intent`,
        `${action} allow`,
        true,
      ]);
    }
  });

  it("does not take effect when the log cannot be written", async () => {
    const { acts, state, store, auditSink } = heard();
    bench = await startBench({ store, auditSink });
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("old"));
    state.broken = true;
    acts.length = 0;
    const { url, adminToken } = bench.server;
    const headers = { authorization: `Bearer ${adminToken}` };
    for (const [method, path, body] of [
      ["POST", "/kbs/v0/resource/a/b/c", "new"],
      ["DELETE", "/kbs/v0/resource/a/b/c", undefined],
      ["POST", "/api/v1/keys", { path: "a/b/k" }],
      ["POST", "/api/v1/tokens", { subject: "x", role: "admin" }],
      ["POST", "/api/v1/system/rotate-signing-key", {}],
      ["PUT", "/api/v1/reference-values/svn", { value: 1 }],
    ] as const) {
      const answer = await raw(`${url}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
      expect([answer.status, answer.json["code"]], path).toEqual([503, "audit-unavailable"]);
    }
    expect(acts).toEqual([]);
    state.broken = false;
    expect((await bench.admin.getResource("kbs:///a/b/c")).toString()).toBe("old");
  });

  it("that is refused has one record, and none of an intent", async () => {
    const { records, store, auditSink } = heard();
    bench = await startBench({ store, auditSink });
    const { url } = bench.server;
    const narrow = await bench.admin.system.issueToken({
      subject: "ci",
      role: "none",
      grants: [{ actions: ["resource:create"], paths: ["a/**"] }],
    });
    records.length = 0;
    const headers = { authorization: `Bearer ${narrow}` };
    await raw(`${url}/kbs/v0/resource/other/b/c`, { method: "POST", headers, body: "x" });
    await raw(`${url}/api/v1/keys`, { headers, body: { path: "other/b/c" } });
    await raw(`${url}/api/v1/keys`, { headers, body: { path: "not a path" } });
    expect(records.map(({ action, decision, actor }) => `${action} ${decision} ${actor}`)).toEqual([
      "resource.put deny admin:ociseal-kbs:ci",
      "key.create deny admin:ociseal-kbs:ci",
      "key.create deny admin:ociseal-kbs:ci",
    ]);
  });
});

describe("strangers", () => {
  it("cannot fill the log: their first refusals stand there, the others as a number", async () => {
    const { records, auditSink } = heard();
    const limits = { intervalMs: 3_600_000, inFull: 6, inFullPerClient: 4, clients: 2 };
    bench = await startBench({ auditSink, refusalDigest: limits, trustedProxies: ["127.0.0.1"] });
    const { url } = bench.server;
    const knock = (address: string, authorization: string) =>
      raw(`${url}/kbs/v0/resource/a/b/c`, { headers: { authorization, "x-forwarded-for": address } });
    for (let i = 0; i < 50; i += 1) await knock("10.0.0.1", "Bearer forged");
    for (let i = 0; i < 20; i += 1) await raw(`${url}/api/v1/keys`, { headers: { "x-forwarded-for": "10.0.0.2" } });
    for (let i = 3; i < 9; i += 1) await knock(`10.0.0.${i}`, "Bearer forged");
    const challenge = await auth(url);
    const forged = {
      ...attestBody(String(challenge.json["nonce"]), newTestKey().public),
      "tee-evidence": { primary_evidence: {}, additional_evidence: "" },
    };
    for (let i = 0; i < 5; i += 1) expect((await attest(url, challenge.cookie, forged)).status).toBe(401);
    expect(records.map(({ action, decision, address }) => `${action} ${decision} ${address}`)).toEqual([
      ...Array.from({ length: 4 }, () => "release deny 10.0.0.1"),
      "release deny 10.0.0.3",
      "release deny 10.0.0.4",
    ]);
    records.length = 0;
    // An attested guest and an administrator have a record each, whatever strangers did.
    const { token } = await handshake(url);
    for (let i = 0; i < 3; i += 1) await raw(`${url}/kbs/v0/resource/a/b/typo`, { headers: { authorization: `Bearer ${token}` } });
    await bench.admin.putResource("kbs:///a/b/c", Buffer.from("x"));
    expect(records.map(({ action, decision }) => `${action} ${decision}`)).toEqual([
      "attest allow",
      "release deny",
      "release deny",
      "release deny",
      "resource.put intent",
      "resource.put allow",
    ]);
    records.length = 0;
    await bench.server.close();
    expect(records.map(({ action, address, count, reasons }) => [action, address, count, reasons])).toEqual([
      ["refusals", "10.0.0.1", 46, ["release: 46"]],
      ["refusals", "10.0.0.2", 20, ["key.list: 20"]],
      ["refusals", "", 9, ["5 further addresses", "attest: 5", "release: 4"]],
    ]);
  });

  it("are counted on when the summary cannot be written", async () => {
    const { records, state, auditSink } = heard();
    bench = await startBench({ auditSink, refusalDigest: { intervalMs: 20 } });
    const { url } = bench.server;
    for (let i = 0; i < 3; i += 1) await raw(`${url}/api/v1/keys`);
    state.broken = true;
    await expect.poll(() => bench.server.metricsText()).toMatch(/ociseal_audit_failures_total [1-9]/);
    await raw(`${url}/api/v1/keys`);
    state.broken = false;
    await expect.poll(() => records.reduce((sum, { count = 0 }) => sum + count, 0)).toBe(4);
  });
});

describe("a body", () => {
  it("is read only of those who may send it", async () => {
    bench = await startBench();
    const { url } = bench.server;
    const narrow = await bench.admin.system.issueToken({
      subject: "reader",
      role: "none",
      grants: [{ actions: ["policy:read"], paths: ["**"] }],
    });
    for (const [method, path] of [
      ["POST", "/kbs/v0/resource/a/b/c"],
      ["POST", "/kbs/v0/resource-policy"],
      ["POST", "/kbs/v0/attestation-policy"],
      ["POST", "/kbs/v0/reference-value"],
      ["PUT", "/api/v1/resources/a/b/c"],
      ["POST", "/api/v1/resources/a/b/c/confirm"],
      ["POST", "/api/v1/keys"],
      ["POST", "/api/v1/keys/a/b/c/disable"],
      ["POST", "/api/v1/keys/a/b/c/rewrap"],
      ["PUT", "/api/v1/policies/x"],
      ["PUT", "/api/v1/attestation-policies/x"],
      ["PUT", "/api/v1/reference-values/x"],
      ["POST", "/api/v1/tokens"],
      ["POST", "/api/v1/system/rotate-signing-key"],
    ] as const) {
      // Neither JSON nor within any limit: whoever looks at it first would answer 400 or 413.
      const body = Buffer.alloc(3 << 20, "{");
      for (const [authorization, status] of [
        [undefined, 401],
        ["Bearer forged", 401],
        [`Bearer ${narrow}`, 403],
      ] as const) {
        const answer = await raw(`${url}${path}`, { method, body, headers: authorization === undefined ? {} : { authorization } });
        expect(answer.status, `${method} ${path} ${authorization?.slice(0, 13) ?? "nobody"}`).toBe(status);
      }
    }
  });
});
