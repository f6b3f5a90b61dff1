import { createSocket, type Socket } from "node:dgram";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { syslogShipper } from "../../src/kbs/audit/syslog.ts";
import { raw, startBench } from "./harness.ts";

let collector: Socket;
let folder: string;
let port: number;
const received: string[] = [];

beforeEach(async () => {
  received.length = 0;
  folder = await mkdtemp(join(tmpdir(), "kbs-syslog-"));
  collector = createSocket("udp4", (message) => received.push(message.toString("utf8")));
  await new Promise<void>((resolve) => collector.bind(0, "127.0.0.1", resolve));
  ({ port } = collector.address());
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const closeCollector = () => new Promise<void>((resolve) => collector.close(() => resolve()));

it("a collector gets each record as it is in the log, refusals as warnings", async () => {
  const bench = await startBench({ audit: { directory: join(folder, "audit"), ship: syslogShipper({ host: "127.0.0.1", port }) } });
  await bench.admin.putResource("kbs:///a/b/c", Buffer.from("a secret value"));
  const headers = { authorization: "Bearer forged" };
  await raw(`${bench.server.url}/kbs/v0/resource/a/b/c`, { method: "POST", body: "x", headers });
  await expect.poll(() => received.length).toBe(3);
  const parsed = received.map((text) => {
    // RFC 5424: priority, version, time, no host, name, no process, message id, no structured data, and UTF-8 with its mark.
    const [, priority, time, id, record = ""] =
      /^<(\d+)>1 (\d{4}-\d\d-\d\dT[\d:.]+Z) - ociseal-kbs - ([!-~]{1,32}) - \ufeff(\{.*\})$/.exec(text) ?? [];
    return { priority, time, id, record: JSON.parse(record) as Record<string, unknown> };
  });
  expect(parsed.map(({ priority, id, record }) => [priority, id, record["decision"]])).toEqual([
    ["109", "resource.put", "intent"],
    ["109", "resource.put", "allow"],
    ["108", "resource.put", "deny"],
  ]);
  const { records } = await bench.admin.audit.read();
  expect(parsed.map(({ record }) => record)).toEqual(records);
  expect(parsed.map(({ time }) => time)).toEqual(records.map((record) => record.time));
  expect(received.join()).not.toContain("a secret value");
  await bench.close();
  await closeCollector();
});

it("a collector that is away costs nobody an answer", async () => {
  await closeCollector();
  const bench = await startBench({ audit: { directory: join(folder, "audit"), ship: syslogShipper({ host: "127.0.0.1", port }) } });
  await bench.admin.putResource("kbs:///a/b/c", Buffer.from("x"));
  await bench.admin.putResource("kbs:///a/b/d", Buffer.from("x"));
  expect(await bench.admin.audit.verify()).toMatchObject({ verdict: "intact" });
  await bench.close();
});
