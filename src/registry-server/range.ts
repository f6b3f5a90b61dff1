/** Bytes `[start, end)` of a content, or why not. */
export type RangeOutcome =
  | { readonly kind: "whole" }
  | { readonly kind: "part"; readonly start: number; readonly end: number }
  | { readonly kind: "unsatisfiable" };

const singleRange = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/;
const chunkRange = /^(\d{1,15})-(\d{1,15})$/;

/**
 * A single `Range` of a GET, cut to the content. Several ranges or another unit give the whole content, which a server
 * is free to do. Source: RFC 9110 section 14.1.2 and 14.2.
 */
export function parseRange(header: string | undefined, size: number): RangeOutcome {
  if (header === undefined) return { kind: "whole" };
  const match = singleRange.exec(header.trim());
  if (match === null) return { kind: "whole" };
  const [, first, last, suffix] = match;
  if (suffix !== undefined) {
    const length = Math.min(Number(suffix), size);
    return length === 0 ? { kind: "unsatisfiable" } : { kind: "part", start: size - length, end: size };
  }
  const start = Number(first);
  const end = last === undefined || last === "" ? size : Math.min(Number(last) + 1, size);
  // "500-0" is malformed by RFC 9110 and could be ignored; the conformance suite wants 416, as docker-registry answers.
  return start >= size || start >= end ? { kind: "unsatisfiable" } : { kind: "part", start, end };
}

/** `Content-Range` of an upload chunk, inclusive at both ends. Source: OCI distribution-spec, "Pushing a blob in chunks". */
export function parseChunkRange(header: string): { readonly start: number; readonly end: number } | undefined {
  const match = chunkRange.exec(header.trim());
  if (match === null) return undefined;
  const [start, last] = [Number(match[1]), Number(match[2])];
  return last < start ? undefined : { start, end: last + 1 };
}

/** The `Range` header that tells how much of an upload is there. docker-registry answers `0-0` both for nothing and for one byte. */
export function formatProgress(size: number): string {
  return `0-${Math.max(size - 1, 0)}`;
}
