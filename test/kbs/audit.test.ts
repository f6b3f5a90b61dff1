import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { canonicalJson, type JsonObject } from "../../src/attestation/index.ts";
import { generateRootKey, openMemoryStore, verifyAuditLog, type AuditHead } from "../../src/kbs/index.ts";
import { AuditLog, type AuditLogOptions } from "../../src/kbs/audit/audit-log.ts";
import { hashOf, type AuditEntry, type AuditRecord } from "../../src/kbs/audit/record.ts";
import { readRecords } from "../../src/kbs/audit/read-log.ts";
import { signCompact } from "../../src/kbs/tokens/jws.ts";
import { generateSigningKey } from "../../src/kbs/tokens/signing-key.ts";
import { handshake, raw, startBench, type Bench } from "./harness.ts";

let directory: string;
let head: AuditHead | undefined;
let time: Date;
const key = generateSigningKey("ES256");
const keyOf = (kid: string) => (kid === key.kid ? key.publicKey : undefined);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kbs-audit-"));
  head = undefined;
  time = new Date("2026-01-01T00:00:00Z");
});
afterEach(() => rm(directory, { recursive: true }));

function open(options: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return AuditLog.open({
    directory,
    now: () => time,
    sign: (about) => signCompact({ kid: key.kid }, { ...about }, key),
    keepHead: (kept) => {
      head = kept;
      return Promise.resolve();
    },
    ...options,
  });
}

const entry = (resource: string) => ({
  action: "release",
  decision: "allow" as const,
  actor: "guest:tdx:00",
  requestId: "r",
  address: "::1",
  resource,
});

async function write(count: number, options: Partial<AuditLogOptions> = {}): Promise<void> {
  const log = await open(options);
  await Promise.all(Array.from({ length: count }, (_, i) => log.append(entry(`a/b/${i}`))));
  await log.close();
}

async function onlyFile(): Promise<string> {
  const [name = ""] = (await readdir(directory)).sort();
  return join(directory, name);
}

async function lines(): Promise<string[]> {
  return (await readFile(await onlyFile(), "utf8")).split("\n").slice(0, -1);
}

describe("the audit log", () => {
  it("verifies, over restarts", async () => {
    await write(5);
    await write(3);
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({
      verdict: "intact",
      records: 10,
      checkpoints: 2,
      startsAt: "beginning",
    });
    expect((await readRecords(directory, { after: 3, limit: 2 })).map(({ seq }) => seq)).toEqual([4, 5]);
  });

  it("writes a record as the text that it hashes: canonical, whatever its members and their characters", async () => {
    const full: Required<AuditEntry> = {
      ...entry('a/b/"c\\d\u2028\u{1f511}\n'),
      version: 3,
      reasons: ["gründe", "", "\u0000\u007f"],
      policy: "p sha256:00",
      evidence: "sha256:00",
      token: "jti",
      count: 2,
      since: "2026-01-01T00:00:00Z",
      checkpoint: "none",
    };
    const log = await open();
    await log.append(full);
    await log.append({ ...entry("a/b/c"), version: undefined, reasons: [] });
    await log.close();
    const [first = "", second = ""] = await lines();
    for (const line of [first, second]) {
      const { hash, ...rest } = JSON.parse(line) as AuditRecord;
      expect(line).toBe(`${canonicalJson(rest as unknown as JsonObject).slice(0, -1)},"hash":"${hash}"}`);
      expect(hash).toBe(hashOf(rest));
    }
    expect(JSON.parse(first)).toMatchObject(full);
    expect(JSON.parse(second)).not.toHaveProperty("version");
  });

  it("finds an edited record, whichever member was edited", async () => {
    await write(4);
    const original = await lines();
    for (const [from, to] of [
      ['"allow"', '"deny"'],
      ["a/b/1", "a/b/9"],
      ["guest:tdx:00", "guest:tdx:01"],
      ["2026-01-01", "2026-01-02"],
      ['"seq":2', '"seq":7'],
    ] as const) {
      const edited = original.map((line, index) => (index === 1 ? line.replace(from, to) : line));
      await writeFile(await onlyFile(), `${edited.join("\n")}\n`);
      expect(await verifyAuditLog(directory, { keyOf })).toMatchObject({
        verdict: "broken",
        break: { kind: "edited", place: { line: 2 } },
      });
    }
  });

  it("finds cuts, insertions and reorders", async () => {
    await write(5);
    const [a = "", b = "", c = "", ...rest] = await lines();
    for (const changed of [
      [a, c, ...rest],
      [b, c, ...rest],
      [a, c, b, ...rest],
      [a, b, b, c, ...rest],
    ]) {
      await writeFile(await onlyFile(), `${changed.join("\n")}\n`);
      expect(await verifyAuditLog(directory, { keyOf })).toMatchObject({ verdict: "broken", break: { kind: "cut-or-reordered" } });
    }
  });

  it("finds cuts, reorders and insertions at the borders of files, and a file that is missing between others", async () => {
    await write(30, { maxFileBytes: 2000 });
    const log = await open({ maxFileBytes: 2000 });
    for (let i = 0; i < 30; i += 1) await log.append(entry(`x/y/${i}`));
    await log.close();
    const names = (await readdir(directory)).filter((name) => name.endsWith(".jsonl")).sort();
    expect(names.length).toBeGreaterThan(4);
    const before = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
    const [first = "", second = "", third = "", ...rest] = before;
    const headless = (text: string) => text.slice(text.indexOf("\n") + 1);
    const tailless = (text: string) => text.slice(0, text.lastIndexOf("\n", text.length - 2) + 1);
    const last = (text: string) => text.slice(tailless(text).length);
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({ verdict: "intact" });
    for (const [what, changed] of Object.entries({
      "the last record of a file": [first, tailless(second), third, ...rest],
      "the first record of a file": [first, headless(second), third, ...rest],
      "both sides of a border": [first, tailless(second), headless(third), ...rest],
      "two files the other way round": [first, third, second, ...rest],
      "an empty file between": [first, "", third, ...rest],
      "a record twice over a border": [first, second, last(second) + third, ...rest],
      "the beginning without its checkpoint": [headless(second), third, ...rest, ""],
    })) {
      await Promise.all(names.map((name, index) => writeFile(join(directory, name), changed[index] ?? "")));
      expect(await verifyAuditLog(directory, { keyOf, knownHead: head }), what).toMatchObject({
        verdict: "broken",
        break: { kind: "cut-or-reordered" },
      });
    }
    await Promise.all(names.map((name, index) => writeFile(join(directory, name), before[index] ?? "")));
    await rm(join(directory, names[1] ?? ""));
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({
      verdict: "broken",
      break: { kind: "cut-or-reordered" },
    });
  });

  it("finds a cut tail by the head that was kept elsewhere", async () => {
    await write(5);
    const all = await lines();
    await writeFile(await onlyFile(), `${all.slice(0, 3).join("\n")}\n`);
    expect(await verifyAuditLog(directory, { keyOf })).toMatchObject({ verdict: "intact" });
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({
      verdict: "broken",
      break: { kind: "tail-missing" },
    });
  });

  it("finds a chain that somebody computed anew, by its checkpoints", async () => {
    await write(5);
    const verdict = await verifyAuditLog(directory, { keyOf: () => generateSigningKey("ES256").publicKey });
    expect(verdict).toMatchObject({ verdict: "broken", break: { kind: "checkpoint-invalid" } });
  });

  it("cuts off a torn last line, which nobody was told of, and goes on", async () => {
    await write(3);
    await appendFile(await onlyFile(), '{"action":"release","deci');
    await write(2);
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({ verdict: "intact", records: 7 });
  });

  it("goes on in new files, each of which begins with a checkpoint, and drops old ones", async () => {
    const log = await open({ maxFileBytes: 2000, retentionDays: 1 });
    for (let i = 0; i < 30; i += 1) await log.append(entry(`x/y/${i}`));
    await log.close();
    const before = (await readdir(directory)).length;
    expect(before).toBeGreaterThan(4);
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({ verdict: "intact", startsAt: "beginning" });
    // Ten years on, whatever the file system's clock says.
    time = new Date(Date.now() + 10 * 365 * 24 * 3600 * 1000);
    const later = await open({ maxFileBytes: 200, retentionDays: 1 });
    await later.append(entry("late/x/y"));
    await later.close();
    expect((await readdir(directory)).length).toBeLessThan(before);
    expect(await verifyAuditLog(directory, { keyOf, knownHead: head })).toMatchObject({ verdict: "intact", startsAt: "checkpoint" });
  });
});

describe("the audit of a service", () => {
  it("says who did what, who got what and why not, and verifies over the interface", async () => {
    const bench = await startBench({ audit: { directory } });
    await bench.admin.putResource("kbs:///default/key/1", Buffer.from("secret-value"));
    await bench.guest.fetchResource("kbs:///default/key/1");
    const { token } = await handshake(bench.server.url);
    await raw(`${bench.server.url}/kbs/v0/resource/default/key/typo`, {
      headers: { authorization: `Bearer ${token}`, "x-request-id": "trace-me" },
    });
    await raw(`${bench.server.url}/kbs/v0/resource/default/key/1`, { headers: { authorization: "Bearer forged" } });
    await raw(`${bench.server.url}/kbs/v0/resource/default/key/1`, {
      method: "POST",
      body: "x",
      headers: { authorization: "Bearer forged" },
    });
    const { records } = await bench.admin.audit.read();
    expect(records.map(({ action, decision, resource }) => [action, decision, resource])).toEqual([
      ["resource.put", "intent", "default/key/1"],
      ["resource.put", "allow", "default/key/1"],
      ["attest", "allow", undefined],
      ["release", "allow", "default/key/1"],
      ["attest", "allow", undefined],
      ["release", "deny", "default/key/typo"],
      ["release", "deny", "default/key/1"],
      ["resource.put", "deny", "default/key/1"],
    ]);
    expect(records[0]).toMatchObject({ actor: "admin:ociseal-kbs:development-admin", requestId: records[1]?.requestId });
    expect(records[1]).toMatchObject({
      actor: "admin:ociseal-kbs:development-admin",
      version: 1,
      address: "127.0.0.1",
      token: expect.any(String),
    });
    expect(records[2]).toMatchObject({
      actor: "guest:sample",
      evidence: expect.stringMatching(/^sha256:/),
      reasons: expect.arrayContaining(["cpu0 contraindicated"]),
    });
    expect(records[3]).toMatchObject({
      actor: "guest:sample:abcde",
      policy: expect.stringMatching(/^built-in:development sha256:/),
      reasons: [expect.stringContaining("development mode")],
    });
    expect(records[5]).toMatchObject({ requestId: "trace-me" });
    expect(JSON.stringify(records)).not.toContain("secret-value");
    expect(await bench.admin.audit.verify()).toMatchObject({ verdict: "intact" });
    await bench.close();
    const file = await onlyFile();
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace('"deny"', '"allow"'));
    const again = await startBench({ audit: { directory } });
    expect(await again.admin.audit.verify()).toMatchObject({ verdict: "broken", break: { kind: "edited" } });
    await again.close();
  });

  it("remembers for good that its last records were gone when it started, whatever it wrote behind them", async () => {
    const shared = { store: openMemoryStore(), rootKeys: [generateRootKey()] as const };
    const logged: unknown[] = [];
    const run = async (work: (bench: Bench) => Promise<void>): Promise<void> => {
      const bench = await startBench({ ...shared, audit: { directory, checkpointEvery: 5 }, log: (event) => logged.push(event) });
      await work(bench);
      await bench.close();
    };
    const put = async ({ admin }: Bench): Promise<void> => {
      for (let i = 0; i < 4; i += 1) await admin.putResource(`kbs:///a/b/${i}`, Buffer.from("x"));
    };
    await run(put);
    await run(async ({ admin }) => expect(await admin.audit.verify()).toMatchObject({ verdict: "intact" }));
    expect(logged).not.toContainEqual(expect.objectContaining({ event: "audit-tail-missing" }));
    const all = await lines();
    await writeFile(await onlyFile(), `${all.slice(0, 4).join("\n")}\n`);
    await run(put);
    await run(async ({ admin }) => {
      expect(await admin.audit.verify()).toMatchObject({ verdict: "broken", break: { kind: "tail-missing" } });
      expect((await admin.audit.read({ after: 4, limit: 1 })).records).toMatchObject([
        { action: "audit.tail-missing", decision: "error", reasons: [expect.stringContaining("ended at record 4")] },
      ]);
    });
    expect(logged).toContainEqual(expect.objectContaining({ event: "audit-tail-missing" }));
  });

  it("finds at its start that its last file is gone, or ends in other records than it signed", async () => {
    const shared = { store: openMemoryStore(), rootKeys: [generateRootKey()] as const };
    const open = () => startBench({ ...shared, audit: { directory, maxFileBytes: 2000 } });
    const first = await open();
    for (let i = 0; i < 8; i += 1) await first.admin.putResource(`kbs:///a/b/${i}`, Buffer.from("x"));
    await first.close();
    const files = (await readdir(directory)).filter((name) => name.endsWith(".jsonl")).sort();
    expect(files.length).toBeGreaterThan(3);
    await rm(join(directory, files.at(-1) ?? ""));
    const second = await open();
    expect(await second.admin.audit.verify()).toMatchObject({ verdict: "broken", break: { kind: "tail-missing" } });
    await second.close();
  });

  it("has its folder for itself, and leaves it free when it ends", async () => {
    const bench = await startBench({ audit: { directory } });
    await expect(startBench({ audit: { directory } })).rejects.toMatchObject({
      code: "ERR_KBS_STORE_LOCKED",
      message: expect.stringContaining(directory),
      hint: expect.stringContaining("replica"),
    });
    await bench.close();
    await (await startBench({ audit: { directory } })).close();
  });

  it("answers nothing that it cannot write down", async () => {
    const state = { broken: false };
    const bench = await startBench({
      auditSink: { append: () => (state.broken ? Promise.reject(new Error("no space left on device")) : Promise.resolve()) },
    });
    await bench.admin.putResource("kbs:///default/key/1", Buffer.from("the value"));
    const { token } = await handshake(bench.server.url);
    state.broken = true;
    const answer = await raw(`${bench.server.url}/kbs/v0/resource/default/key/1`, { headers: { authorization: `Bearer ${token}` } });
    expect([answer.status, answer.json["code"], answer.headers["retry-after"]]).toEqual([503, "audit-unavailable", "5"]);
    expect(answer.text).not.toContain("ciphertext");
    state.broken = false;
    expect((await raw(`${bench.server.url}/kbs/v0/resource/default/key/1`, { headers: { authorization: `Bearer ${token}` } })).status).toBe(
      200,
    );
    await bench.close();
  });
});
