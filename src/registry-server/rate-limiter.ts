import type { Quirks } from "./profile.ts";
import { Refusal } from "./refusal.ts";
import type { Route } from "./route.ts";

const maxClients = 10_000;

/** Counts manifest GETs as Docker Hub does: HEAD is free. A fixed window per client. */
export class RateLimiter {
  readonly #limit: number;
  readonly #windowSeconds: number;
  readonly #now: () => number;
  readonly #windows = new Map<string, { readonly endsAt: number; count: number }>();

  constructor(quirks: Quirks, now: () => number) {
    this.#limit = quirks.rateLimit;
    this.#windowSeconds = quirks.rateLimitWindowSeconds;
    this.#now = now;
  }

  /** Headers of an answer within the limit. Throws `TOOMANYREQUESTS` with `Retry-After`. */
  count(method: string, route: Route, client: string): Readonly<Record<string, string>> {
    if (this.#limit === 0 || route.kind !== "manifest") return {};
    const now = this.#now();
    let window = this.#windows.get(client);
    if (window === undefined || window.endsAt <= now) {
      if (this.#windows.size >= maxClients) this.#windows.clear();
      window = { endsAt: now + this.#windowSeconds * 1000, count: 0 };
      this.#windows.set(client, window);
    }
    if (method === "GET" && window.count >= this.#limit) {
      const retry = Math.max(1, Math.ceil((window.endsAt - now) / 1000));
      throw new Refusal("TOOMANYREQUESTS", {
        message: "You have reached your pull rate limit.",
        headers: { ...this.#headers(0), "retry-after": String(retry) },
      });
    }
    if (method === "GET") window.count += 1;
    return this.#headers(this.#limit - window.count);
  }

  #headers(remaining: number): Readonly<Record<string, string>> {
    return {
      "ratelimit-limit": `${this.#limit};w=${this.#windowSeconds}`,
      "ratelimit-remaining": `${remaining};w=${this.#windowSeconds}`,
    };
  }
}
