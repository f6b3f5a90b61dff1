import { foreignText } from "../bytes/index.ts";

/**
 * A URL as it may stand in a message: without user, password, query and fragment.
 *
 * Upload locations carry signed state and storage redirects carry presigned queries, so the query is never shown.
 */
export function redactUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}${url.search === "" ? "" : "?…"}`;
}

/** Foreign text as it may stand in a message, without what looks like a token, password or signature under its own name. */
export function redactText(text: string, maxLength = 300): string {
  const named = /\b(token|access_token|refresh_token|password|secret|signature|sig|_state)\b(["']?\s*[=:]\s*["']?)[^\s"'&,}]+/gi;
  return foreignText(text, maxLength).replaceAll(named, "$1$2…");
}
