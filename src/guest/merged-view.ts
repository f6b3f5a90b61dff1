import { refuse, type TarEntry } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";
import { maxPathBytes } from "./names.ts";

const maxLinks = 40;

/** What the layers so far show at a path. */
export interface MergedNode {
  kind: "directory" | "symlink" | "other";
  /** The highest layer in whose own folder the path stands. */
  layer: number;
  /** The entry that decided its attributes; `undefined` for parents that no layer has an entry for. */
  entry: TarEntry | undefined;
  readonly children: Map<ByteString, MergedNode>;
}

export function newDirectory(layer: number, entry: TarEntry | undefined): MergedNode {
  return { kind: "directory", layer, entry, children: new Map() };
}

/**
 * The image as a reader of all layers would see it, in memory: names, kinds, link targets. Layers that are unpacked into
 * folders of their own need it, because a path may lead through a symlink of a lower layer. Bounded by `maxEntries`.
 */
export class MergedView {
  readonly root: MergedNode = newDirectory(0, undefined);
  readonly #maxDepth: number;

  constructor(maxDepth: number) {
    this.#maxDepth = maxDepth;
  }

  /**
   * The components without symlinks that a directory path leads to, inside the root; what is missing is taken as written.
   * Throws `ERR_GUEST_ENTRY_REFUSED` for circles, depth, and a file on the way.
   */
  resolve(components: readonly ByteString[], entry: ByteString): ByteString[] {
    const ahead = components.toReversed();
    let found: ByteString[] = [];
    let links = 0;
    while (ahead.length > 0) {
      const component = ahead.pop() ?? "";
      if (component === "" || component === ".") continue;
      if (component === "..") {
        found.pop();
        continue;
      }
      const node = this.find([...found, component]);
      if (node?.kind === "other") throw refuse("parent-not-a-directory", entry, "its parent is a file");
      if (node?.kind !== "symlink") {
        found.push(component);
        this.#check(found, entry);
        continue;
      }
      links += 1;
      if (links > maxLinks) throw refuse("too-many-links", entry, `more than ${maxLinks} symlinks in its path`);
      const target = node.entry?.linkTarget ?? "";
      if (target.startsWith("/")) found = [];
      for (const part of target.split("/").toReversed()) ahead.push(part);
    }
    return found;
  }

  find(path: readonly ByteString[]): MergedNode | undefined {
    let node: MergedNode | undefined = this.root;
    for (const component of path) {
      node = node.children.get(component);
      if (node === undefined) return undefined;
    }
    return node;
  }

  #check(path: readonly ByteString[], entry: ByteString): void {
    if (path.length > this.#maxDepth) throw refuse("too-deep", entry, `links lead it deeper than ${this.#maxDepth} directories`);
    if (path.reduce((sum, part) => sum + part.length + 1, 0) > maxPathBytes)
      throw refuse("path-too-long", entry, "links lead it to a path that is too long");
  }
}

/** Takes away what is not of a layer, below a directory. */
export function keepOnly(layer: number, directory: MergedNode): void {
  for (const [name, child] of directory.children) {
    if (child.layer !== layer) directory.children.delete(name);
    else keepOnly(layer, child);
  }
}
