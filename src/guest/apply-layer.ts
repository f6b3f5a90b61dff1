import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
  type Stats,
} from "node:fs";
import { fsPath, printable, type ByteString } from "./byte-string.ts";
import { refuse, type TarEntry } from "./entry.ts";
import type { Budget } from "./limits.ts";
import { meaningOf, splitName } from "./names.ts";
import { ownerOf, type Owner, type Ownership } from "./ownership.ts";
import { helperFailed, Specials, type SpecialsPolicy } from "./specials.ts";
import { errorCode, storing, storingEntry } from "./storage-error.ts";
import type { TarSink } from "./tar-reader.ts";
import { childPath, Tree, type HeldDirectory, type TreeObserver } from "./tree.ts";
import { UpperTracker } from "./upper.ts";
import { XattrQueue } from "./xattr-queue.ts";

/** What was left out of the tree, by policy or because it must be; names are shown form, at most {@link maxSamples} of each. */
export interface Omissions {
  xattrs: number;
  devices: number;
  fifos: number;
  readonly samples: string[];
}

const maxSamples = 20;

export interface RootfsRequest {
  /** Path of an existing empty directory of ours. */
  readonly path: string;
  readonly budget: Budget;
  readonly ownership: Ownership;
  readonly specials: SpecialsPolicy;
  /** Path of a private directory on the same file system, for helper programs to work in. */
  readonly scratch: string;
}

interface DirectoryAttributes {
  readonly mode: number;
  readonly atime: number;
  readonly mtime: number;
}

/** Of a directory that no layer has an entry for; the epoch, so that the same image gives the same tree. */
const implicitDirectory: DirectoryAttributes = { mode: 0o755, atime: 0, mtime: 0 };

const createFlags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
/** Opens a tree to apply layers to; whoever opens it closes it. Throws `ERR_GUEST_STORAGE`. */
export function openRootfs(request: RootfsRequest): Rootfs {
  return storing("staging directory", () => new Rootfs(request));
}

/**
 * Applies layers to one flat directory tree, entry by entry, synchronously.
 *
 * Order per entry: name, parent, whiteout, replace, create, owner, mode, times; extended attributes after owner and
 * content (chown and write strip file capabilities), at the end of the layer; modes and times of directories at the end
 * of all layers. Source: OCI image-spec, layer.md, "Applying Changesets".
 */
export class Rootfs implements TarSink, TreeObserver {
  readonly omitted: Omissions = { xattrs: 0, devices: 0, fifos: 0, samples: [] };
  readonly tree: Tree;
  readonly #helpers: Specials;
  readonly #request: RootfsRequest;
  /** By path without symlinks. */
  readonly #directories = new Map<ByteString, DirectoryAttributes>();
  readonly #xattrs: XattrQueue;
  /** `undefined` in the first layer, which has nothing below it to hide. */
  #upper: UpperTracker | undefined;
  #layers = 0;
  #file: { readonly fd: number; readonly entry: TarEntry; readonly owner: Owner | undefined } | undefined;

  constructor(request: RootfsRequest) {
    this.#request = request;
    this.#helpers = new Specials(request.scratch);
    this.#xattrs = new XattrQueue(request.ownership.kind === "rootless" ? "user" : "all");
    this.tree = new Tree(request.path, this, request.budget.limits.maxDepth);
    this.#directories.set("", implicitDirectory);
  }

  /** A directory of this tree that overlayfs shall not look through. */
  makeOpaque(path: ByteString): void {
    this.#xattrs.addOpaque(path);
  }

  /** A 0:0 character device that hides a lower layer's name from overlayfs; its parent is there. */
  makeWhiteout(path: ByteString, entry: ByteString): void {
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1);
    storingEntry(entry, () => {
      const parent = this.tree.hold(slash < 0 ? "" : path.slice(0, slash));
      this.tree.remove(parent, name);
      const outcome = this.#helpers.makeWhiteout(this.tree.hold(parent.path), name);
      // Without it a deleted file would be back: never left out, whatever the policy.
      if (outcome.kind === "failed") throw helperFailed(outcome, "make a whiteout", entry);
    });
  }

  startLayer(): void {
    this.#upper = this.#layers === 0 ? undefined : new UpperTracker(this.tree);
    this.#layers += 1;
  }

  endLayer(): void {
    storing("extended attributes", () => this.#setXattrs("files"));
    this.#upper = undefined;
  }

  /** Sets the attributes of all directories. Nothing can be applied afterwards. */
  finish(): void {
    this.#setXattrs("directories");
    // Descendants first: an unprivileged owner cannot pass a directory whose final mode has no x.
    const paths = [...this.#directories.keys()].toSorted().toReversed();
    for (const path of paths) {
      const attributes = this.#directories.get(path);
      if (attributes === undefined) continue;
      const self = `/proc/self/fd/${this.tree.hold(path).fd}`;
      chmodSync(self, attributes.mode);
      utimesSync(self, attributes.atime, attributes.mtime);
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
    this.#helpers.close();
    this.tree.close();
  }

  entry(entry: TarEntry): void {
    this.#request.budget.charge(entry.size, entry.path);
    storingEntry(entry.path, () => this.#apply(entry));
  }

  data(bytes: Buffer, position: number): void {
    const file = this.#file;
    if (file === undefined) return;
    storingEntry(file.entry.path, () => {
      let written = 0;
      while (written < bytes.length) written += writeSync(file.fd, bytes, written, bytes.length - written, position + written);
    });
  }

  entryEnd(): void {
    const file = this.#file;
    if (file === undefined) return;
    const { fd, entry, owner } = file;
    storingEntry(entry.path, () => {
      if (entry.sparse !== undefined) ftruncateSync(fd, entry.size);
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
      fchmodSync(fd, entry.mode);
      futimesSync(fd, timeOf(entry.atime), timeOf(entry.mtime));
      this.#file = undefined;
      closeSync(fd);
    });
  }

  created(path: ByteString): void {
    // Missing parents: 0755 root:root. Source: containerd and umoci agree where the layers below say nothing.
    const owner = this.#owner(0, 0, path);
    if (owner !== undefined) chownSync(`/proc/self/fd/${this.tree.hold(path).fd}`, owner.uid, owner.gid);
    this.#directories.set(path, implicitDirectory);
    this.#upper?.addFresh(path);
  }

  removing(path: ByteString, _held: HeldDirectory, _name: ByteString, stats: Stats): void {
    this.#directories.delete(path);
    this.#upper?.forget(path);
    // Another name of the same file stays, and with it the attributes.
    if (stats.nlink > 1 && this.#xattrs.isWaiting(path)) this.#setXattrs("files");
    this.#xattrs.forget(path);
  }

  #apply(entry: TarEntry): void {
    const components = splitName(entry.path, entry.path, this.#request.budget.limits.maxDepth);
    const name = components.pop();
    if (name === undefined) {
      if (entry.kind !== "directory") throw refuse("root-not-a-directory", entry.path, "the root of an image can only be a directory");
      this.#setDirectory(this.tree.root, entry);
      return;
    }
    const meaning = meaningOf([...components, name], entry.path);
    switch (meaning.kind) {
      case "aufs-metadata":
        return;
      case "whiteout":
      case "opaque": {
        const lower = this.#upper === undefined ? undefined : this.tree.directory(components, "report", entry.path);
        if (lower === undefined) return;
        if (meaning.kind === "opaque") this.#upper?.hideBelow(lower.path);
        else this.#upper?.hide(lower, meaning.target);
        return;
      }
      case "plain":
        break;
    }
    const directory = this.tree.directory(components, "create", entry.path);
    if (directory === undefined) throw refuse("parent-not-a-directory", entry.path, "its parent is missing");
    this.#create(entry, directory, name);
  }

  #create(entry: TarEntry, directory: HeldDirectory, name: ByteString): void {
    const path = childPath(directory, name);
    switch (entry.kind) {
      case "file": {
        const owner = this.#owner(entry.uid, entry.gid, entry.path);
        const fd = this.#replacing(directory, name, (at) => openSync(at, createFlags, 0o600));
        this.#file = { fd, entry, owner };
        break;
      }
      case "directory":
        this.#createDirectory(entry, directory, name);
        return;
      case "symlink":
        if (entry.linkTarget === "" || entry.linkTarget.length > 4095 || entry.linkTarget.includes("\0")) {
          throw refuse("link-target-invalid", entry.path, "a symlink target that is empty, too long or has a NUL");
        }
        this.#replacing(directory, name, (at) => symlinkSync(fsPath(entry.linkTarget), at));
        this.#setLink(entry, path);
        break;
      case "hardlink":
        this.#link(entry, directory, name);
        break;
      case "char-device":
      case "block-device":
      case "fifo":
        this.#createNode(entry, directory, name);
        break;
    }
    this.#upper?.add(path);
    this.#queueXattrs(entry, path);
  }

  #createDirectory(entry: TarEntry, directory: HeldDirectory, name: ByteString): void {
    const path = childPath(directory, name);
    const make = (at: string | Buffer) => {
      mkdirSync(at, 0o700);
      this.#upper?.addFresh(path);
    };
    try {
      make(fsPath(directory.prefix + name));
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
      // A directory over a directory merges; over anything else it replaces, a symlink to a directory included.
      if (this.tree.stat(directory, name)?.isDirectory() !== true) this.#replacing(directory, name, make);
    }
    this.#upper?.add(path);
    this.#setDirectory(this.tree.hold(path), entry);
  }

  #setDirectory(directory: HeldDirectory, entry: TarEntry): void {
    const owner = this.#owner(entry.uid, entry.gid, entry.path);
    if (owner !== undefined) chownSync(`/proc/self/fd/${directory.fd}`, owner.uid, owner.gid);
    this.#directories.set(directory.path, { mode: entry.mode, atime: timeOf(entry.atime), mtime: timeOf(entry.mtime) });
    this.#queueXattrs(entry, directory.path);
  }

  #link(entry: TarEntry, directory: HeldDirectory, name: ByteString): void {
    const components = splitName(entry.linkTarget, entry.path, this.#request.budget.limits.maxDepth);
    const targetName = components.pop();
    if (targetName === undefined) throw refuse("link-target-directory", entry.path, "a hard link to the root");
    const find = () => {
      const target = this.tree.directory(components, "report", entry.path);
      const stats = target === undefined ? undefined : this.tree.stat(target, targetName);
      if (target === undefined || stats === undefined) {
        throw refuse("link-target-missing", entry.path, `a hard link to ${printable(entry.linkTarget)}, which is not there`);
      }
      if (stats.isDirectory())
        throw refuse("link-target-directory", entry.path, `a hard link to the directory ${printable(entry.linkTarget)}`);
      return target;
    };
    if (childPath(find(), targetName) === childPath(directory, name)) throw refuse("link-to-itself", entry.path, "a hard link to itself");
    // The target is found again after a replacement: what was replaced may have held it.
    this.#replacing(directory, name, (at) => linkSync(fsPath(find().prefix + targetName), at));
  }

  #createNode(entry: TarEntry, directory: HeldDirectory, name: ByteString): void {
    if (entry.devMajor < 0 || entry.devMajor > 0xfff || entry.devMinor < 0 || entry.devMinor > 0xfffff) {
      throw refuse("device-number", entry.path, `device ${entry.devMajor}:${entry.devMinor}`);
    }
    const path = childPath(directory, name);
    if (entry.kind !== "fifo" && this.#request.ownership.kind === "rootless") {
      this.#replacing(directory, name, (at) => closeSync(openSync(at, createFlags, 0)));
      this.#omit("devices", path);
      return;
    }
    this.tree.remove(directory, name);
    const node =
      entry.kind === "fifo"
        ? ({ kind: "fifo" } as const)
        : { kind: entry.kind as "char-device" | "block-device", major: entry.devMajor, minor: entry.devMinor };
    const outcome = this.#helpers.makeNode(node, this.tree.hold(directory.path), name);
    if (outcome.kind === "failed") {
      if (this.#request.specials === "require") throw helperFailed(outcome, `make a ${entry.kind}`, entry.path);
      this.#omit(entry.kind === "fifo" ? "fifos" : "devices", path);
      return;
    }
    this.#setNode(entry, path);
  }

  /** Owner, mode and times of a node, by a descriptor: a name might be another's symlink by now. */
  #setNode(entry: TarEntry, path: ByteString): void {
    const owner = this.#owner(entry.uid, entry.gid, entry.path);
    const fd = this.tree.openPath(path);
    try {
      if (fstatSync(fd).isSymbolicLink()) throw refuse("raced", entry.path, "another process changes the staging directory");
      const self = `/proc/self/fd/${fd}`;
      if (owner !== undefined) chownSync(self, owner.uid, owner.gid);
      chmodSync(self, entry.mode);
      utimesSync(self, timeOf(entry.atime), timeOf(entry.mtime));
    } finally {
      closeSync(fd);
    }
  }

  /** Owner and times of what is reached by name, never followed. */
  #setLink(entry: TarEntry, path: ByteString): void {
    const owner = this.#owner(entry.uid, entry.gid, entry.path);
    if (owner !== undefined) lchownSync(this.#at(path), owner.uid, owner.gid);
    lutimesSync(this.#at(path), timeOf(entry.atime), timeOf(entry.mtime));
  }

  #at(path: ByteString): string | Buffer {
    const slash = path.lastIndexOf("/");
    return fsPath(this.tree.hold(slash < 0 ? "" : path.slice(0, slash)).prefix + path.slice(slash + 1));
  }

  /** Creates at a name; what stands there goes first. Never writes through it: a fifo would hang, a hard link would change another name. */
  #replacing<T>(directory: HeldDirectory, name: ByteString, create: (at: string | Buffer) => T): T {
    try {
      return create(fsPath(directory.prefix + name));
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
    }
    this.tree.remove(directory, name);
    return create(fsPath(this.tree.hold(directory.path).prefix + name));
  }

  #owner(uid: number, gid: number, entry: ByteString): Owner | undefined {
    const owner = ownerOf(this.#request.ownership, uid, gid);
    if (owner === "unmapped") throw refuse("owner-not-mapped", entry, `its owner ${uid}:${gid} is outside the mapped ranges`);
    return owner;
  }

  #queueXattrs(entry: TarEntry, path: ByteString): void {
    if (this.#xattrs.add(entry, path) > 0) this.#omit("xattrs", path);
    // While a file is open its content is still to come, and writing strips its capabilities.
    if (this.#xattrs.isFull && this.#file === undefined) this.#setXattrs("files");
  }

  #setXattrs(what: "files" | "directories"): void {
    const { outcome, paths } = this.#xattrs.flush(what, this.tree);
    if (outcome.kind === "done") return;
    if (this.#request.specials === "require") throw helperFailed(outcome, "set extended attributes", paths[0] ?? "");
    for (const path of paths) this.#omit("xattrs", path);
  }

  #omit(what: "xattrs" | "devices" | "fifos", path: ByteString): void {
    this.omitted[what] += 1;
    if (this.omitted.samples.length < maxSamples) this.omitted.samples.push(`${what}: ${printable(path)}`);
  }
}

/**
 * Node turns negative times into the present; the epoch is the nearest that can be said. It takes doubles, a quarter of a
 * microsecond apart in our time, and some versions cut them to microseconds: without the addition one just below a
 * microsecond would lose a whole one.
 */
function timeOf(seconds: number): number {
  if (seconds <= 0 || Number.isInteger(seconds)) return Math.max(0, seconds);
  return seconds + 2.5e-7;
}
