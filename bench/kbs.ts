/**
 * What a Key Broker Service spends on a guest: whole handshakes (auth, attest, one resource) over HTTP against a service in
 * a process of its own, with directory store, policy and audit log on disk, beside the bare cryptography in them.
 *
 * `node bench/kbs.ts [cpu | latency | keys | memory]…`; all of them unless told.
 */
import { fork, type ChildProcess } from "node:child_process";
import { createECDH, createHash, generateKeyPairSync, sign, verify } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { generatedTdx, tdxClock, tdxVerifier } from "./kbs-tdx.ts";
import { generateRootKey, openDirectoryStore, serveKbs } from "../src/kbs/index.ts";
import { primaryReportData } from "../src/kbs/protocol/runtime-data.ts";
import { parseTeePublicKey, type TeePublicKey } from "../src/kbs/protocol/tee-key.ts";

interface Usage {
  readonly cpuMs: number;
  readonly rss: number;
  /** CPU time of one sign, one verify and one ECDH with a fresh key. */
  readonly bareMs: number;
  readonly verifyMs: number;
}

const roundTrips = 3;

async function serveInChild(folder: string): Promise<void> {
  const server = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: await openDirectoryStore(join(folder, "store")),
    rootKeys: [generateRootKey()],
    mode: "development",
    audit: { directory: join(folder, "audit") },
    verifiers: [tdxVerifier(folder)],
    resourcePolicy: { id: "bench", digest: "none", evaluate: () => ({ allow: true, reasons: [] }) },
    now: () => tdxClock,
    limits: { addressRate: { perSecond: 1e6, burst: 1e6 }, subjectRate: { perSecond: 1e6, burst: 1e6 } },
  });
  process.on("message", (what: "usage" | "bare" | "collect") => {
    if (what === "collect") globalThis.gc?.();
    const { user, system } = process.cpuUsage();
    const bare = what === "bare" ? bareCosts() : { bareMs: 0, verifyMs: 0 };
    process.send?.({ cpuMs: (user + system) / 1000, rss: process.memoryUsage().rss, ...bare } satisfies Usage);
  });
  process.send?.({ url: server.url, token: server.adminToken });
}

/** One ES256 signature, its verification, and an ECDH with a fresh key on P-256; and the verification alone. */
function bareCosts(): Pick<Usage, "bareMs" | "verifyMs"> {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const peer = createECDH("prime256v1").generateKeys();
  const bytes = Buffer.alloc(2000, 7);
  const signed = () => sign("sha256", bytes, { key: pair.privateKey, dsaEncoding: "ieee-p1363" });
  const known = signed();
  const check = (signature: Buffer): void => {
    if (!verify("sha256", bytes, { key: pair.publicKey, dsaEncoding: "ieee-p1363" }, signature)) throw new Error("wrong signature");
  };
  const agree = (): void => {
    const fresh = createECDH("prime256v1");
    fresh.generateKeys();
    createHash("sha256").update(fresh.computeSecret(peer)).digest();
  };
  return {
    bareMs: bestOf(() => {
      check(signed());
      agree();
    }),
    verifyMs: bestOf(() => check(known)),
  };
}

/** CPU milliseconds of one run: the best of six rounds. */
function bestOf(once: () => void): number {
  const rounds = Array.from({ length: 6 }, () => {
    const before = process.cpuUsage();
    for (let i = 0; i < 300; i += 1) once();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / 300;
  });
  return Math.min(...rounds);
}

interface Service {
  readonly url: string;
  readonly token: string;
  ask(what: "usage" | "bare" | "collect"): Promise<Usage>;
  stop(): Promise<void>;
}

async function startService(folder: string): Promise<Service> {
  const child: ChildProcess = fork(import.meta.filename, ["--serve", folder], { execArgv: [...process.execArgv, "--expose-gc"] });
  const next = <Message>(): Promise<Message> => new Promise((resolve) => child.once("message", (message) => resolve(message as Message)));
  const { url, token } = await next<{ url: string; token: string }>();
  return {
    url,
    token,
    ask: (what) => {
      const answer = next<Usage>();
      child.send(what);
      return answer;
    },
    stop: async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    },
  };
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly cookie: string;
}

function send(method: string, url: string, headers: Readonly<Record<string, string>>, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
    const sent = request(url, { method, agent, headers: { ...length, ...headers } }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("end", () => {
        const cookie = /kbs-session-id=[^;]+/.exec(String(answer.headers["set-cookie"] ?? ""))?.[0] ?? "";
        resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString(), cookie });
      });
    });
    sent.once("error", reject);
    sent.end(body);
  });
}

function guestKey(): TeePublicKey {
  const { x, y } = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "jwk" });
  return parseTeePublicKey({ kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x, y });
}

/** Evidence of a TEE for report data. */
interface Attester {
  readonly tee: string;
  readonly evidence: (reportData: Buffer) => unknown;
}

const sample: Attester = { tee: "sample", evidence: (reportData) => ({ svn: "1", report_data: reportData.toString("base64") }) };

/** A whole handshake and one release. Throws when anything is refused. */
async function guest(url: string, key: TeePublicKey, { tee, evidence }: Attester): Promise<void> {
  const challenge = await send("POST", `${url}/kbs/v0/auth`, {}, JSON.stringify({ version: "0.4.0", tee, "extra-params": {} }));
  const { nonce } = JSON.parse(challenge.text) as { nonce: string };
  const reportData = primaryReportData({ nonce, teePublicKey: key, additionalEvidence: "" }, "0.4.0");
  const body = JSON.stringify({
    "init-data": null,
    "runtime-data": { nonce, "tee-pubkey": key },
    "tee-evidence": { primary_evidence: evidence(reportData), additional_evidence: "" },
  });
  const attested = await send("POST", `${url}/kbs/v0/attest`, { cookie: challenge.cookie }, body);
  const { token } = JSON.parse(attested.text) as { token: string };
  const answer = await send("GET", `${url}/kbs/v0/resource/default/key/1`, { authorization: `Bearer ${token}` });
  if (answer.status !== 200) throw new Error(`refused: ${answer.status} ${answer.text}`);
}

/** Handshakes with a number of guests at once. */
async function many(url: string, count: number, atOnce: number, attester = sample): Promise<void> {
  const key = guestKey();
  let left = count;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await guest(url, key, attester);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}

/** Bare signature checks in the appraisal of a TDX quote, all on P-256: see bench/attestation.ts. */
const tdxChecks = 10;

async function cpu(service: Service, tdx: Attester): Promise<void> {
  await cpuWith(service, sample, 0);
  await cpuWith(service, tdx, tdxChecks);
}

async function cpuWith(service: Service, attester: Attester, checks: number): Promise<void> {
  await many(service.url, 1500, 16, attester);
  const rounds: { readonly cpuMs: number; readonly perSecond: number }[] = [];
  for (let round = 0; round < 3; round += 1) {
    const before = await service.ask("usage");
    const start = performance.now();
    await many(service.url, 1000, 16, attester);
    const wall = performance.now() - start;
    const after = await service.ask("usage");
    rounds.push({ cpuMs: (after.cpuMs - before.cpuMs) / 1000, perSecond: 1_000_000 / wall });
  }
  const { bareMs, verifyMs } = await service.ask("bare");
  const bare = bareMs + checks * verifyMs;
  const best = Math.min(...rounds.map(({ cpuMs }) => cpuMs));
  console.log(
    `attestation (${attester.tee}) and release: ${best.toFixed(2)} ms of CPU (${(1000 / best).toFixed(0)} a second on one core); bare cryptography ${bare.toFixed(3)} ms, ratio ${(bare / best).toFixed(2)} (goal 0.40)`,
  );
}

/** Requests at a fixed rate, each counted from the moment at which it was due. */
async function latency(service: Service): Promise<void> {
  const perSecond = 200;
  const seconds = 10;
  const key = guestKey();
  await many(service.url, 300, 8);
  const taken: number[] = [];
  const running: Promise<void>[] = [];
  const start = performance.now();
  const handshakes = (perSecond * seconds) / roundTrips;
  for (let i = 0; i < handshakes; i += 1) {
    const due = start + (i * roundTrips * 1000) / perSecond;
    if (due > performance.now()) await wait(due - performance.now());
    running.push(guest(service.url, key, sample).then(() => void taken.push((performance.now() - due) / roundTrips)));
  }
  await Promise.all(running);
  const sorted = taken.toSorted((left, right) => left - right);
  const at = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1);
  console.log(`${perSecond} requests a second: median ${at(0.5)} ms, p99 ${at(0.99)} ms (goal 20)`);
}

async function memory(service: Service): Promise<void> {
  const sizes: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    await many(service.url, 2000, 32);
    sizes.push((await service.ask("collect")).rss / 2 ** 20);
  }
  console.log(`resident after each 6000 requests: ${sizes.map((size) => size.toFixed(0)).join(", ")} MiB`);
}

async function main(wanted: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-kbs-"));
  const quote = generatedTdx(folder);
  const tdx: Attester = { tee: "tdx", evidence: (reportData) => ({ cc_eventlog: null, quote: quote(reportData) }) };
  const service = await startService(folder);
  try {
    const authorization = `Bearer ${service.token}`;
    await send("POST", `${service.url}/kbs/v0/resource/default/key/1`, { authorization }, "k".repeat(32));
    for (const [name, run] of Object.entries({ cpu, latency, memory }))
      if (wanted.length === 0 || wanted.includes(name)) await run(service, tdx);
  } finally {
    agent.destroy();
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--serve") await serveInChild(rest[0] ?? "");
else await main(process.argv.slice(2));
