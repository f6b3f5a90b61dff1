import { request } from "undici";
import { collect, parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { AttestationError } from "../errors.ts";
import { isTeeName, type TeeName } from "../tee.ts";
import type { Attester } from "./attester.ts";
import type { JsonObject } from "./json.ts";
import { reportDataField } from "./runtime-data.ts";

/** Where CoCo's REST proxy listens in a guest. Source: reference B 5.3. */
export const defaultAgentUrl = "http://127.0.0.1:8006";

const maxAnswer = 8 * 1024 * 1024;
const timeoutMs = 30_000;

/** Collects evidence through the attestation agent's REST proxy (`/aa/evidence`). */
export function agentRestAttester(options: { readonly tee: TeeName; readonly url?: string | undefined }): Attester {
  const { tee, url = defaultAgentUrl } = options;
  return {
    tee,
    collect: async (reportData, { signal } = {}) => {
      const query = new URLSearchParams({ runtime_data: Buffer.from(agentInput(tee, reportData)).toString("base64"), encoding: "base64" });
      const body = await call(new URL(`/aa/evidence?${query.toString()}`, url), signal);
      return parseAgentEvidence(body, url);
    },
  };
}

/** The agent pads by itself; only what would not fit must be refused here. */
export function agentInput(tee: TeeName, reportData: Uint8Array): Uint8Array {
  reportDataField(tee, reportData);
  return reportData;
}

/** Evidence as an agent answers it: a JSON object. */
export function parseAgentEvidence(body: Uint8Array, from: string): JsonObject {
  const value = parseJson(body, { maxBytes: maxAnswer, subject: "evidence of the attestation agent" });
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new AttestationError("ERR_ATTESTER_FAILED", {
      message: `the attestation agent at ${from} answered something else than a JSON object`,
    });
  }
  return value as JsonObject;
}

/** The TEE that the proxy's agent serves, or `undefined` when none answers. */
export async function agentRestTee(url: string = defaultAgentUrl): Promise<TeeName | undefined> {
  let body: Buffer;
  try {
    body = await call(new URL("/info", url), AbortSignal.timeout(1000));
  } catch {
    // Nobody listens there, which is the normal case outside CoCo.
    return undefined;
  }
  const info = parseAgentEvidence(body, url);
  const tee = info["tee"];
  return typeof tee === "string" && isTeeName(tee) ? tee : undefined;
}

async function call(url: URL, signal: AbortSignal | undefined): Promise<Buffer> {
  try {
    const { statusCode, body } = await request(url, {
      method: "GET",
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
    const answer = await collect(body, { maxBytes: maxAnswer, subject: "answer of the attestation agent" });
    if (statusCode === 200) return answer;
    throw new AttestationError("ERR_ATTESTER_FAILED", {
      message: `the attestation agent at ${url.origin} answered ${statusCode}: ${answer.toString("utf8", 0, 200)}`,
      hint: "see the log of the attestation agent",
    });
  } catch (cause) {
    if (cause instanceof AttestationError) throw cause;
    throw new AttestationError("ERR_ATTESTER_UNAVAILABLE", {
      message: `no attestation agent answers at ${url.origin} (${describeCause(cause)})`,
      cause,
    });
  }
}
