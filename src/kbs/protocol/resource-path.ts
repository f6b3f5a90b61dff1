import { KbsError } from "../errors.ts";

/** The name of a resource: three segments. Source: CoCo, "KBS resource URI"; grammar as Trustee enforces it. */
export interface ResourcePath {
  readonly repository: string;
  readonly type: string;
  readonly tag: string;
}

/** A place for an image key: without a tag, the caller generates one per image. */
export interface KeyTarget {
  readonly repository: string;
  readonly type: string;
  readonly tag: string | undefined;
}

const segmentGrammar = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$/;
/** A directory name on every file system, with room for a suffix. Trustee sets no limit of its own. */
const maxSegmentLength = 200;
const uriGrammar = /^kbs(?:\+resource)?:\/\/([^/?#]*)\/([^?#]*)$/;

function isSegment(text: string | undefined): text is string {
  return text !== undefined && text.length <= maxSegmentLength && segmentGrammar.test(text);
}

/** Parses `repository/type/tag`. Throws `ERR_KBS_URI_MALFORMED`. */
export function parseResourcePath(text: string): ResourcePath {
  const [repository, type, tag, ...rest] = text.split("/");
  if (rest.length > 0 || !isSegment(repository) || !isSegment(type) || !isSegment(tag)) {
    throw malformed(text, "three segments of letters, digits, _ - and inner dots: repository/type/tag");
  }
  return { repository, type, tag };
}

/** The path as it stands in URLs and in the store. */
export function formatResourcePath(path: ResourcePath): string {
  return `${path.repository}/${path.type}/${path.tag}`;
}

/**
 * Parses `kbs://[host[:port]]/repository/type/tag`. The host is ignored, as in every CoCo guest: which service is asked
 * is configuration, never the annotation's choice. `kbs+resource://` is the same; queries and URIs of
 * other plugins are refused. Throws
 * `ERR_KBS_URI_MALFORMED`.
 */
export function parseResourceUri(uri: string): ResourcePath {
  const match = uriGrammar.exec(uri);
  if (match === null) throw malformed(uri, "kbs:///repository/type/tag");
  return parseResourcePath(match[2] ?? "");
}

/** `kbs:///repository/type/tag`. */
export function formatResourceUri(path: ResourcePath): string {
  return `kbs:///${formatResourcePath(path)}`;
}

/** Parses a recipient's URI, which may leave the tag out: `kbs:///repository/type[/tag]`. Throws `ERR_KBS_URI_MALFORMED`. */
export function parseKeyTarget(uri: string): KeyTarget {
  const match = uriGrammar.exec(uri);
  const segments = (match?.[2] ?? "").split("/");
  const [repository, type] = segments;
  if (segments.length === 2 && isSegment(repository) && isSegment(type)) return { repository, type, tag: undefined };
  return parseResourceUri(uri);
}

function malformed(text: string, expected: string): KbsError {
  return new KbsError("ERR_KBS_URI_MALFORMED", {
    message: `not the name of a KBS resource: ${JSON.stringify(text.slice(0, 200))} (expected ${expected})`,
    hint: "for example kbs:///default/image-key/my-app",
  });
}
