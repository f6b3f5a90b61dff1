import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  unlinkSync,
  type Stats,
} from "node:fs";
import { refuse } from "./entry.ts";
import { fsPath, type ByteString } from "./byte-string.ts";
import { errorCode } from "./storage-error.ts";
import { plainStep, walk, type Step } from "./walk.ts";

/** Linux: a descriptor that names a file without opening it. Not among Node's constants; the same on x86-64, arm64, riscv64, ppc64, s390x. */
const O_PATH = 0o10000000;
const directoryFlags = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Below half of the usual 1024 descriptors per process. */
const maxOpenDirectories = 192;

/** A held directory of the tree. `prefix` plus a name is a path that no swap of a directory can lead elsewhere. */
export interface HeldDirectory {
  /** From the root of the tree, without symlinks; empty for the root. */
  readonly path: ByteString;
  readonly fd: number;
  readonly prefix: string;
}

/** Learns of what the tree does on its own. */
export interface TreeObserver {
  /** A missing parent was created. */
  created(path: ByteString): void;
  /** A path is about to go, `held` being its parent. */
  removing(path: ByteString, held: HeldDirectory, name: ByteString, stats: Stats): void;
}

/**
 * A directory tree in which no path is ever resolved by the kernel through a symlink.
 *
 * Every component is opened with `O_PATH|O_NOFOLLOW` below the descriptor of its parent, through `/proc/self/fd/N/name`,
 * which gives the semantics of openat(2). Symlinked parents are followed here, inside the root: absolute targets start
 * again at it, `..` stops at it. Needs /proc. One writer per tree.
 */
export class Tree {
  readonly root: HeldDirectory;
  readonly #observer: TreeObserver;
  readonly #maxDepth: number;
  /** By path without symlinks, least recently used first. */
  readonly #held = new Map<ByteString, HeldDirectory>();
  /** Path as written in entries to path without symlinks; emptied when a directory or symlink goes. */
  readonly #resolved = new Map<ByteString, ByteString>();

  constructor(path: string, observer: TreeObserver, maxDepth: number) {
    this.#observer = observer;
    this.#maxDepth = maxDepth;
    this.root = held("", openSync(path, directoryFlags));
  }

  close(): void {
    for (const directory of this.#held.values()) closeSync(directory.fd);
    this.#held.clear();
    closeSync(this.root.fd);
  }

  /** The directory that components lead to. Missing ones are created 0755 or reported as `undefined`. */
  directory(components: readonly ByteString[], missing: "create" | "report", entry: ByteString): HeldDirectory | undefined {
    const written = components.join("/");
    const known = this.#resolved.get(written);
    if (known !== undefined) return this.hold(known);
    const found = this.#walk(components, missing, entry);
    if (found !== undefined) {
      if (this.#resolved.size >= 4 * maxOpenDirectories) this.#resolved.clear();
      this.#resolved.set(written, found.path);
    }
    return found;
  }

  #walk(components: readonly ByteString[], missing: "create" | "report", entry: ByteString): HeldDirectory | undefined {
    const look = (path: readonly ByteString[], name: ByteString): Step => {
      const parent = this.hold(path.join("/"));
      const step = this.#step(parent, name, entry);
      if (step.kind !== "absent" || missing === "report") return step;
      mkdirSync(fsPath(parent.prefix + name), 0o700);
      this.#observer.created(childPath(parent, name));
      return plainStep;
    };
    const found = walk(components, look, { entry, maxDepth: this.#maxDepth });
    return found === undefined ? undefined : this.hold(found.join("/"));
  }

  /** Where a path of the image's own leads, links followed inside the root; what is missing is taken as it is written. */
  locate(path: ByteString): ByteString {
    const look = (above: readonly ByteString[], name: ByteString): Step => {
      const parent = this.directory(above, "report", path);
      if (parent === undefined || this.stat(parent, name)?.isSymbolicLink() !== true) return plainStep;
      return { kind: "symlink", target: readlinkSync(fsPath(parent.prefix + name), "buffer").toString("latin1") };
    };
    return (walk(path.split("/"), look, { entry: path, maxDepth: this.#maxDepth }) ?? []).join("/");
  }

  /**
   * The content of a regular file of the image, `undefined` when it is missing. Never waits: what it is is known before it
   * is opened, so a fifo or device in its place is refused, not read (CVE-2024-9676).
   */
  readFile(path: ByteString, maxBytes: number): Buffer | undefined {
    const place = this.locate(path);
    const slash = place.lastIndexOf("/");
    const parent = this.directory(slash < 0 ? [] : place.slice(0, slash).split("/"), "report", path);
    if (parent === undefined || this.stat(parent, place.slice(slash + 1)) === undefined) return undefined;
    const fd = openSync(fsPath(parent.prefix + place.slice(slash + 1)), O_PATH | constants.O_NOFOLLOW);
    try {
      const stats = fstatSync(fd);
      if (!stats.isFile()) throw refuse("not-a-file", path, "it must be a regular file");
      if (stats.size > maxBytes) throw refuse("file-too-large", path, `${stats.size} bytes, more than ${maxBytes}`);
      return readFileSync(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  }

  /** A descriptor that only names what stands at a path without symlinks, a symlink itself included. Whoever asks closes it. */
  openPath(path: ByteString): number {
    if (path === "") return openSync(this.root.prefix, O_PATH | constants.O_DIRECTORY);
    const slash = path.lastIndexOf("/");
    const parent = this.hold(slash < 0 ? "" : path.slice(0, slash));
    return openSync(fsPath(parent.prefix + path.slice(slash + 1)), O_PATH | constants.O_NOFOLLOW);
  }

  /** Opens a regular file by its path without symlinks, for reading, and closes it. */
  withFile(path: ByteString, use: (fd: number) => void): void {
    const slash = path.lastIndexOf("/");
    const parent = this.hold(slash < 0 ? "" : path.slice(0, slash));
    const fd = openSync(fsPath(parent.prefix + path.slice(slash + 1)), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) throw refuse("not-a-file", path, "it must be a regular file");
      use(fd);
    } finally {
      closeSync(fd);
    }
  }

  #step(parent: HeldDirectory, name: ByteString, entry: ByteString): Step {
    const path = childPath(parent, name);
    if (this.#held.has(path)) return plainStep;
    try {
      this.#keep(held(path, openSync(fsPath(parent.prefix + name), directoryFlags)));
      return plainStep;
    } catch (error) {
      const code = errorCode(error);
      if (code === "ENOENT") return { kind: "absent" };
      if (code !== "ENOTDIR" && code !== "ELOOP") throw error;
    }
    try {
      return { kind: "symlink", target: readlinkSync(fsPath(parent.prefix + name), "buffer").toString("latin1") };
    } catch (cause) {
      if (errorCode(cause) === "EINVAL") throw refuse("parent-not-a-directory", entry, "its parent is a file", cause);
      throw cause;
    }
  }

  /** A directory by its path without symlinks. A symlink on the way can only be somebody else's doing. */
  hold(path: ByteString): HeldDirectory {
    if (path === "") return this.root;
    const known = this.#held.get(path);
    if (known !== undefined) {
      this.#held.delete(path);
      this.#held.set(path, known);
      return known;
    }
    const slash = path.lastIndexOf("/");
    const parent = this.hold(slash < 0 ? "" : path.slice(0, slash));
    try {
      return this.#keep(held(path, openSync(fsPath(parent.prefix + path.slice(slash + 1)), directoryFlags)));
    } catch (cause) {
      if (errorCode(cause) === "ENOTDIR" || errorCode(cause) === "ENOENT" || errorCode(cause) === "ELOOP") {
        throw refuse("raced", path, "another process changes the staging directory", cause);
      }
      throw cause;
    }
  }

  #keep(directory: HeldDirectory): HeldDirectory {
    if (this.#held.size >= maxOpenDirectories) {
      for (const [path, oldest] of this.#held) {
        this.#held.delete(path);
        closeSync(oldest.fd);
        break;
      }
    }
    this.#held.set(directory.path, directory);
    return directory;
  }

  /** What stands at a name, links not followed. */
  stat(directory: HeldDirectory, name: ByteString): Stats | undefined {
    return lstatSync(fsPath(directory.prefix + name), { throwIfNoEntry: false });
  }

  /** The names in a directory. */
  list(directory: HeldDirectory): ByteString[] {
    return readdirSync(directory.prefix, { encoding: "buffer" }).map((name) => name.toString("latin1"));
  }

  /** Removes a name and all below it. `absent` when nothing was there. */
  remove(directory: HeldDirectory, name: ByteString): "removed" | "absent" {
    const stats = this.stat(directory, name);
    if (stats === undefined) return "absent";
    const path = childPath(directory, name);
    if (!stats.isDirectory()) {
      this.#observer.removing(path, directory, name, stats);
      if (stats.isSymbolicLink()) this.#resolved.clear();
      unlinkSync(fsPath(directory.prefix + name));
      return "removed";
    }
    this.#resolved.clear();
    const child = this.hold(path);
    // The child's descriptor may be closed and opened again while its own children go: always ask by path.
    for (const entry of this.list(child)) this.remove(this.hold(path), entry);
    this.#observer.removing(path, this.hold(directory.path), name, stats);
    this.#release(path);
    rmdirSync(fsPath(this.hold(directory.path).prefix + name));
    return "removed";
  }

  #release(path: ByteString): void {
    const directory = this.#held.get(path);
    if (directory === undefined) return;
    this.#held.delete(path);
    closeSync(directory.fd);
  }
}

/** The path of a name in a directory, from the root of the tree. */
export function childPath(directory: HeldDirectory, name: ByteString): ByteString {
  return directory.path === "" ? name : `${directory.path}/${name}`;
}

function held(path: ByteString, fd: number): HeldDirectory {
  return { path, fd, prefix: `/proc/self/fd/${fd}/` };
}
