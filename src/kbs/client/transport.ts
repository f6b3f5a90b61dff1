import { setTimeout as sleep } from "node:timers/promises";
import { checkServerIdentity, rootCertificates, type PeerCertificate } from "node:tls";
import { Agent, request as httpRequest, type Dispatcher } from "undici";
import { BytesError, foreignText, parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "../protocol/shape.ts";

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

/** How a service is reached and recognised. */
export interface KbsTransportOptions {
  /** `https://kbs.example:8080`; a path before `/kbs/v0` is kept. */
  readonly url: string;
  readonly tls?:
    | {
        /** PEM, added to the roots of the system. */
        readonly authorities?: string | undefined;
        /** SHA-256 of the service's certificate, hex; checked in addition to the chain. */
        readonly pinnedSha256?: string | undefined;
        readonly clientCertificate?: { readonly certificate: string; readonly privateKey: string } | undefined;
      }
    | undefined;
  /** Plain HTTP off loopback is refused unless this says otherwise. */
  readonly plainHttp?: "loopback-only" | "allowed" | undefined;
  /** Until an answer is there; 60 s unless told. */
  readonly timeoutMs?: number | undefined;
}

export interface WireRequest extends CallOptions {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** From the root of the service, already escaped. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: Uint8Array | string | undefined;
}

export interface WireResponse {
  readonly status: number;
  readonly body: Buffer;
  header(name: string): readonly string[];
}

/** The error body of a service. */
export interface Problem {
  readonly status: number;
  /** Last part of `type`. */
  readonly type: string;
  readonly detail: string;
  /** Ours only. */
  readonly code: string | undefined;
  readonly reasons: readonly string[];
  readonly requestId: string | undefined;
}

const defaultTimeoutMs = 60_000;
const maxResponseBytes = 16 << 20;
const maxAttempts = 4;
const maxRetryDelayMs = 10_000;
const retriedStatuses = new Set([429, 502, 503, 504]);

/** One service over HTTP/1.1, with retries of what is safe to send again. */
export class KbsTransport {
  readonly url: string;
  readonly #origin: string;
  readonly #base: string;
  readonly #agent: Agent;
  readonly #timeoutMs: number;

  /** Throws `ERR_KBS_CONFIG_INVALID`, `ERR_KBS_TRANSPORT_INSECURE`. */
  constructor(options: KbsTransportOptions) {
    const url = parseServiceUrl(options.url);
    if (url.protocol === "http:" && options.plainHttp !== "allowed" && !isLoopback(url.hostname)) {
      throw new KbsError("ERR_KBS_TRANSPORT_INSECURE", {
        message: `the Key Broker Service ${url.origin} is not on loopback and not on https`,
        hint: "use https://; to accept plain HTTP to this host all the same, allow it explicitly (--plain-http HOST)",
      });
    }
    this.url = url.href.replace(/\/$/, "");
    this.#origin = url.origin;
    this.#base = url.pathname.replace(/\/$/, "");
    this.#timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    // Over HTTP/2 the rules of Trustee for its administrators see a whole URL, which none of them matches. Seen at Trustee 0.21.
    this.#agent = new Agent({ connect: connectOptions(options.tls), connections: 16, allowH2: false });
  }

  /**
   * Sends a request; network failures, 429 and 502 to 504 are tried again, at most four times in all, as Retry-After
   * says. Throws `ERR_KBS_UNREACHABLE`, `ERR_INTERRUPTED`.
   */
  async send(request: WireRequest): Promise<WireResponse> {
    for (let attempt = 1; ; attempt += 1) {
      let response: WireResponse;
      try {
        response = await this.#sendOnce(request);
      } catch (cause) {
        if (request.signal?.aborted === true)
          throw new BytesError("ERR_INTERRUPTED", { message: "the request to the Key Broker Service was interrupted", cause });
        if (attempt < maxAttempts && isTransient(cause)) {
          await sleep(100 * 2 ** attempt, undefined, { signal: request.signal });
          continue;
        }
        throw new KbsError("ERR_KBS_UNREACHABLE", {
          message: `the Key Broker Service ${this.#origin} cannot be reached: ${describeCause(cause)}`,
          hint: "check the URL, that the service runs, and its certificate",
          cause,
        });
      }
      if (attempt === maxAttempts || !retriedStatuses.has(response.status)) return response;
      await sleep(retryDelay(response, attempt), undefined, { signal: request.signal });
    }
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  async #sendOnce(request: WireRequest): Promise<WireResponse> {
    const { statusCode, headers, body } = await httpRequest(`${this.#origin}${this.#base}${request.path}`, {
      dispatcher: this.#agent,
      method: request.method,
      headers: { "user-agent": "ociseal", ...request.headers },
      body: request.body ?? null,
      headersTimeout: this.#timeoutMs,
      bodyTimeout: this.#timeoutMs,
      signal: request.signal ?? null,
    });
    const bytes = await readBounded(body);
    return {
      status: statusCode,
      body: bytes,
      header: (name) => {
        const value = headers[name];
        return value === undefined ? [] : Array.isArray(value) ? value : [value];
      },
    };
  }
}

async function readBounded(body: Dispatcher.ResponseData["body"]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxResponseBytes) {
      body.destroy();
      throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", {
        message: `an answer of the Key Broker Service is larger than ${maxResponseBytes} bytes`,
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

function parseServiceUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol) || url.username !== "" || url.search !== "" || url.hash !== "") {
    throw new KbsError("ERR_KBS_CONFIG_INVALID", {
      message: `not the URL of a Key Broker Service: ${url === undefined ? JSON.stringify(text.slice(0, 200)) : url.origin}`,
      hint: "for example https://kbs.example.com:8080",
    });
  }
  return url;
}

/** Loopback by name or address; nothing else may be spoken to in the clear. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname);
}

function connectOptions(tls: KbsTransportOptions["tls"]): NonNullable<Agent.Options["connect"]> {
  if (tls === undefined) return {};
  const pinned = tls.pinnedSha256?.replaceAll(":", "").toLowerCase();
  return {
    ...(tls.authorities === undefined ? {} : { ca: [...rootCertificates, tls.authorities] }),
    ...(tls.clientCertificate === undefined ? {} : { cert: tls.clientCertificate.certificate, key: tls.clientCertificate.privateKey }),
    ...(pinned === undefined ? {} : { checkServerIdentity: pinning(pinned) }),
  };
}

function pinning(pinned: string): (host: string, certificate: PeerCertificate) => Error | undefined {
  return (host, certificate) => {
    if (certificate.fingerprint256.replaceAll(":", "").toLowerCase() !== pinned) return new Error("the certificate is not the pinned one");
    return checkServerIdentity(host, certificate);
  };
}

function retryDelay(response: WireResponse, attempt: number): number {
  const seconds = Number(response.header("retry-after")[0]);
  return Math.min(Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : 100 * 2 ** attempt, maxRetryDelayMs);
}

const transientCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
  "UND_ERR_SOCKET",
  "UND_ERR_CONNECT_TIMEOUT",
]);

function isTransient(cause: unknown): boolean {
  const code = (cause as { readonly code?: unknown }).code;
  return typeof code === "string" && transientCodes.has(code);
}

/** Parses a JSON answer. Throws `ERR_KBS_RESPONSE_MALFORMED`. */
export function jsonOf(response: WireResponse, subject: string): unknown {
  try {
    return parseJson(response.body, { maxBytes: maxResponseBytes, subject });
  } catch (cause) {
    throw new KbsError("ERR_KBS_RESPONSE_MALFORMED", {
      message: `${subject} is not JSON (status ${response.status})`,
      hint: "check that --kbs names a Key Broker Service: something else, or a proxy before it, seems to answer",
      cause,
    });
  }
}

/** Reads an error body, whatever its content type says. */
export function problemOf(response: WireResponse): Problem {
  let value: unknown;
  try {
    value = parseJson(response.body, { maxBytes: 64 << 10 });
  } catch {
    // Proxies and old versions answer with text or nothing: the status must do.
    value = undefined;
  }
  const text = (name: string): string | undefined => {
    const member = isObject(value) ? value[name] : undefined;
    return typeof member === "string" ? foreignText(member, 2000) : undefined;
  };
  const reasons =
    isObject(value) && Array.isArray(value["reasons"])
      ? value["reasons"].slice(0, 100).map((reason) => foreignText(String(reason), 2000))
      : [];
  return {
    status: response.status,
    type: text("type")?.split("/").at(-1) ?? "",
    detail: text("detail") ?? (value === undefined ? foreignText(response.body.toString("utf8"), 300) : ""),
    code: text("code"),
    reasons,
    requestId: text("request_id") ?? response.header("x-request-id")[0],
  };
}
