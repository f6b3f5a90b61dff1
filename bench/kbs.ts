/**
 * What a Key Broker Service spends on a guest: whole handshakes (auth, attest, one resource) over HTTP against a service in
 * a process of its own, with directory store, policy and audit log on disk, beside the bare cryptography in them.
 *
 * `node bench/kbs.ts [kbs | kbs-tdx | kbs-latency | kbs-memory]…`; all of them unless told. Part of `make bench`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { guestKey, handshake, handshakes, hangUp, putResource, requestsPerHandshake, sampleTee, type Attester } from "./kbs-guest.ts";
import { startService, type Service } from "./kbs-service.ts";
import { generatedTdx } from "./kbs-tdx.ts";
import { lineOf, type Measure } from "./rows.ts";

interface Bench {
  readonly service: Service;
  readonly tdx: Attester;
  readonly quick: boolean;
}

const atOnce = 64;

/** Goals of the issue. */
const goals = { ratio: 0.4, p99Ms: 20, growth: 1.05 } as const;

const scenarios = {
  kbs: (bench) => costs(bench, sampleTee, { name: "kbs", title: "sample TEE", verifications: 0 }),
  // The quoting enclave's report and the quote; what Intel signed was verified when it was first seen.
  "kbs-tdx": (bench) => costs(bench, bench.tdx, { name: "kbs-tdx", title: "TDX quote", verifications: 2 }),
  "kbs-latency": latency,
  "kbs-memory": memory,
} as const satisfies Readonly<Record<string, (bench: Bench) => Promise<readonly Measure[]>>>;

/** Runs the scenarios whose names are wanted. */
export async function benchKbs(wants: (name: string) => boolean, size: "full" | "quick"): Promise<readonly Measure[]> {
  const wanted = Object.entries(scenarios).filter(([name]) => wants(name));
  if (wanted.length === 0) return [];
  const folder = mkdtempSync(join(tmpdir(), "ociseal-bench-kbs-"));
  const quote = generatedTdx(folder);
  const tdx: Attester = { tee: "tdx", evidence: (reportData) => ({ cc_eventlog: null, quote: quote(reportData) }) };
  const measures: Measure[] = [];
  const service = await startService(folder);
  try {
    await putResource(service.url, service.token);
    for (const [, run] of wanted) measures.push(...(await run({ service, tdx, quick: size === "quick" })));
  } finally {
    hangUp();
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  return measures;
}

/** CPU of the whole service for one handshake with a release: the best of some rounds, for others work on the machine too. */
async function costs(
  { service, quick }: Bench,
  attester: Attester,
  { name, title, verifications }: { readonly name: string; readonly title: string; readonly verifications: number },
): Promise<readonly Measure[]> {
  const count = quick ? 300 : 1000;
  // A service runs for weeks: the compiler is done when it is measured. And it is busy: a core that is full has many guests.
  await handshakes(service.url, { count: quick ? 300 : 6000, atOnce, attester });
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < (quick ? 2 : 5); round += 1) {
    const before = await service.usage();
    await handshakes(service.url, { count, atOnce, attester });
    best = Math.min(best, ((await service.usage()).cpuMs - before.cpuMs) / count);
  }
  const { handshakeMs, verifyMs } = await service.bareCosts();
  const bare = handshakeMs + verifications * verifyMs;
  return [
    { name, what: `attestation (${title}) and release, CPU`, value: best, unit: "ms" },
    { name, what: "that many a second on one core", value: 1000 / best, unit: "/s" },
    { name, what: `bare cryptography in it (a sign, ${1 + verifications} verify, an ECDH, hashes, AES)`, value: bare, unit: "ms" },
    { name, what: "bare cryptography by the whole", value: bare / best, unit: "", goal: { least: goals.ratio } },
    // A process that signed a token knows it again by its digest.
    { name, what: "the same without the token's verification, which is spared here", value: (bare - verifyMs) / best, unit: "" },
  ];
}

/** Guests that come at a fixed rate, however long others take; what a late beginning costs is counted too. */
async function latency({ service, quick }: Bench): Promise<readonly Measure[]> {
  const name = "kbs-latency";
  const perSecond = 200;
  const key = guestKey();
  await handshakes(service.url, { count: 500, atOnce: 8, attester: sampleTee });
  const taken: number[] = [];
  const running: Promise<void>[] = [];
  const start = performance.now();
  const one = async (due: number): Promise<void> => {
    const late = performance.now() - due;
    const [first = 0, ...others] = await handshake(service.url, key, sampleTee);
    taken.push(late + first, ...others);
  };
  for (let i = 0; i < ((quick ? 3 : 10) * perSecond) / requestsPerHandshake; i += 1) {
    const due = start + (i * requestsPerHandshake * 1000) / perSecond;
    if (due > performance.now()) await wait(due - performance.now());
    running.push(one(due));
  }
  await Promise.all(running);
  const sorted = taken.toSorted((left, right) => left - right);
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? 0;
  return [
    { name, what: `${perSecond} requests a second, median`, value: at(0.5), unit: "ms" },
    { name, what: `${perSecond} requests a second, p99`, value: at(0.99), unit: "ms", goal: { most: goals.p99Ms } },
  ];
}

/**
 * An hour of ten requests a second, as fast as they go; resident memory at each sixth. Before it, as many as fill what is
 * bounded: a service remembers the tokens of three thousand handshakes, 8 MiB.
 */
async function memory({ service, quick }: Bench): Promise<readonly Measure[]> {
  const name = "kbs-memory";
  const count = (quick ? 1500 : 6000) / requestsPerHandshake;
  const warmUp = quick ? count : 3000;
  await handshakes(service.url, { count: warmUp, atOnce: 32, attester: sampleTee });
  const sizes: number[] = [];
  const heaps: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    await handshakes(service.url, { count, atOnce: 32, attester: sampleTee });
    const { rss, heap } = await service.collected();
    sizes.push(rss / 2 ** 20);
    heaps.push(heap / 2 ** 20);
  }
  const series = sizes.map((size, round) => ({
    name,
    what: `resident after ${(warmUp + (round + 1) * count) * requestsPerHandshake} requests`,
    value: size,
    unit: "MiB",
  }));
  const growthOf = (values: readonly number[]): number => (values.at(-1) ?? 0) / (values[0] ?? 1);
  // A quick run ends before that is full.
  const goal = quick ? undefined : { most: goals.growth };
  return [
    ...series,
    { name, what: "the last by the first of these", value: growthOf(sizes), unit: "", goal },
    { name, what: "live objects, last", value: heaps.at(-1) ?? 0, unit: "MiB" },
    { name, what: "live objects, last by first", value: growthOf(heaps), unit: "", goal },
  ];
}

if (import.meta.main) {
  const words = process.argv.slice(2);
  for (const measure of await benchKbs((name) => words.length === 0 || words.includes(name), "full"))
    process.stdout.write(`${lineOf(measure)}\n`);
}
