import { generateKeyPairSync } from "node:crypto";
import { request } from "node:http";
import { sampleAttester } from "../../src/attestation/index.ts";
import {
  connectKbs,
  connectKbsAdmin,
  generateRootKey,
  openMemoryStore,
  serveKbs,
  type KbsAdmin,
  type KbsClient,
  type KbsServer,
  type KbsServerOptions,
} from "../../src/kbs/index.ts";
import { primaryReportData, type ProtocolVersion } from "../../src/kbs/protocol/runtime-data.ts";
import { parseTeePublicKey, type TeePublicKey } from "../../src/kbs/protocol/tee-key.ts";

/** A service on loopback with a guest and an administrator; everything is closed by `close`. */
export interface Bench {
  readonly server: KbsServer;
  readonly admin: KbsAdmin;
  readonly guest: KbsClient;
  readonly clock: { now: Date };
  close(): Promise<void>;
}

export async function startBench(options: Partial<KbsServerOptions> = {}): Promise<Bench> {
  const clock = { now: new Date() };
  const server = await serveKbs({
    listen: { host: "127.0.0.1", port: 0 },
    store: openMemoryStore(),
    rootKeys: [generateRootKey()],
    mode: "development",
    now: () => clock.now,
    ...options,
  });
  const token = server.adminToken ?? server.issueAdminToken({ subject: "root", role: "admin", lifetimeSeconds: 3600 });
  const admin = connectKbsAdmin({ url: server.url, token });
  const guest = connectKbs({ url: server.url, attester: sampleAttester() });
  return {
    server,
    admin,
    guest,
    clock,
    close: async () => {
      await guest.close();
      await admin.close();
      await server.close({ graceMs: 100 });
    },
  };
}

/** An answer as it stands on the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The session cookie that the answer sets. */
  readonly cookie: string | undefined;
}

/** Sends a request as it is: no part of the path is normalised. */
export async function raw(
  url: string,
  init: { method?: string; headers?: Record<string, string>; body?: unknown } = {},
): Promise<RawAnswer> {
  const isBytes = typeof init.body === "string" || init.body instanceof Uint8Array;
  const body = init.body === undefined ? undefined : isBytes ? (init.body as string | Uint8Array) : JSON.stringify(init.body);
  const [, host = "", port = "", path = ""] = /^http:\/\/([^:/]+):(\d+)(.*)$/.exec(url) ?? [];
  const method = init.method ?? (body === undefined ? "GET" : "POST");
  const length: Record<string, number> = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, path: encodePath(path), method, headers: { ...length, ...init.headers } }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const cookie = /kbs-session-id=([^;]*)/.exec(String(answer.headers["set-cookie"] ?? ""))?.[1];
        const headers = { ...answer.headers, "set-cookie": answer.headers["set-cookie"]?.join() };
        resolve({ status: answer.statusCode ?? 0, text, json: jsonOr(text), headers, cookie });
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Only what HTTP cannot carry is escaped. */
function encodePath(path: string): string {
  return path.replaceAll(/[^!-~]/g, (character) => encodeURIComponent(character));
}

function jsonOr(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Not every answer is JSON.
    return {};
  }
}

/** A guest's key with its private half, as WebCrypto would export it. */
export interface TestKey {
  readonly public: TeePublicKey;
  readonly privateJwk: Record<string, unknown>;
}

export function newTestKey(crv: "P-256" | "P-521" = "P-256"): TestKey {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: crv });
  const jwk = privateKey.export({ format: "jwk" }) as Record<string, unknown>;
  const { x, y } = jwk;
  return { public: parseTeePublicKey({ kty: "EC", crv, alg: "ECDH-ES+A256KW", x, y }), privateJwk: jwk };
}

/** Begins a handshake by hand. */
export function auth(url: string, version: string = "0.4.0", tee = "sample"): Promise<RawAnswer> {
  return raw(`${url}/kbs/v0/auth`, { body: { version, tee, "extra-params": {} } });
}

/** The body of step 2 with sample evidence. */
export function attestBody(
  nonce: string,
  key: TeePublicKey,
  version: ProtocolVersion = "0.4.0",
  additionalEvidence = "",
  initData: unknown = null,
): Record<string, unknown> {
  const reportData = primaryReportData({ nonce, teePublicKey: key, additionalEvidence }, version).toString("base64");
  const evidence = { svn: "1", report_data: reportData };
  return version === "0.2.0"
    ? { "tee-pubkey": key, "tee-evidence": evidence }
    : {
        "init-data": initData,
        "runtime-data": { nonce, "tee-pubkey": key },
        "tee-evidence": { primary_evidence: evidence, additional_evidence: additionalEvidence },
      };
}

export function attest(url: string, cookie: string | undefined, body: unknown): Promise<RawAnswer> {
  return raw(`${url}/kbs/v0/attest`, { body, headers: cookie === undefined ? {} : { cookie: `kbs-session-id=${cookie}` } });
}

/** A whole handshake by hand. */
export async function handshake(url: string, key: TestKey = newTestKey(), version: ProtocolVersion = "0.4.0") {
  const challenge = await auth(url, version);
  const answer = await attest(url, challenge.cookie, attestBody(String(challenge.json["nonce"]), key.public, version));
  return { key, challenge, answer, token: String(answer.json["token"]), cookie: answer.cookie };
}

/** The payload of a JWT. */
export function payloadOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>;
}
