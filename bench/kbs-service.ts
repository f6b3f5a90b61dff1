import { fork, type ChildProcess } from "node:child_process";
import { createECDH, createHash, generateKeyPairSync, sign, verify } from "node:crypto";
import { join } from "node:path";
import { generateRootKey, openDirectoryStore, serveKbs } from "../src/kbs/index.ts";
import { tdxClock, tdxVerifier } from "./kbs-tdx.ts";

/** What a service has used so far. */
export interface Usage {
  readonly cpuMs: number;
  /** Bytes. */
  readonly rss: number;
  /** Bytes of JavaScript objects; after a collection, of live ones. */
  readonly heap: number;
}

/** CPU milliseconds of bare cryptography, in the process of the service. */
export interface BareCosts {
  /** An ES256 signature, its verification, and an ECDH with a fresh key on P-256. */
  readonly handshakeMs: number;
  /** One verification. */
  readonly verifyMs: number;
}

/** A Key Broker Service in a process of its own. */
export interface Service {
  readonly url: string;
  readonly token: string;
  usage(): Promise<Usage>;
  /** After a garbage collection. */
  collected(): Promise<Usage>;
  bareCosts(): Promise<BareCosts>;
  stop(): Promise<void>;
}

type Question = "usage" | "collected" | "bare";

/** What the child runs: store and audit log in a folder on disk, TDX quotes of a generated platform accepted there. */
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
  process.on("message", (question: Question) => {
    if (question === "bare") return void process.send?.(measureBare());
    if (question === "collected") globalThis.gc?.();
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = process.memoryUsage();
    process.send?.({ cpuMs: (user + system) / 1000, rss, heap: heapUsed } satisfies Usage);
  });
  // An orderly end, so that `node --cpu-prof` writes what it saw.
  process.once("SIGTERM", () => process.exit(0));
  process.send?.({ url: server.url, token: server.adminToken });
}

/** In the form in which OpenSSL is asked at the least cost: bare keys, DER signatures. */
function measureBare(): BareCosts {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const peer = createECDH("prime256v1").generateKeys();
  const bytes = Buffer.alloc(2000, 7);
  const known = sign("sha256", bytes, pair.privateKey);
  const check = (signature: Buffer): void => {
    if (!verify("sha256", bytes, pair.publicKey, signature)) throw new Error("wrong signature");
  };
  const agree = (): void => {
    const fresh = createECDH("prime256v1");
    fresh.generateKeys();
    createHash("sha256").update(fresh.computeSecret(peer)).digest();
  };
  return {
    handshakeMs: bestOf(() => {
      check(sign("sha256", bytes, pair.privateKey));
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

/** Starts one with its data in a folder; {@link Service.stop} ends it. */
export async function startService(folder: string): Promise<Service> {
  const child: ChildProcess = fork(import.meta.filename, [folder], { execArgv: [...process.execArgv, "--expose-gc"] });
  const next = <Message>(): Promise<Message> =>
    new Promise((resolve, reject) => {
      const ended = (code: number | null): void => reject(new Error(`the service ended with ${code}`));
      child.once("exit", ended);
      child.once("message", (message) => {
        child.off("exit", ended);
        resolve(message as Message);
      });
    });
  const ask = async <Answer>(question: Question): Promise<Answer> => {
    const answer = next<Answer>();
    child.send(question);
    return answer;
  };
  const { url, token } = await next<{ url: string; token: string }>();
  return {
    url,
    token,
    usage: () => ask("usage"),
    collected: () => ask("collected"),
    bareCosts: () => ask("bare"),
    stop: async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
    },
  };
}

if (import.meta.main) await serveInChild(process.argv[2] ?? "");
