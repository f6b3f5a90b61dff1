import { hash } from "node:crypto";

/** Some 1.5 MiB at most. */
const maxRemembered = 10_000;

/**
 * The tokens that this process signed lately, by their SHA-256.
 *
 * A guest comes back within moments with the very token that it was given, and a signature over bytes that we signed
 * ourselves says nothing new, for a quarter of what a release costs. Only a signature is spared: whether the key is still
 * good, issuer, mode and times are looked at each time, and whatever differs in one bit is verified in full.
 */
export class IssuedTokens {
  readonly #expiries = new Map<string, number>();

  /** To be called with what was signed just now, and nothing else. */
  remember(token: string, expiresAt: number, now: number): void {
    this.#expiries.set(digestOf(token), expiresAt);
    // In order of issue, which is that of expiry as long as the clock goes forward.
    for (const [digest, expiry] of this.#expiries) {
      if (expiry > now && this.#expiries.size <= maxRemembered) break;
      this.#expiries.delete(digest);
    }
  }

  has(token: string): boolean {
    return this.#expiries.size > 0 && this.#expiries.has(digestOf(token));
  }
}

function digestOf(token: string): string {
  return hash("sha256", token, "base64");
}
