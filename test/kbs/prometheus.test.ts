import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ServiceMetrics } from "../../src/kbs/metrics/service-metrics.ts";
import { missingPeers, peer } from "../peers.ts";
import { attest, auth, handshake, raw, startBench, type Bench } from "./harness.ts";
import { freePort } from "../free-port.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const rules = join(root, "deploy/prometheus/rules.yaml");

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kbs-prometheus-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("the metrics of a service", () => {
  it("have the series that alerts watch from the start, at nought", () => {
    const text = new ServiceMetrics().text();
    for (const series of [
      'kbs_attestation_failures_total{tee_type="snp"} 0',
      'kbs_attestation_failures_total{tee_type="tdx"} 0',
      'ociseal_key_access_refused_total{reason="policy-denied"} 0',
      'ociseal_admin_refused_total{reason="admin-token-invalid"} 0',
      "ociseal_integrity_failures_total 0",
      "ociseal_audit_failures_total 0",
      "kbs_attestation_errors_total 0",
    ])
      expect(text.split("\n")).toContain(series);
  });
});

describe.skipIf(missingPeers("promtool"))("the files for Prometheus, read by its own tool", () => {
  const promtool = peer("promtool") ?? "";

  it("are rules that load, each of which fires when it should and not before", async () => {
    expect((await run(promtool, ["check", "rules", "--lint-fatal", rules])).stdout).toMatch(/SUCCESS: 10 rules found/);
    const { stdout } = await run(promtool, ["test", "rules", join(import.meta.dirname, "prometheus-rules.yaml")]);
    expect(stdout).toContain("SUCCESS");
    // Every alert has a case in which it fires.
    const tests = await readFile(join(import.meta.dirname, "prometheus-rules.yaml"), "utf8");
    const alerts = [...(await readFile(rules, "utf8")).matchAll(/- alert: (\w+)/g)].map((match) => match[1] ?? "");
    expect(alerts).toHaveLength(10);
    for (const alert of alerts) expect(tests).toMatch(new RegExp(`alertname: ${alert}\\n +exp_alerts:`));
  });

  it("are a scrape configuration that loads", async () => {
    const text = await readFile(join(root, "deploy/prometheus/scrape.yaml"), "utf8");
    await writeFile(join(folder, "ociseal-token"), "t\n");
    await writeFile(join(folder, "ociseal-ca.crt"), "");
    const config = join(folder, "scrape.yaml");
    await writeFile(config, text.replaceAll("/etc/prometheus/", `${folder}/`));
    expect((await run(promtool, ["check", "config", config])).stdout).toContain("SUCCESS");
  });

  it("are metrics that break none of its rules", async () => {
    const bench = await startBench();
    await handshake(bench.server.url);
    const { text } = await raw(`${bench.server.url}/metrics`, { headers: { authorization: `Bearer ${bench.server.adminToken}` } });
    const checked = await new Promise<{ code: number | null; output: string }>((done) => {
      const child = spawn(promtool, ["check", "metrics", "--extended"], { stdio: ["pipe", "pipe", "pipe"] });
      let output = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
      child.on("close", (code) => done({ code, output }));
      child.stdin.end(text);
    });
    expect(checked).toMatchObject({ code: 0, output: expect.stringContaining("kbs_attestation_requests_total") });
    expect(checked.output).not.toMatch(/should|must|non-/);
    await bench.close();
  });
});

describe.skipIf(missingPeers("prometheus"))("a real Prometheus", () => {
  let bench: Bench;
  let server: ChildProcess;
  let url: string;

  beforeAll(async () => {
    bench = await startBench({ audit: { directory: join(folder, "audit") }, version: "1.2.3" });
    const token = bench.server.issueAdminToken({
      subject: "prometheus",
      role: "metrics",
      grants: [{ actions: ["metrics:read"], paths: ["**"] }],
      lifetimeSeconds: 600,
    });
    await writeFile(join(folder, "ociseal-token"), `${token}\n`);
    const scrape = (await readFile(join(root, "deploy/prometheus/scrape.yaml"), "utf8"))
      .replace("scheme: https", "scheme: http")
      .replaceAll("/etc/prometheus/", `${folder}/`)
      .replace(/ {4}tls_config:\n {6}.*\n/, "")
      .replace("kbs.example.com:8443", bench.server.url.slice("http://".length));
    const config = join(folder, "prometheus.yaml");
    await writeFile(config, `global: { scrape_interval: 250ms, evaluation_interval: 250ms }\nrule_files: ["${rules}"]\n${scrape}`);
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    server = spawn(
      peer("prometheus") ?? "",
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(folder, "tsdb")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--log.level=error",
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
  });
  afterAll(async () => {
    const ended = new Promise((done) => server.once("exit", done));
    server.kill("SIGKILL");
    await ended;
    await bench.close();
  });

  async function query(expression: string): Promise<readonly { value: [number, string]; metric: Record<string, string> }[]> {
    const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
    const answer = (await response.json()) as { status: string; error?: string; data?: { result: never } };
    expect(answer.error, expression).toBeUndefined();
    return answer.data?.result ?? [];
  }

  /** The first of an expression's values that is as wanted; a scrape comes four times a second. */
  async function awaitValue(expression: string, wanted: (value: number) => boolean): Promise<number> {
    for (let attempt = 0; attempt < 300; attempt += 1) {
      const value = await query(expression).then(
        ([first]) => Number(first?.value[1] ?? Number.NaN),
        () => Number.NaN,
      );
      if (wanted(value)) return value;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`${expression} did not come to be`);
  }

  it("scrapes the service as the files say, and raises the alarm at the first burst of refused guests", async () => {
    await awaitValue("up", (value) => value === 1);
    await awaitValue('sum(kbs_attestation_failures_total{tee_type="sample"})', (value) => value === 0);
    const { url: service } = bench.server;
    for (let i = 0; i < 20; i += 1) {
      const challenge = await auth(service);
      await attest(service, challenge.cookie, { "runtime-data": { nonce: "x" } });
    }
    await handshake(service);
    await awaitValue("sum(kbs_attestation_failures_total)", (value) => value === 20);
    await awaitValue("count(kbs_build_info)", (value) => value === 1);
    expect((await query("kbs_build_info"))[0]?.metric).toMatchObject({ version: "1.2.3" });
    await awaitValue('count(ALERTS{alertname="OcisealAttestationFailures",alertstate="firing"})', (value) => value === 1);
  });

  it("understands every expression of the dashboard, and every rule is in health", async () => {
    const dashboard = await readFile(join(root, "deploy/grafana/dashboard.json"), "utf8");
    const expressions = [...dashboard.matchAll(/"expr": ("(?:[^"\\]|\\.)*")/g)].map((match) => JSON.parse(match[1] ?? '""') as string);
    expect(expressions.length).toBeGreaterThan(15);
    // A rate takes two scrapes.
    await awaitValue("count(rate(tee_attestation_duration_seconds_bucket[1m]))", (value) => value > 0);
    await awaitValue("count(rate(kbs_http_request_duration_seconds_bucket[1m]))", (value) => value > 0);
    const without: string[] = [];
    for (const expression of expressions) {
      const result = await query(expression.replaceAll("$__rate_interval", "1m"));
      if (result.length === 0) without.push(expression);
    }
    // Without TLS there is no certificate; everything else has something to show.
    expect(without).toEqual(["min(ociseal_certificate_expiry_timestamp_seconds) * 1000"]);
    const groups = (await (await fetch(`${url}/api/v1/rules`)).json()) as {
      data: { groups: { rules: { health: string; name: string }[] }[] };
    };
    const loaded = groups.data.groups.flatMap((group) => group.rules);
    expect(loaded).toHaveLength(10);
    expect(loaded.filter(({ health }) => health === "err")).toEqual([]);
  });
});
