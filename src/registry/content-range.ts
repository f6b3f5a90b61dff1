/** Bytes `[start, end)`, of `size` where the sender knows it. */
export interface ContentRange {
  readonly start: number;
  readonly end: number;
  readonly size: number | undefined;
}

/** Parses `bytes 0-99/1000`; `undefined` for anything else. Source: RFC 9110 section 14.4. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(text?.trim() ?? "");
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]) + 1;
  const size = match[3] === "*" ? undefined : Number(match[3]);
  return end <= start || (size !== undefined && end > size) ? undefined : { start, end, size };
}

/**
 * How many bytes of an upload a registry holds, from the `Range: 0-99` of a 202 or 204; `undefined` when absent or
 * malformed. `0-0` means nothing or one byte: docker-registry answers it for both (E-registry, section 3.1).
 * Source: distribution-spec, "Pushing a blob in chunks".
 */
export function parseUploadRange(text: string | undefined): number | "0-or-1" | undefined {
  const match = /^(?:bytes=)?0-(\d{1,15})$/.exec(text?.trim() ?? "");
  if (match === null) return undefined;
  return match[1] === "0" ? "0-or-1" : Number(match[1]) + 1;
}

/** The target of a `Link: <…>; rel="next"`; `undefined` when there is no next page. Source: RFC 8288; distribution-spec, "Listing Tags". */
export function parseNextLink(headers: readonly string[]): string | undefined {
  for (const header of headers) {
    for (const [, target = "", parameters = ""] of header.slice(0, 8192).matchAll(/<([^>]*)>((?:\s*;\s*[^,;"]+(?:"[^"]*")?)*)/g)) {
      if (/;\s*rel\s*=\s*"?next"?\s*(?:;|$)/i.test(parameters)) return target;
    }
  }
  return undefined;
}
