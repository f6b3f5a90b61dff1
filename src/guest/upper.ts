import type { ByteString } from "./byte-string.ts";
import { childPath, type HeldDirectory, type Tree } from "./tree.ts";

/**
 * Remembers what the current layer has put in place, so that whiteouts hide only what lies below it.
 *
 * A whiteout counts for lower layers alone, wherever it stands in the layer. Source: OCI image-spec, layer.md,
 * "Whiteouts". Each directory is searched at most once per layer, however many markers name it: a flood of markers costs
 * no more than one walk (GHSA-rp3h-jf77-q9p4).
 */
export class UpperTracker {
  readonly #tree: Tree;
  /** Paths of this layer, and all directories on the way to them. */
  readonly #mine = new Set<ByteString>();
  /** Directories in which nothing of a lower layer is left. */
  readonly #clean = new Set<ByteString>();

  constructor(tree: Tree) {
    this.#tree = tree;
  }

  /** The layer has put something at a path. */
  add(path: ByteString): void {
    for (let at = path; at !== "" && !this.#mine.has(at); at = parentOf(at)) this.#mine.add(at);
  }

  /** The layer has made a directory where none was. */
  addFresh(path: ByteString): void {
    this.add(path);
    this.#clean.add(path);
  }

  forget(path: ByteString): void {
    this.#mine.delete(path);
    this.#clean.delete(path);
  }

  /** A whiteout of one name. */
  hide(directory: HeldDirectory, name: ByteString): void {
    const path = childPath(directory, name);
    if (!this.#mine.has(path)) this.#tree.remove(directory, name);
    else if (this.#tree.stat(directory, name)?.isDirectory() === true) this.hideBelow(path);
  }

  /** An opaque marker: everything in a directory that is not of this layer goes. */
  hideBelow(path: ByteString): void {
    if (this.#clean.has(path)) return;
    this.#clean.add(path);
    for (const name of this.#tree.list(this.#tree.hold(path))) this.hide(this.#tree.hold(path), name);
  }
}

function parentOf(path: ByteString): ByteString {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}
