import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { policyEngines } from "../../cli/policy-engines.ts";
import { KbsError } from "../../src/kbs/errors.ts";
import { openMemoryStore, type KbsServerOptions, type SecretStore } from "../../src/kbs/index.ts";
import { wireErrors, type WireErrorCode } from "../../src/kbs/protocol/wire-errors.ts";
import { attest, attestBody, auth, handshake, newTestKey, raw, startBench, type Bench } from "./harness.ts";

/** What an answer says: its status, and the code in its body. */
interface Told {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

let bench: Bench;
let url: string;
let token: string;
let broken: "nothing" | "audit" | "store";
const opened: Bench[] = [];

async function benchWith(options: Partial<KbsServerOptions>): Promise<Bench> {
  const made = await startBench(options);
  opened.push(made);
  return made;
}

/** A store that fails in one way when it is told to. */
function failing(method: "read" | "write", when: () => KbsError | undefined): SecretStore {
  return new Proxy(openMemoryStore(), {
    get(target, name) {
      const error = name === method ? when() : undefined;
      if (error !== undefined) return () => Promise.reject(error);
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

beforeAll(async () => {
  broken = "nothing";
  bench = await benchWith({
    policyEngines,
    limits: { maxBodyBytes: 64 << 10, maxHeadBytes: 8 << 10, headTimeoutMs: 200, requestTimeoutMs: 400 },
    store: failing("read", () => (broken === "store" ? new KbsError("ERR_KBS_STORE_UNAVAILABLE", { message: "gone" }) : undefined)),
    auditSink: { append: () => (broken === "audit" ? Promise.reject(new Error("full")) : Promise.resolve()) },
    routes: [{ method: "GET", pattern: "/defect", name: "defect", handle: () => Promise.reject(new Error("a secret of the program")) }],
  });
  url = bench.server.url;
  await bench.admin.putResource("kbs:///a/b/c", Buffer.from("x"));
  ({ token } = await handshake(url));
});
afterAll(async () => {
  for (const made of opened) await made.close();
});

const admin = (): Record<string, string> => ({ authorization: `Bearer ${bench.server.adminToken}` });
const guest = (path: string) => raw(`${url}/kbs/v0/resource/${path}`, { headers: { authorization: `Bearer ${token}` } });
const put = (path: string, headers: Record<string, string> = {}, body = "x") =>
  raw(`${url}/kbs/v0/resource/${path}`, { method: "POST", body, headers: { ...admin(), ...headers } });
const api = (method: string, path: string, body?: unknown) => raw(`${url}/api/v1/${path}`, { method, body, headers: admin() });

/** Speaks over a socket until the service ends it. */
function talk(to: string, write: (socket: Socket) => void): Promise<Told> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(to).port), "127.0.0.1", () => write(socket));
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => {
      const json = JSON.parse(text.slice(text.indexOf("\r\n\r\n"))) as Record<string, unknown>;
      resolve({ status: Number(text.split(" ")[1]), json });
    });
  });
}

async function attestWith(change: (body: Record<string, unknown>) => Record<string, unknown>): Promise<Told> {
  const { cookie, json } = await auth(url);
  return attest(url, cookie, change(attestBody(String(json["nonce"]), newTestKey().public)));
}

async function whileBroken<T>(what: typeof broken, ask: () => Promise<T>): Promise<T> {
  broken = what;
  try {
    return await ask();
  } finally {
    broken = "nothing";
  }
}

/** Every refusal there is: one without a way to it here does not compile. */
const ways: Readonly<Record<WireErrorCode, readonly [status: number, () => Promise<Told>]>> = {
  "request-malformed": [400, () => raw(`${url}/kbs/v0/auth`, { body: "{" })],
  "path-malformed": [400, () => guest("a//b")],
  "policy-malformed": [400, () => api("PUT", "policies/x", { language: "json", resources: "**", policy: '{"version":1,"teee":[]}' })],
  "protocol-version": [401, () => auth(url, "9.9.9")],
  "session-missing": [401, () => attest(url, undefined, {})],
  "session-expired": [
    401,
    async () => {
      const { cookie } = await auth(url);
      const { now } = bench.clock;
      bench.clock.now = new Date(now.getTime() + 5 * 60_000 + 1000);
      const answer = await attest(url, cookie, {});
      bench.clock.now = now;
      return answer;
    },
  ],
  "nonce-mismatch": [
    401,
    async () => {
      const { cookie } = await auth(url);
      return attest(url, cookie, attestBody(String((await auth(url)).json["nonce"]), newTestKey().public));
    },
  ],
  "evidence-refused": [401, () => attestWith((body) => ({ ...body, "tee-evidence": { primary_evidence: {}, additional_evidence: "" } }))],
  "token-missing": [401, () => raw(`${url}/kbs/v0/resource/a/b/c`)],
  "token-invalid": [401, () => raw(`${url}/kbs/v0/resource/a/b/c`, { headers: { authorization: "Bearer a.b.c" } })],
  "admin-token-missing": [401, () => raw(`${url}/api/v1/system`)],
  "admin-token-invalid": [401, () => raw(`${url}/api/v1/system`, { headers: { authorization: `Bearer ${token}` } })],
  "admin-forbidden": [
    403,
    () => {
      const nobody = bench.server.issueAdminToken({ subject: "nobody", role: "nothing", lifetimeSeconds: 60 });
      return raw(`${url}/api/v1/system`, { headers: { authorization: `Bearer ${nobody}` } });
    },
  ],
  "policy-denied": [
    403,
    async () => {
      await api("PUT", "policies/shut", { language: "json", resources: "shut/**", policy: '{"version":1,"tee":["tdx"]}' });
      return guest("shut/b/c");
    },
  ],
  "key-disabled": [
    403,
    async () => {
      await api("POST", "keys", { path: "a/key/disabled" });
      await api("POST", "keys/a/key/disabled/disable", {});
      return guest("a/key/disabled");
    },
  ],
  "resource-not-found": [404, () => guest("a/b/typo")],
  "object-not-found": [404, () => api("GET", "policies/typo")],
  "plugin-not-found": [404, () => raw(`${url}/kbs/v0/nebula-ca/x/y`, { headers: { authorization: `Bearer ${token}` } })],
  "route-not-found": [404, () => raw(`${url}/kbs/v1/auth`)],
  "method-not-allowed": [405, () => raw(`${url}/kbs/v0/auth`, { method: "PUT", body: "{}" })],
  "request-timeout": [408, () => talk(url, (socket) => socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n"))],
  "resource-exists": [409, () => put("a/b/c", { "if-none-match": "*" })],
  "resource-changed": [409, () => put("a/b/c", { "if-match": '"9"' })],
  "body-too-large": [413, () => put("a/b/large", {}, "x".repeat((64 << 10) + 1))],
  "rate-limited": [
    429,
    async () => {
      const { server } = await benchWith({ limits: { addressRate: { perSecond: 1, burst: 1 } } });
      await auth(server.url);
      return auth(server.url);
    },
  ],
  "head-too-large": [431, () => raw(`${url}/healthz`, { headers: { "x-long": "x".repeat(9 << 10) } })],
  "internal-error": [500, () => raw(`${url}/defect`)],
  "read-only": [
    501,
    async () => {
      let mounted = false;
      const store = failing("write", () => (mounted ? new KbsError("ERR_KBS_STORE_READ_ONLY", { message: "read-only" }) : undefined));
      const { server } = await benchWith({ store });
      mounted = true;
      const headers = { authorization: `Bearer ${server.adminToken}` };
      const answer = await raw(`${server.url}/kbs/v0/resource/a/b/c`, { method: "POST", body: "x", headers });
      mounted = false;
      return answer;
    },
  ],
  "storage-unavailable": [503, () => whileBroken("store", () => guest("a/b/c"))],
  "audit-unavailable": [503, () => whileBroken("audit", () => guest("a/b/c"))],
  overloaded: [
    503,
    async () => {
      let judge: (() => void) | undefined;
      const judged = new Promise<void>((resolve) => {
        judge = resolve;
      });
      const slow = await benchWith({
        limits: { maxConcurrentAttestations: 1 },
        verifiers: [{ tees: ["tdx"], verify: () => judged.then(() => ({ claims: {}, reportData: "" })) }],
      });
      const base = slow.server.url;
      // One is judged, four wait; whichever comes sixth is told to come again.
      const answers = Array.from({ length: 6 }, async () => {
        const { cookie, json } = await auth(base, "0.4.0", "tdx");
        return attest(base, cookie, attestBody(String(json["nonce"]), newTestKey().public));
      });
      const first = await Promise.race(answers);
      judge?.();
      await Promise.all(answers);
      return first;
    },
  ],
  "shutting-down": [
    503,
    async () => {
      const { server } = await benchWith({});
      return talk(server.url, (socket) => {
        socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n", () => {
          // Once another request was answered, the half one has arrived.
          void raw(`${server.url}/healthz`).then(() => {
            void server.close();
            socket.write("\r\n");
          });
        });
      });
    },
  ],
};

describe("a refusal", () => {
  it.each(Object.entries(ways))("%s has its status, and says so in its body", async (code, [status, ask]) => {
    const answer = await ask();
    expect(answer).toMatchObject({
      status,
      json: {
        type: `https://github.com/confidential-containers/kbs/errors/${wireErrors[code as WireErrorCode].type}`,
        detail: expect.stringMatching(/./),
        code,
        request_id: expect.stringMatching(/./),
      },
    });
    expect(JSON.stringify(answer.json)).not.toContain("a secret of the program");
  });

  it("is 401 or 404 as Trustee's, whatever it is, when that was asked for", async () => {
    const { server } = await benchWith({ statuses: "trustee" });
    const path = `${server.url}/kbs/v0`;
    const attested = { headers: { authorization: `Bearer ${(await handshake(server.url)).token}` } };
    const statuses = [
      await raw(`${path}/auth`, { body: "{" }),
      await auth(server.url, "9.9.9"),
      await raw(`${path}/resource/a/b/c`),
      await raw(`${path}/resource/a/b/c`, attested),
      await raw(`${path}/nebula-ca/x/y`, attested),
      await raw(`${server.url}/nothing`),
    ].map(({ status }) => status);
    expect(statuses).toEqual([401, 401, 401, 401, 404, 404]);
  });
});
