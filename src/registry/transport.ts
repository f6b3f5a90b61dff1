import { lookup } from "node:dns/promises";
import type { ByteStage, ByteStream } from "../bytes/index.ts";
import { isLoopbackHost, reachOf, type Reach } from "./addresses.ts";
import { TokenCache } from "./token-cache.ts";
import { RegistryError } from "./errors.ts";
import { ReplyHeaders } from "./headers.ts";
import { RateLimiter, Semaphore } from "./limiter.ts";
import { isUnknownIssuer, networkError } from "./network-errors.ts";
import {
  defaultConcurrency,
  defaultRetry,
  defaultTimeouts,
  type RegistryNotice,
  type RegistryTimeouts,
  type RetryPolicy,
  type SchemeRule,
  type TransportOptions,
} from "./options.ts";
import { Pools, type ConnectionPurpose } from "./pools.ts";
import type { ReferrersBatch } from "./referrers-batch.ts";
import { redactText, redactUrl, SentSecrets } from "./redact.ts";
import { accessFor, canonicalHost, ruleFor, type HostAccess } from "./scheme.ts";

export type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";

/** One request and its answer: no retry, no redirect, no credentials of its own. */
export interface Exchange {
  readonly method: Method;
  readonly url: URL;
  readonly purpose: ConnectionPurpose;
  /** `token` for requests to token services elsewhere; `content` unless told. */
  readonly use?: "content" | "token" | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream needs `size` where known; it is destroyed in every ending. */
  readonly body?: Uint8Array | ByteStream | undefined;
  readonly size?: number | undefined;
  readonly headersMs: number;
  /** A limit on the whole exchange, the answer's body included; absent for blobs, which are watched for stalls instead. */
  readonly deadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer. Who receives one reads the body to the end or destroys it. */
export interface Reply {
  readonly method: Method;
  readonly status: number;
  readonly headers: ReplyHeaders;
  readonly body: ByteStream;
  readonly url: URL;
}

/**
 * Kinds of work whose number in flight is bounded separately, each one below the number of connections: downloads that
 * are held open can never block the upload that they feed, nor a document that their reader waits for.
 */
export type Lane = "download" | "other";

/** The shared part of all registry access of a process: connections, limits, tokens. Close it at the end. */
export class RegistryTransport {
  readonly timeouts: RegistryTimeouts;
  readonly retry: RetryPolicy;
  readonly options: TransportOptions;
  readonly tokens = new TokenCache();
  readonly secrets = new SentSecrets();
  /** The largest PATCH that a registry (by host) took, where it refused a larger one. */
  readonly patchLimits = new Map<string, number>();
  /** Writes to referrers tags that are under way, so that one process does not compete with itself. */
  readonly referrersBatches = new Map<string, ReferrersBatch>();
  readonly #pools: Pools;
  readonly #access = new Map<string, Promise<HostAccess>>();
  readonly #reach = new Map<string, Promise<Reach>>();
  readonly #lanes = new Map<string, Semaphore>();
  readonly #gates = new Map<string, number>();
  readonly #warned = new Set<string>();
  readonly #rates: { readonly download: RateLimiter; readonly upload: RateLimiter } | undefined;
  #closed = false;

  constructor(options: TransportOptions = {}) {
    this.options = options;
    this.timeouts = { ...defaultTimeouts, ...options.timeouts };
    this.retry = { ...defaultRetry, ...options.retry };
    this.#pools = new Pools(options, this.timeouts);
    const rate = options.limitRate;
    this.#rates = rate === undefined ? undefined : { download: new RateLimiter(rate), upload: new RateLimiter(rate) };
  }

  /**
   * Scheme and origin of a host, decided once. Throws `ERR_REGISTRY_NAME_MALFORMED`.
   *
   * @param asked - a rule for this use of the host, before the transport's own.
   */
  access(host: string, asked?: SchemeRule): Promise<HostAccess> {
    const name = canonicalHost(host);
    const rule = asked ?? ruleFor(name, this.options);
    const key = `${rule} ${name}`;
    let access = this.#access.get(key);
    if (access === undefined) {
      access = accessFor(name, rule, this.timeouts.connectMs);
      this.#access.set(key, access);
    }
    return access;
  }

  /** How near a host that the user named is; what it may point us to depends on that. A name that does not resolve here (behind a proxy) counts as public. */
  reach(url: URL): Promise<Reach> {
    let reach = this.#reach.get(url.hostname);
    if (reach === undefined) {
      reach = farthestReach(url.hostname);
      this.#reach.set(url.hostname, reach);
    }
    return reach;
  }

  /** Waits for a place among the requests of one kind to an origin, and for the end of a pause that the registry asked for. */
  async enter(origin: string, lane: Lane, signal: AbortSignal | undefined): Promise<() => void> {
    const key = `${lane} ${origin}`;
    let semaphore = this.#lanes.get(key);
    if (semaphore === undefined) {
      semaphore = new Semaphore(Math.max(1, (this.options.concurrency ?? defaultConcurrency) - 1));
      this.#lanes.set(key, semaphore);
    }
    return semaphore.acquire(signal);
  }

  /** Until when (in milliseconds of `Date.now()`) an origin asked to be left alone. */
  gate(origin: string): number {
    return this.#gates.get(origin) ?? 0;
  }

  closeGate(origin: string, until: number): void {
    this.#gates.set(origin, Math.max(until, this.gate(origin)));
  }

  /** Stages that slow blobs down to the configured rate; none without a limit. */
  rateStages(lane: "download" | "upload", signal: AbortSignal | undefined): readonly ByteStage[] {
    return this.#rates === undefined ? [] : [this.#rates[lane].stage(signal)];
  }

  notify(notice: RegistryNotice): void {
    this.options.onNotice?.(notice);
  }

  /** Performs one exchange. Failures of the network become `ERR_REGISTRY_UNREACHABLE`, `…_TIMEOUT`, `…_TLS`, `…_PROTOCOL`. */
  async exchange(exchange: Exchange): Promise<Reply> {
    const { method, url, signal, body } = exchange;
    const what = `${method} ${redactUrl(url)}`;
    const deadline = startDeadline(exchange);
    try {
      if (this.#closed) throw new RegistryError("ERR_REGISTRY_CLOSED", { message: `${what}: the registry transport is closed` });
      signal?.throwIfAborted();
      const reply = await this.#pools.for(url, exchange.purpose, exchange.use ?? "content").request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: { "user-agent": this.options.userAgent ?? "ociseal", ...exchange.headers, ...lengthOf(exchange) },
        body: body ?? null,
        headersTimeout: exchange.headersMs,
        bodyTimeout: this.timeouts.stallMs,
        // undici closes the connection after every HEAD unless told that the server behaves.
        reset: false,
        ...(deadline.signal === undefined ? {} : { signal: deadline.signal }),
      });
      // Destroying an unfinished body makes it emit an error, which nobody needs to hear who destroyed it.
      reply.body.on("error", () => undefined);
      reply.body.once("close", deadline.clear);
      const headers = new ReplyHeaders(reply.headers);
      this.#warn(url.host, headers);
      return { method, status: reply.statusCode, headers, body: reply.body, url };
    } catch (error) {
      deadline.clear();
      const repeatable = body === undefined || body instanceof Uint8Array;
      if (!repeatable) body.destroy();
      // Nothing was sent: the handshake had failed.
      else if (isUnknownIssuer(error) && this.#pools.trustSystem()) return await this.exchange(exchange);
      throw networkError(error, what, signal);
    }
  }

  /** Ends all connections; running requests fail. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pools.destroy();
  }

  /** Source: distribution-spec, "Warnings": `299 - "text"`, told once per text. */
  #warn(host: string, headers: ReplyHeaders): void {
    for (const value of headers.all("warning")) {
      const match = /^299 - "((?:[^"\\]|\\.)*)"/.exec(value.slice(0, 4096));
      const text = redactText(this.secrets.hide((match?.[1] ?? "").replaceAll(/\\(.)/g, "$1")));
      if (text === "" || this.#warned.has(`${host} ${text}`) || this.#warned.size > 1000) continue;
      this.#warned.add(`${host} ${text}`);
      this.notify({ kind: "warning", host, text });
    }
  }
}

function lengthOf(exchange: Exchange): Record<string, string> {
  if (exchange.body instanceof Uint8Array) return { "content-length": String(exchange.body.length) };
  if (exchange.body !== undefined) return exchange.size === undefined ? {} : { "content-length": String(exchange.size) };
  return exchange.method === "POST" || exchange.method === "PUT" || exchange.method === "PATCH" ? { "content-length": "0" } : {};
}

/** Joins the caller's signal with a time limit; `clear` must be called when the exchange is over. */
function startDeadline(exchange: Exchange): { readonly signal: AbortSignal | undefined; readonly clear: () => void } {
  const { deadlineMs, signal } = exchange;
  if (deadlineMs === undefined) return { signal, clear: () => undefined };
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  const timer = setTimeout(() => {
    const message = `${exchange.method} ${redactUrl(exchange.url)} took longer than ${deadlineMs} ms`;
    controller.abort(
      new RegistryError("ERR_REGISTRY_TIMEOUT", { message, hint: "check the network and the registry's load, then run it again" }),
    );
  }, deadlineMs);
  signal?.addEventListener("abort", abort, { once: true });
  const clear = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  };
  return { signal: controller.signal, clear };
}

async function farthestReach(hostname: string): Promise<Reach> {
  const literal = reachOf(hostname);
  if (literal !== undefined) return literal;
  if (isLoopbackHost(hostname)) return "loopback";
  const addresses = await lookup(hostname, { all: true }).catch(() => []);
  const reaches = new Set(addresses.map(({ address }) => reachOf(address)));
  for (const reach of ["public", "private", "link-local", "loopback"] as const) if (reaches.has(reach)) return reach;
  return "public";
}
