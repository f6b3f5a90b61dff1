import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectKbsAdmin } from "../../src/kbs/index.ts";
import { attest, attestBody, auth, newTestKey, raw } from "./harness.ts";
import { missingPostgres, startPostgres } from "./postgres.ts";
import { caCertificate } from "../registry/test-certificates.ts";
import { missingVault, startVault } from "../vault.ts";

interface Replica {
  readonly url: string;
  readonly adminToken: string;
  readonly process: ChildProcess;
}

/** What replicas stand on: how they are told of it, and how it goes away and comes back. */
interface Shared {
  readonly config: string;
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

const rootFile = (folder: string): string => `[[root_keys]]\nkind = "file"\npath = "${join(folder, "root.key")}"\n`;

const kinds: readonly { readonly name: string; readonly skip: boolean; readonly start: (folder: string) => Promise<Shared> }[] = [
  {
    name: "one PostgreSQL",
    skip: missingPostgres(),
    start: async (folder) => {
      const postgres = await startPostgres();
      return { ...postgres, config: `[store]\nkind = "postgresql"\nurl = "${postgres.url}"\n${rootFile(folder)}` };
    },
  },
  {
    name: "one Vault",
    skip: missingVault(),
    start: async (folder) => {
      const vault = await startVault();
      await vault.call("POST", "transit/keys/kbs");
      await writeFile(join(folder, "ca.crt"), caCertificate);
      await writeFile(join(folder, "token"), vault.rootToken);
      const access = `url = "${vault.url}"\nauthorities = "${join(folder, "ca.crt")}"\nlogin = { kind = "token", token_file = "${join(folder, "token")}" }\n`;
      const root = vault.binds ? `[[root_keys]]\nkind = "vault-transit"\nkey = "kbs"\n${access}` : rootFile(folder);
      return { ...vault, config: `[store]\nkind = "vault"\n${access}${root}` };
    },
  },
];

describe.each(kinds)("two replicas on $name", ({ skip, start }) => {
  let shared: Shared;
  let replicas: [Replica, Replica];
  let folder: string;

  async function startReplica(): Promise<Replica> {
    const child = spawn(process.execPath, [join(import.meta.dirname, "replica.ts"), join(folder, "kbs.toml")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
      child.once("exit", (code) => reject(new Error(`the replica ended with ${code}`)));
    });
    return { ...(JSON.parse(line) as { url: string; adminToken: string }), process: child };
  }

  beforeAll(async () => {
    if (skip) return;
    folder = await mkdtemp(join(tmpdir(), "kbs-replicas-"));
    await writeFile(join(folder, "root.key"), "c0".repeat(32));
    shared = await start(folder);
    await writeFile(join(folder, "kbs.toml"), `mode = "development"\n[listen]\nport = 0\n${shared.config}`);
    replicas = await Promise.all([startReplica(), startReplica()]);
  });
  afterAll(async () => {
    if (skip) return;
    for (const { process } of replicas) process.kill("SIGKILL");
    await shared.stop();
    await rm(folder, { recursive: true });
  });

  it.skipIf(skip)("share sessions, tokens and administration tokens, whichever of them is asked", async () => {
    const [left, right] = replicas;
    const put = await raw(`${right.url}/kbs/v0/resource/a/b/shared`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${left.adminToken}` },
    });
    expect(put.status).toBe(200);
    const key = newTestKey();
    const challenge = await auth(left.url);
    const attested = await attest(right.url, challenge.cookie, attestBody(String(challenge.json["nonce"]), key.public));
    expect(attested.status).toBe(200);
    for (const headers of [
      { cookie: `kbs-session-id=${attested.cookie}` },
      { authorization: `Bearer ${String(attested.json["token"])}` },
    ] as Record<string, string>[]) {
      expect((await raw(`${left.url}/kbs/v0/resource/a/b/shared`, { headers })).status).toBe(200);
    }
  });

  it.skipIf(skip)("lose nothing that was acknowledged when one is killed under load, and go on serving", async () => {
    const [left, right] = replicas;
    const acknowledged = new Set<string>();
    let failures = 0;
    let sent = 0;
    const writer = async (number: number): Promise<void> => {
      for (let i = 0; i < 40; i += 1) {
        const target = sent % 2 === 0 ? left : right;
        sent += 1;
        if (sent === 60) left.process.kill("SIGKILL");
        const path = `load/w${number}/k${i}`;
        try {
          const answer = await raw(`${target.url}/kbs/v0/resource/${path}`, {
            method: "POST",
            body: path,
            headers: { authorization: `Bearer ${right.adminToken}` },
          });
          if (answer.status === 200) acknowledged.add(path);
        } catch {
          // The balancer's health check would take it out; here the next request goes to the other one.
          failures += 1;
        }
      }
    };
    await Promise.all([1, 2, 3, 4].map(writer));
    expect(failures).toBeGreaterThan(0);
    expect(acknowledged.size).toBeGreaterThan(80);
    const admin = connectKbsAdmin({ url: right.url, token: right.adminToken });
    for (const path of acknowledged) expect((await admin.getResource(`kbs:///${path}`)).toString()).toBe(path);
    await admin.close();
    const [replacement] = [await startReplica()];
    replicas = [replacement, right];
    const again = await raw(`${replacement.url}/readyz`);
    expect(again.status).toBe(200);
  });

  it.skipIf(skip)("say 503 and recover when what they stand on goes away", async () => {
    const [, right] = replicas;
    await shared.kill();
    const away = await raw(`${right.url}/kbs/v0/resource/a/b/away`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${right.adminToken}` },
    });
    expect([away.status, away.json["code"], away.headers["retry-after"]]).toEqual([503, "storage-unavailable", "1"]);
    expect((await raw(`${right.url}/readyz`)).status).toBe(503);
    expect((await raw(`${right.url}/healthz`)).status).toBe(200);
    await shared.start();
    const back = await raw(`${right.url}/kbs/v0/resource/a/b/away`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${right.adminToken}` },
    });
    expect(back.status).toBe(200);
  });

  it.skipIf(skip)("lose nothing that was acknowledged when it goes away under load, and refuse the rest with 503", async () => {
    const acknowledged = new Set<string>();
    const statuses = new Set<number>();
    const state = { stop: false };
    const writer = async (number: number): Promise<void> => {
      for (let i = 0; !state.stop; i += 1) {
        const path = `outage/w${number}/k${i}`;
        const target = replicas[i % 2] ?? replicas[0];
        const headers = { authorization: `Bearer ${replicas[1].adminToken}` };
        const { status } = await raw(`${target.url}/kbs/v0/resource/${path}`, { method: "POST", body: path, headers });
        statuses.add(status);
        if (status === 200) acknowledged.add(path);
      }
    };
    const writing = Promise.all([1, 2, 3, 4].map(writer));
    for (let round = 0; round < 3; round += 1) {
      const before = acknowledged.size;
      await expect.poll(() => acknowledged.size, { timeout: 30_000 }).toBeGreaterThan(before + 10);
      await wait(Math.random() * 30);
      await shared.kill();
      await shared.start();
    }
    const before = acknowledged.size;
    await expect.poll(() => acknowledged.size, { timeout: 30_000 }).toBeGreaterThan(before);
    state.stop = true;
    await writing;
    expect(statuses).toContain(503);
    // A quick machine asks more often than a token may.
    expect([200, 429, 503]).toEqual(expect.arrayContaining([...statuses]));
    const admin = connectKbsAdmin({ url: replicas[1].url, token: replicas[1].adminToken });
    for (const path of acknowledged) expect((await admin.getResource(`kbs:///${path}`)).toString()).toBe(path);
    await admin.close();
  });
});
