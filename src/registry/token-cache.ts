/** A bearer token and the time (milliseconds of `Date.now()`) after which it is not used any more. */
export interface Token {
  readonly value: string;
  readonly until: number;
}

/** What was learned about how an origin authenticates. */
export type AuthScheme =
  | { readonly kind: "basic" }
  | { readonly kind: "bearer"; readonly realm: string; readonly service: string | undefined };

/**
 * Tokens and authentication schemes of a process. One request per token however many need it at once.
 *
 * Keys carry origin, repository and scopes, so a token never serves a repository that it was not made for.
 */
export class TokenCache {
  readonly schemes = new Map<string, AuthScheme>();
  /** Refresh tokens that a token service gave in exchange, by origin and repository; in memory only. */
  readonly refreshed = new Map<string, string>();
  readonly #tokens = new Map<string, Token>();
  readonly #running = new Map<string, Promise<Token>>();

  find(key: string, now: number): string | undefined {
    const token = this.#tokens.get(key);
    if (token === undefined || token.until > now) return token?.value;
    this.#tokens.delete(key);
    return undefined;
  }

  /** Forgets a token that was refused, unless it has been replaced already. */
  forget(key: string, value: string): void {
    if (this.#tokens.get(key)?.value === value) this.#tokens.delete(key);
  }

  /** The cached token, or the one that a running or new request brings. */
  async obtain(key: string, request: () => Promise<Token>): Promise<string> {
    const known = this.find(key, Date.now());
    if (known !== undefined) return known;
    let running = this.#running.get(key);
    if (running === undefined) {
      running = request().finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    const token = await running;
    this.#tokens.set(key, token);
    return token.value;
  }
}
