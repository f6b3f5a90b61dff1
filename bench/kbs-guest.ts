import { generateKeyPairSync } from "node:crypto";
import { Agent, request } from "node:http";
import { primaryReportData } from "../src/kbs/protocol/runtime-data.ts";
import { parseTeePublicKey, type TeePublicKey } from "../src/kbs/protocol/tee-key.ts";

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/** What a handshake with one release sends. */
export const requestsPerHandshake = 3;

/** Evidence of a TEE for report data. */
export interface Attester {
  readonly tee: string;
  readonly evidence: (reportData: Buffer) => unknown;
}

/** Evidence that anybody can write. */
export const sampleTee: Attester = {
  tee: "sample",
  evidence: (reportData) => ({ svn: "1", report_data: reportData.toString("base64") }),
};

/** A guest's key, made once: guests make theirs on their own machines. */
export function guestKey(): TeePublicKey {
  const { x, y } = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ format: "jwk" });
  return parseTeePublicKey({ kty: "EC", crv: "P-256", alg: "ECDH-ES+A256KW", x, y });
}

/** Puts the one resource that guests ask for. */
export async function putResource(url: string, token: string): Promise<void> {
  await send("POST", `${url}/kbs/v0/resource/default/key/1`, { authorization: `Bearer ${token}` }, "k".repeat(32));
}

/** A whole handshake and one release; gives the milliseconds of each request. Throws when anything is refused. */
export async function handshake(url: string, key: TeePublicKey, { tee, evidence }: Attester): Promise<readonly number[]> {
  const begin = performance.now();
  const challenge = await send("POST", `${url}/kbs/v0/auth`, {}, JSON.stringify({ version: "0.4.0", tee, "extra-params": {} }));
  const challenged = performance.now();
  const { nonce } = JSON.parse(challenge.text) as { nonce: string };
  const reportData = primaryReportData({ nonce, teePublicKey: key, additionalEvidence: "" }, "0.4.0");
  const body = JSON.stringify({
    "init-data": null,
    "runtime-data": { nonce, "tee-pubkey": key },
    "tee-evidence": { primary_evidence: evidence(reportData), additional_evidence: "" },
  });
  const answering = performance.now();
  const attested = await send("POST", `${url}/kbs/v0/attest`, { cookie: challenge.cookie }, body);
  const { token } = JSON.parse(attested.text) as { token: string };
  const asking = performance.now();
  const answer = await send("GET", `${url}/kbs/v0/resource/default/key/1`, { authorization: `Bearer ${token}` });
  if (answer.status !== 200) throw new Error(`refused: ${answer.status} ${answer.text}`);
  return [challenged - begin, asking - answering, performance.now() - asking];
}

/** Handshakes with a number of guests at once. */
export async function handshakes(url: string, settings: { readonly count: number; readonly atOnce: number; readonly attester: Attester }) {
  const key = guestKey();
  let left = settings.count;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await handshake(url, key, settings.attester);
    }
  };
  await Promise.all(Array.from({ length: settings.atOnce }, one));
}

/** Closes the connections that are kept. */
export function hangUp(): void {
  agent.destroy();
}

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
