/** How many requests one caller may send: a steady rate, and a reserve for bursts. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  filledAt: number;
}

const maxBuckets = 50_000;

/** A token bucket per caller. Full buckets are forgotten, so memory follows the callers of the last moments. */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, Bucket>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Takes one token: 0 when there was one, else the seconds until there will be. */
  take(caller: string, nowMs: number): number {
    const bucket = this.#buckets.get(caller) ?? { tokens: this.#rate.burst, filledAt: nowMs };
    // Taken out and put back, so that the map's order is that of use.
    this.#buckets.delete(caller);
    const elapsed = Math.max(0, nowMs - bucket.filledAt) / 1000;
    bucket.tokens = Math.min(this.#rate.burst, bucket.tokens + elapsed * this.#rate.perSecond);
    bucket.filledAt = nowMs;
    this.#buckets.set(caller, bucket);
    this.#forget(nowMs);
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return 0;
    }
    return Math.max(1, Math.ceil((1 - bucket.tokens) / this.#rate.perSecond));
  }

  #forget(nowMs: number): void {
    const refillMs = (this.#rate.burst / this.#rate.perSecond) * 1000;
    for (const [caller, { filledAt }] of this.#buckets) {
      if (nowMs - filledAt <= refillMs && this.#buckets.size <= maxBuckets) break;
      this.#buckets.delete(caller);
    }
  }
}
