import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openDirectoryStore, parseRootKey } from "../../src/kbs/index.ts";
import { raw, startBench } from "./harness.ts";

const rootKey = "c0".repeat(32);
const rounds = 12;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-killed-"));
});
afterEach(() => rm(folder, { recursive: true }));

interface Service {
  readonly url: string;
  readonly adminToken: string;
}

/** Starts the service, gives it work until it is killed, wherever that finds it, and waits for its end. */
async function runUntilKilled(work: (service: Service) => Promise<void>): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "service-writer.ts"), folder, rootKey], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    child.once("exit", (code) => reject(new Error(`the service ended with ${code}`)));
  });
  const working = work(JSON.parse(line) as Service);
  // A write takes some milliseconds: over the rounds, the blow falls on every part of one.
  await wait(5 + Math.random() * 120);
  child.kill("SIGKILL");
  await ended;
  await working;
}

it("a service that is killed at any moment, again and again, has whatever it acknowledged, and each act in an unbroken log", async () => {
  const stored = new Map<string, string>();
  const uncertain = new Map<string, Set<string>>();
  const acts: string[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await runUntilKilled(async ({ url, adminToken }) => {
      const writer = async (name: string): Promise<void> => {
        for (let i = 0; ; i += 1) {
          const value = i % 3 === 0 ? `${round}-${i}-${"x".repeat(20_000)}` : `${round}-${i}`;
          const path = `a/${name}/k${i % 4}`;
          const id = `${name}-${round}-${i}`;
          uncertain.set(path, new Set([...(uncertain.get(path) ?? []), value]));
          try {
            const headers = { authorization: `Bearer ${adminToken}`, "x-request-id": id };
            const { status } = await raw(`${url}/kbs/v0/resource/${path}`, { method: "POST", body: value, headers });
            if (status !== 200) throw new Error(`answered with ${status}`);
          } catch (error) {
            // Killed: what was under way may be there or not.
            if (!(error instanceof Error) || !("code" in error)) throw error;
            return;
          }
          stored.set(path, value);
          uncertain.delete(path);
          acts.push(id);
        }
      };
      await Promise.all(["one", "two", "three"].map(writer));
    });
  }
  expect(acts.length).toBeGreaterThan(rounds);
  const bench = await startBench({
    store: await openDirectoryStore(join(folder, "store")),
    rootKeys: [parseRootKey(rootKey)],
    audit: { directory: join(folder, "audit") },
  });
  for (const [path, value] of stored) {
    const found = (await bench.admin.getResource(`kbs:///${path}`)).toString();
    expect([value, ...(uncertain.get(path) ?? [])]).toContain(found);
  }
  expect(await bench.admin.audit.verify()).toMatchObject({ verdict: "intact", startsAt: "beginning" });
  const recorded = new Set<string>();
  for (let after = 0; ;) {
    const { records } = await bench.admin.audit.read({ after, limit: 1000 });
    for (const { action, decision, requestId } of records) if (action === "resource.put" && decision === "allow") recorded.add(requestId);
    if (records.length === 0) break;
    after = records.at(-1)?.seq ?? after;
  }
  expect(acts.filter((id) => !recorded.has(id))).toEqual([]);
  await bench.close();
});
