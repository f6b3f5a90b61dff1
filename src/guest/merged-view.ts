import { refuse, type TarEntry } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";
import { plainStep, walk, type Step } from "./walk.ts";

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
    const look = (parent: readonly ByteString[], name: ByteString): Step => {
      const node = this.find([...parent, name]);
      if (node?.kind === "other") throw refuse("parent-not-a-directory", entry, "its parent is a file");
      return node?.kind === "symlink" ? { kind: "symlink", target: node.entry?.linkTarget ?? "" } : plainStep;
    };
    return walk(components, look, { entry, maxDepth: this.#maxDepth }) ?? [];
  }

  find(path: readonly ByteString[]): MergedNode | undefined {
    let node: MergedNode | undefined = this.root;
    for (const component of path) {
      node = node.children.get(component);
      if (node === undefined) return undefined;
    }
    return node;
  }
}

/** Takes away what is not of a layer, below a directory. */
export function keepOnly(layer: number, directory: MergedNode): void {
  for (const [name, child] of directory.children) {
    if (child.layer !== layer) directory.children.delete(name);
    else keepOnly(layer, child);
  }
}
