import { KeywrapError } from "./errors.ts";

/** Where a resource lies in a Key Broker Service. Source: CoCo `resource_uri`; Trustee's resource plugin (three segments). */
export interface KbsUri {
  readonly repository: string;
  readonly type: string;
  readonly tag: string;
}

/** Source: Trustee, resource plugin, `ResourceDesc`. */
const segment = /^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/;
const grammar = /^kbs(?:\+resource)?:\/\/([^/?#]*)\/([^?#]*)$/;

/**
 * Reads `kbs:///repository/type/tag`. `kbs+resource://` is the same, and a host is allowed and ignored, as in CoCo's
 * guests: the configured KBS is used. Throws `ERR_KEYWRAP_KBS_URI_MALFORMED`.
 */
export function parseKbsUri(text: string): KbsUri {
  const segments = segmentsOf(text);
  const [repository, type, tag, ...more] = segments;
  if (repository === undefined || type === undefined || tag === undefined || more.length > 0)
    throw malformed(text, "three segments: kbs:///repository/type/tag");
  return { repository, type, tag };
}

/** The segments of a URI of any depth, for `kbs:///repository/type` whose tag is yet to be chosen. Throws as {@link parseKbsUri}. */
export function segmentsOf(text: string): readonly string[] {
  const match = grammar.exec(text);
  if (match === null || text.length > 1024) throw malformed(text, "kbs:///repository/type/tag");
  const segments = (match[2] ?? "").split("/");
  if (!segments.every((part) => segment.test(part)))
    throw malformed(text, "segments of letters, digits, '_', '-' and '.', not starting with '.'");
  return segments;
}

/** The one spelling that is compared, written and asked for. */
export function formatKbsUri(uri: KbsUri): string {
  return `kbs:///${uri.repository}/${uri.type}/${uri.tag}`;
}

/** The normal spelling of a URI. Throws `ERR_KEYWRAP_KBS_URI_MALFORMED`. */
export function normalizeKbsUri(text: string): string {
  return formatKbsUri(parseKbsUri(text));
}

/** Whether a key id means a resource at a KBS. */
export function isKbsUri(text: string): boolean {
  return /^kbs(?:\+resource)?:\/\//.test(text);
}

function malformed(text: string, expected: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KBS_URI_MALFORMED", {
    message: `not a KBS URI: ${JSON.stringify(text.slice(0, 160))} (expected ${expected})`,
    hint: "the three slashes are part of it: the KBS itself is named by --kbs",
  });
}
