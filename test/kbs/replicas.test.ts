import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectKbsAdmin } from "../../src/kbs/index.ts";
import { attest, attestBody, auth, newTestKey, raw } from "./harness.ts";
import { missingPostgres, startPostgres, type TestPostgres } from "./postgres.ts";

interface Replica {
  readonly url: string;
  readonly adminToken: string;
  readonly process: ChildProcess;
}

describe.skipIf(missingPostgres())("two replicas on one PostgreSQL", () => {
  let postgres: TestPostgres;
  let replicas: [Replica, Replica];
  const rootKey = "c0".repeat(32);

  async function startReplica(): Promise<Replica> {
    const child = spawn(process.execPath, [join(import.meta.dirname, "replica.ts"), postgres.url, rootKey], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
      child.once("exit", (code) => reject(new Error(`the replica ended with ${code}`)));
    });
    return { ...(JSON.parse(line) as { url: string; adminToken: string }), process: child };
  }

  beforeAll(async () => {
    postgres = await startPostgres();
    replicas = await Promise.all([startReplica(), startReplica()]);
  });
  afterAll(async () => {
    for (const { process } of replicas) process.kill("SIGKILL");
    await postgres.stop();
  });

  it("share sessions, tokens and administration tokens, whichever of them is asked", async () => {
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

  it("lose nothing that was acknowledged when one is killed under load, and go on serving", async () => {
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

  it("say 503 and recover when the database goes away", async () => {
    const [, right] = replicas;
    await postgres.kill();
    const away = await raw(`${right.url}/kbs/v0/resource/a/b/away`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${right.adminToken}` },
    });
    expect([away.status, away.json["code"], away.headers["retry-after"]]).toEqual([503, "storage-unavailable", "1"]);
    expect((await raw(`${right.url}/readyz`)).status).toBe(503);
    expect((await raw(`${right.url}/healthz`)).status).toBe(200);
    await postgres.start();
    const back = await raw(`${right.url}/kbs/v0/resource/a/b/away`, {
      method: "POST",
      body: "x",
      headers: { authorization: `Bearer ${right.adminToken}` },
    });
    expect(back.status).toBe(200);
  });

  it("lose nothing that was acknowledged when the database goes away under load, and refuse the rest with 503", async () => {
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
      await postgres.kill();
      await postgres.start();
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
