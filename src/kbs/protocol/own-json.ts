/**
 * Parses JSON that this service wrote and that was authenticated before it came here (a sealed record, a signed token).
 *
 * Foreign documents go through `parseJson`, whose scan for repeated members and depth costs more than all the rest of a
 * release; for our own text, behind a tag or a signature, it could find nothing. Throws what `JSON.parse` throws.
 */
export function parseOwnJson(bytes: Buffer): unknown {
  return JSON.parse(bytes.toString("utf8")) as unknown;
}
