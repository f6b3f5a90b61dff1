import { foreignText } from "../bytes/index.ts";

/**
 * A URL as it may stand in a message: without user, password, query and fragment.
 *
 * Upload locations carry signed state and storage redirects carry presigned queries, so the query is never shown.
 */
export function redactUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}${url.search === "" ? "" : "?…"}`;
}

/**
 * Foreign text as it may stand in a message, without what looks like a token, password or signature under its own name,
 * or under one that ends like it (`identitytoken`, `client_secret`, `X-Amz-Signature`), also where `=` is escaped.
 */
export function redactText(text: string, maxLength = 300): string {
  const named =
    /([\w.-]*(?:token|passw(?:or)?d|secret|signature|\bsig|_sig|_state|api[_-]?key|authorization)["']?\s*(?:[=:]|%3D)\s*["']?)[^\s"'&,}]+/gi;
  return foreignText(text, maxLength).replaceAll(named, "$1…");
}

/** Shorter ones are too common in texts to be taken out of them. */
const shortestSecret = 4;
const mostSecrets = 1000;

/** What was sent as a secret, so that a registry that repeats it does not bring it into our messages, in whatever words. */
export class SentSecrets {
  readonly #texts = new Set<string>();

  add(...secrets: readonly string[]): void {
    for (const secret of secrets) {
      if (secret.length < shortestSecret || this.#texts.size >= mostSecrets) continue;
      this.#texts.add(secret);
      this.#texts.add(encodeURIComponent(secret));
    }
  }

  /** Before the text is shortened: a cut secret would not be found. */
  hide(text: string): string {
    let hidden = text;
    for (const secret of this.#texts) hidden = hidden.replaceAll(secret, "…");
    return hidden;
  }
}
