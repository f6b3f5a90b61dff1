/**
 * Foreign text as it may stand in a message: one line, bounded, without control characters (terminal escapes), user names,
 * passwords and queries of URLs, bearer and basic credentials, and JSON web tokens. Services repeat what they were sent.
 */
export function foreignText(text: string, maxLength: number): string {
  const flat = text
    .slice(0, maxLength * 4)
    // eslint-disable-next-line no-control-regex
    .replaceAll(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g, " ")
    .replaceAll(/\b(https?:\/\/)[^\s/@]*@/gi, "$1")
    .replaceAll(/\b(https?:\/\/[^\s?"'<>]*)\?[^\s"'<>]*/gi, "$1?…")
    .replaceAll(/(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, "$1 …")
    .replaceAll(/eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)+/g, "eyJ…")
    .trim();
  return flat.length > maxLength ? `${flat.slice(0, maxLength)}…` : flat;
}
