/**
 * Whether a pattern matches a whole path: `*` stands for any text within one segment, `**` as the last segment for
 * everything below. The empty path, which stands for everything, is matched by `**` alone.
 */
export function matchesPath(pattern: string, path: string): boolean {
  if (path === "") return pattern === "**";
  const patterns = pattern.split("/");
  const segments = path.split("/");
  const open = patterns.at(-1) === "**";
  if (open ? segments.length < patterns.length : segments.length !== patterns.length) return false;
  return patterns.every((part, index) => (open && index === patterns.length - 1) || matchesSegment(part, segments[index] ?? ""));
}

/** No regular expression is built of a policy's text. */
function matchesSegment(pattern: string, segment: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return pattern === segment;
  if (!segment.startsWith(first)) return false;
  let position = first.length;
  for (const [index, part] of rest.entries()) {
    const last = index === rest.length - 1;
    const found = last ? segment.length - part.length : segment.indexOf(part, position);
    if (found < position || !segment.startsWith(part, found)) return false;
    position = found + part.length;
  }
  return true;
}
