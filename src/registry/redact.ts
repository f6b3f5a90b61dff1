/**
 * A URL as it may stand in a message: without user, password, query and fragment.
 *
 * Upload locations carry signed state and storage redirects carry presigned queries, so the query is never shown.
 */
export function redactUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}${url.search === "" ? "" : "?…"}`;
}

/**
 * Foreign text as it may stand in a message: one line, bounded, no control characters (terminal escapes), and no query
 * strings of URLs that it quotes.
 */
export function redactText(text: string, maxLength = 300): string {
  const flat = text
    .slice(0, maxLength * 4)
    // eslint-disable-next-line no-control-regex
    .replaceAll(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g, " ")
    .replaceAll(/\b(https?:\/\/)[^\s/@]*@/gi, "$1")
    .replaceAll(/\b(https?:\/\/[^\s?"'<>]*)\?[^\s"'<>]*/gi, "$1?…")
    .replaceAll(/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, "$1 …")
    .replaceAll(/\b(token|access_token|refresh_token|password|secret|signature|sig|_state)\b(["']?\s*[=:]\s*["']?)[^\s"'&,}]+/gi, "$1$2…")
    .trim();
  return flat.length > maxLength ? `${flat.slice(0, maxLength)}…` : flat;
}
