import { setTimeout as sleep } from "node:timers/promises";
import { networkError } from "./network-errors.ts";
import type { RetryPolicy } from "./options.ts";

/** Statuses after which the same request can succeed. Source: E-registry "Retry and limits"; RFC 9110, RFC 6585, RFC 8470; CDN practice. */
export const transientStatuses: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504, 522, 524]);

/** The pauses of one request. */
export class Backoff {
  readonly #policy: RetryPolicy;
  #attempt = 1;
  #waitedMs = 0;

  constructor(policy: RetryPolicy) {
    this.#policy = policy;
  }

  /** Tries so far, the running one included. */
  get attempt(): number {
    return this.#attempt;
  }

  /**
   * How long to wait before the next try, or `undefined` when there shall be none.
   *
   * @param askedMs - what the server's Retry-After asks for. Asking for more than the budget ends the tries at once:
   *   waiting less than asked would only make it worse.
   */
  next(askedMs?: number): number | undefined {
    if (this.#attempt >= this.#policy.attempts) return undefined;
    const own = Math.random() * Math.min(this.#policy.maxMs, this.#policy.baseMs * 2 ** (this.#attempt - 1));
    const waitMs = Math.max(own, askedMs ?? 0);
    if (this.#waitedMs + waitMs > this.#policy.budgetMs) return undefined;
    this.#attempt += 1;
    this.#waitedMs += waitMs;
    return waitMs;
  }

  /** Bytes arrived since the last failure: the count starts again, because the transfer does get on. */
  progressed(): void {
    this.#attempt = 1;
    this.#waitedMs = 0;
  }
}

/** Milliseconds from a Retry-After header (seconds or a date); `undefined` when absent or malformed. Source: RFC 9110 section 10.2.3. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value.trim())) return Number(value.trim()) * 1000;
  if (!/^[A-Z][a-z]{2},? /.test(value)) return undefined;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

/** Waits. Ends with `ERR_INTERRUPTED` when the signal says so. */
export async function pause(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw networkError(error, "waiting for the next try", signal);
  }
}
