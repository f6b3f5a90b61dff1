import { printable, type ByteString } from "./byte-string.ts";
import { refuse, type TarEntry } from "./entry.ts";
import { GuestError } from "./errors.ts";
import { isXattrName, setXattrs, type HelperOutcome } from "./specials.ts";
import type { Tree } from "./tree.ts";

type Attributes = ReadonlyMap<ByteString, Buffer>;

const maxValueBytes = 64 * 1024;
/** How much of files may wait before the helper is run. */
const maxFileBytes = 4 * 1024 ** 2;
/** How much of directories may wait for the end. */
const maxDirectoryBytes = 64 * 1024 ** 2;

/** Set by the machine that labels, translated by NFS, or meaning something to overlayfs: never an image's to say. */
const dropped = /^(?:security\.selinux|system\.nfs4_acl|user\.rootlesscontainers|(?:trusted|user)\.overlay\..*)$/;

/** Source: Linux, overlayfs.rst; `trusted.` needs root, which a whiteout device needs as well. */
const opaqueMark = ["trusted.overlay.opaque", Buffer.from("y")] as const;

/**
 * Collects extended attributes so that one helper process sets those of many files.
 *
 * Files get theirs at the latest at the end of their layer; directories at the end of all layers, as a later entry for
 * the same directory replaces all of them. Paths are from the root of the tree, without symlinks.
 */
export class XattrQueue {
  readonly #rights: "all" | "user";
  readonly #files = new Map<ByteString, Attributes>();
  readonly #directories = new Map<ByteString, Attributes>();
  readonly #opaque = new Set<ByteString>();
  #fileBytes = 0;
  #directoryBytes = 0;

  constructor(rights: "all" | "user") {
    this.#rights = rights;
  }

  /** A directory that overlayfs shall not look through. Image entries cannot say so: the attribute is dropped from them. */
  addOpaque(path: ByteString): void {
    this.#opaque.add(path);
  }

  /** Whether so much of files waits that it should be flushed. */
  get isFull(): boolean {
    return this.#fileBytes > maxFileBytes;
  }

  /**
   * Takes an entry's attributes. Says how many were left out because the caller has no right to set them: all but `user.`
   * in rootless mode. Throws `ERR_GUEST_ENTRY_REFUSED` for a name or value that cannot be set.
   */
  add(entry: TarEntry, path: ByteString): number {
    if (entry.kind === "hardlink") return 0;
    let leftOut = 0;
    const kept = new Map<ByteString, Buffer>();
    let bytes = 0;
    for (const [name, value] of entry.xattrs ?? []) {
      if (dropped.test(name)) continue;
      if (!isXattrName(name) || value.length > maxValueBytes) {
        throw refuse("xattr-name", entry.path, `extended attribute ${printable(name)} cannot be set`);
      }
      if (this.#rights === "user" && !name.startsWith("user.")) {
        leftOut += 1;
        continue;
      }
      kept.set(name, value);
      bytes += name.length + value.length;
    }
    if (entry.kind === "directory") this.#addDirectory(path, kept, bytes);
    else if (kept.size > 0) {
      this.#files.set(path, kept);
      this.#fileBytes += bytes;
    }
    return leftOut;
  }

  #addDirectory(path: ByteString, kept: Attributes, bytes: number): void {
    this.#directories.delete(path);
    if (kept.size === 0) return;
    this.#directories.set(path, kept);
    this.#directoryBytes += bytes;
    if (this.#directoryBytes > maxDirectoryBytes) {
      throw new GuestError("ERR_GUEST_LIMIT_EXCEEDED", {
        message: `directories have more than ${maxDirectoryBytes} bytes of extended attributes`,
        hint: "an image that needs this is most likely an attack on the machine that unpacks it",
        details: { limit: "maxDirectoryXattrs" },
      });
    }
  }

  /** The path is going. Says whether attributes of a file wait for it, which its other names may still need. */
  isWaiting(path: ByteString): boolean {
    return this.#files.has(path);
  }

  forget(path: ByteString): void {
    this.#files.delete(path);
    this.#directories.delete(path);
    this.#opaque.delete(path);
  }

  /** Sets what waits for files, or for directories, and forgets it. Reports the paths with the outcome. */
  flush(what: "files" | "directories", tree: Tree): { readonly outcome: HelperOutcome; readonly paths: readonly ByteString[] } {
    const waiting = what === "files" ? this.#files : this.#directories;
    if (what === "directories") {
      for (const path of this.#opaque) this.#directories.set(path, new Map([...(this.#directories.get(path) ?? []), opaqueMark]));
      this.#opaque.clear();
    }
    const paths = [...waiting.keys()];
    const outcome = setXattrs(tree, waiting);
    waiting.clear();
    if (what === "files") this.#fileBytes = 0;
    return { outcome, paths };
  }
}
