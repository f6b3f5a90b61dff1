import type { ByteString } from "./byte-string.ts";
import { refuse } from "./entry.ts";
import { maxPathBytes } from "./names.ts";

/** As Linux's own limit (path_resolution(7)). */
const maxLinks = 40;

/** What stands at a name of a path: a symlink, or something to go into; `absent` ends the walk without a result. */
export type Step = { readonly kind: "symlink"; readonly target: ByteString } | { readonly kind: "plain" } | { readonly kind: "absent" };

export const plainStep: Step = { kind: "plain" };

/**
 * Where a path leads, links followed inside the root: absolute targets start again at it, `..` stops at it. `look` is asked
 * for each name in turn, its parent being free of symlinks. `undefined` when `look` said `absent`.
 *
 * The only place that follows links of an image, for trees on disk and in memory alike. Throws `ERR_GUEST_ENTRY_REFUSED`
 * for circles and depth.
 *
 * @param entry - for messages.
 */
export function walk(
  components: readonly ByteString[],
  look: (parent: readonly ByteString[], name: ByteString) => Step,
  { entry, maxDepth }: { readonly entry: ByteString; readonly maxDepth: number },
): ByteString[] | undefined {
  const ahead = components.toReversed();
  let path: ByteString[] = [];
  let links = 0;
  while (ahead.length > 0) {
    const name = ahead.pop() ?? "";
    if (name === "" || name === ".") continue;
    if (name === "..") {
      path.pop();
      continue;
    }
    checkPath(path, name, entry, maxDepth);
    const step = look(path, name);
    switch (step.kind) {
      case "absent":
        return undefined;
      case "plain":
        path.push(name);
        break;
      case "symlink":
        links += 1;
        if (links > maxLinks) throw refuse("too-many-links", entry, `more than ${maxLinks} symlinks in its path`);
        if (step.target.startsWith("/")) path = [];
        for (const part of step.target.split("/").toReversed()) ahead.push(part);
        break;
    }
  }
  return path;
}

function checkPath(path: readonly ByteString[], name: ByteString, entry: ByteString, maxDepth: number): void {
  if (path.length >= maxDepth) throw refuse("too-deep", entry, `links lead it deeper than ${maxDepth} directories`);
  if (path.reduce((sum, part) => sum + part.length + 1, name.length + 1) > maxPathBytes)
    throw refuse("path-too-long", entry, "links lead it to a path that is too long");
}
