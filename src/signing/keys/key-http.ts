import type { Dispatcher } from "undici";
import { collect, parseJson } from "../../bytes/index.ts";
import type { CallOptions } from "../../store/index.ts";
import type { JsonObject } from "../shape.ts";
import { keyServiceError } from "./checked-signer.ts";

export interface KeyCall extends CallOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: JsonObject | undefined;
  /** PEM of the service's own authorities, which no system knows; without them its certificate is held to the system's. */
  readonly authorities?: string | undefined;
  /** Stands for `authorities`. */
  readonly dispatcher?: Dispatcher | undefined;
  /** What is asked, for messages: `Vault key app`. */
  readonly subject: string;
}

const limits = { timeoutMs: 20_000, maxBytes: 1024 * 1024 } as const;

/** Asks a key service. Redirects are refused: the credential is for this host. Throws `ERR_KEY_SERVICE`. */
export async function callKeyService(call: KeyCall): Promise<JsonObject> {
  const { url, authorities, subject } = call;
  const isLoopback = ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (url.protocol !== "https:" && !isLoopback) throw keyServiceError(`${subject}: ${url.host} is not asked over plain HTTP`, "use https");
  if (call.dispatcher !== undefined || authorities === undefined) return await ask(call);
  // Whoever signs with a file or only verifies does not pay for an HTTP client at start-up.
  const { Agent } = await import("undici");
  const agent = new Agent({ connect: { ca: authorities } });
  try {
    return await ask({ ...call, dispatcher: agent });
  } finally {
    await agent.close();
  }
}

async function ask({ url, headers, body, dispatcher, subject, signal }: KeyCall): Promise<JsonObject> {
  const timeout = AbortSignal.timeout(limits.timeoutMs);
  let status: number;
  let bytes: Buffer;
  const { fetch } = await import("undici");
  try {
    const response = await fetch(url, {
      headers: { accept: "application/json", ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      redirect: "error",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
      ...(dispatcher === undefined ? {} : { dispatcher }),
    });
    status = response.status;
    bytes = response.body === null ? Buffer.alloc(0) : await collect(response.body, { maxBytes: limits.maxBytes, subject });
  } catch (cause) {
    signal?.throwIfAborted();
    throw keyServiceError(`${subject}: ${url.host} cannot be asked`, undefined, cause);
  }
  // The answer's text is not repeated: it may hold what was sent.
  if (status !== 200) throw keyServiceError(`${subject}: ${url.host} answered ${status}${meaningOf(status)}`);
  const answer = parseJson(bytes, { maxBytes: limits.maxBytes, subject });
  if (typeof answer !== "object" || answer === null || Array.isArray(answer))
    throw keyServiceError(`${subject}: ${url.host} answered no JSON object`);
  return answer as JsonObject;
}

function meaningOf(status: number): string {
  switch (status) {
    case 401:
    case 403:
      return " (the token is not accepted, or may not use this key)";
    case 404:
      return " (there is no such key, or nothing that holds keys at that path)";
    case 429:
    case 503:
      return " (it is sealed, not ready or overloaded: try again)";
    default:
      return "";
  }
}
