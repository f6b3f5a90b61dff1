import { fork, type ChildProcess } from "node:child_process";
import { createCipheriv, createECDH, createSecretKey, generateKeyPairSync, hash, sign, verify, type ECDH } from "node:crypto";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
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
  /** What no service can do without, whoever wrote it; see {@link measureBare}. */
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

/** As the manifests start it, and as `ociseal kbs serve` tells the collector. */
const deployedFlags = ["--max-semi-space-size=16"];
const collectorFlags = "--heap-growing-percent=60";

/** What the child runs: store and audit log in a folder on disk, TDX quotes of a generated platform accepted there. */
async function serveInChild(folder: string): Promise<void> {
  setFlagsFromString(collectorFlags);
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
  // Whoever measures may be killed.
  process.once("disconnect", () => process.exit(0));
  process.send?.({ url: server.url, token: server.adminToken });
}

/**
 * The cryptography that the protocol demands of a handshake with one release, in the form in which `node:crypto` does it at
 * the least cost: bare keys, DER signatures, one-shot hashes, one ECDH object, nothing encoded or parsed, all of it in a
 * loop whose code and tables are warm.
 *
 * Attestation: SHA-384 of the runtime data, the ES256 signature of the token. Release: the verification of that token; for
 * the JWE a fresh key pair, the agreement with the guest's point (which OpenSSL decodes and finds on its curve), the KDF's
 * SHA-256, A256KW of the content key and A256GCM of the value. Not counted, for they are our own choice: sealed cookies and
 * records, the audit's hashes, the point checked once more when it comes, random bytes.
 */
function measureBare(): BareCosts {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const guest = createECDH("prime256v1").generateKeys();
  const fresh = createECDH("prime256v1");
  const token = Buffer.alloc(2000, 7);
  const runtimeData = Buffer.alloc(300, 7);
  const known = sign("sha256", token, pair.privateKey);
  const check = (signature: Buffer): void => {
    if (!verify("sha256", token, pair.publicKey, signature)) throw new Error("wrong signature");
  };
  return {
    handshakeMs: bestOf(() => {
      hash("sha384", runtimeData, "buffer");
      check(sign("sha256", token, pair.privateKey));
      sealTo(guest, fresh);
    }),
    verifyMs: bestOf(() => check(known)),
  };
}

const contentKey = Buffer.alloc(32, 1);
const keyWrapIv = Buffer.alloc(8, 0xa6);
const contentIv = Buffer.alloc(12, 2);

/** A JWE without its encodings: 32 bytes of value, under a content key that is as long. */
function sealTo(guest: Buffer, fresh: ECDH): void {
  fresh.generateKeys();
  const kek = hash("sha256", fresh.computeSecret(guest), "buffer");
  const wrap = createCipheriv("id-aes256-wrap", createSecretKey(kek), keyWrapIv);
  wrap.update(contentKey);
  wrap.final();
  const cipher = createCipheriv("aes-256-gcm", createSecretKey(contentKey), contentIv);
  cipher.setAAD(kek);
  cipher.update(contentKey);
  cipher.final();
  cipher.getAuthTag();
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
  const child: ChildProcess = fork(import.meta.filename, [folder], { execArgv: [...process.execArgv, ...deployedFlags, "--expose-gc"] });
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
