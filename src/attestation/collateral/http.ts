import { setTimeout as delay } from "node:timers/promises";
import { request, type Dispatcher } from "undici";
import { collect } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { AttestationError } from "../errors.ts";
import type { CachedAnswer, CollateralCache } from "./cache.ts";

/** How vendor services are asked. */
export interface FetchOptions {
  readonly cache: CollateralCache;
  readonly now: Date;
  readonly signal?: AbortSignal | undefined;
  readonly dispatcher?: Dispatcher | undefined;
  /** Longest wait that a service's Retry-After may impose, in milliseconds; longer ones fail at once. */
  readonly maxWaitMs?: number | undefined;
}

const maxAnswer = 1 << 20;
const timeoutMs = 20_000;
const maxAttempts = 4;
const defaultMaxWaitMs = 30_000;
/** AMD's service allows about one endorsement key per ten seconds and address. */
const backoffMs = [1000, 4000, 11_000];

/**
 * Fetches one answer, through the cache. A fresh entry asks nobody; when the service is away or asks to wait, an older
 * entry serves (verification decides whether it is still current). 429 and 5xx are retried with back-off and Retry-After.
 * Throws `ERR_COLLATERAL_NOT_FOUND` (404, 410) or `ERR_COLLATERAL_UNAVAILABLE`.
 */
export async function fetchAnswer(
  url: string,
  freshFor: "for-ever" | { readonly ms: number },
  options: FetchOptions,
): Promise<CachedAnswer> {
  const cached = await options.cache.load(url);
  if (cached !== undefined && (cached.freshUntil === undefined || cached.freshUntil > options.now.getTime())) return cached;
  try {
    const answer = await ask(url, options);
    const entry = { ...answer, freshUntil: freshFor === "for-ever" ? undefined : options.now.getTime() + freshFor.ms };
    await options.cache.save(entry);
    return entry;
  } catch (error) {
    if (cached !== undefined && error instanceof AttestationError && error.code === "ERR_COLLATERAL_UNAVAILABLE") return cached;
    throw error;
  }
}

async function ask(url: string, options: FetchOptions): Promise<CachedAnswer> {
  const { signal, dispatcher, now, maxWaitMs = defaultMaxWaitMs } = options;
  let reason = "no attempt was made";
  for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
    let waitMs = Math.min(backoffMs[attempt] ?? maxWaitMs, maxWaitMs);
    try {
      const response = await request(url, {
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        ...(signal === undefined ? {} : { signal }),
        ...(dispatcher === undefined ? {} : { dispatcher }),
      });
      const body = await collect(response.body, { maxBytes: maxAnswer, subject: `answer of ${hostOf(url)}` });
      if (response.statusCode === 200) return { url, fetchedAt: now.toISOString(), headers: textHeaders(response.headers), body };
      if (response.statusCode === 404 || response.statusCode === 410) throw notFound(url, response.statusCode);
      reason = `it answered ${response.statusCode}`;
      if (response.statusCode !== 429 && response.statusCode < 500) break;
      const asked = retryAfterMs(response.headers["retry-after"]);
      if (asked !== undefined && asked > maxWaitMs) {
        reason += ` and asks to wait ${Math.ceil(asked / 1000)} s`;
        break;
      }
      waitMs = asked ?? waitMs;
    } catch (cause) {
      if (cause instanceof AttestationError) throw cause;
      if (signal?.aborted === true) throw unavailable(url, "the call was interrupted", cause);
      reason = describeCause(cause);
    }
    if (attempt + 1 < maxAttempts) await delay(waitMs, undefined, signal === undefined ? {} : { signal });
  }
  throw unavailable(url, reason);
}

function retryAfterMs(value: string | string[] | undefined): number | undefined {
  return typeof value === "string" && /^\d{1,6}$/.test(value) ? Number(value) * 1000 : undefined;
}

function textHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => (typeof value === "string" ? [[name.toLowerCase(), value]] : [])),
  );
}

function hostOf(url: string): string {
  return new URL(url).host;
}

function notFound(url: string, status: number): AttestationError {
  return new AttestationError("ERR_COLLATERAL_NOT_FOUND", {
    message: `${hostOf(url)} knows no collateral at ${new URL(url).pathname} (${status})`,
    hint: "the platform is unknown to the vendor, not of this TEE, or its data was withdrawn",
  });
}

function unavailable(url: string, reason: string, cause?: unknown): AttestationError {
  return new AttestationError("ERR_COLLATERAL_UNAVAILABLE", {
    message: `collateral could not be fetched from ${hostOf(url)}: ${reason}`,
    hint: "try again later, name another service (a PCCS), or work offline with --collateral",
    cause,
  });
}
