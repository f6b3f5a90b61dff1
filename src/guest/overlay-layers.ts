import { mkdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { InternalError } from "../errors/index.ts";
import { openRootfs, type Rootfs, type RootfsRequest } from "./apply-layer.ts";
import { printable, type ByteString } from "./byte-string.ts";
import { refuse, type TarEntry } from "./entry.ts";
import { keepOnly, MergedView, newDirectory, type MergedNode } from "./merged-view.ts";
import { meaningOf, splitName } from "./names.ts";
import { storing } from "./storage-error.ts";
import type { TarSink } from "./tar-reader.ts";
import { Tree } from "./tree.ts";

const copyBytes = 1024 * 1024;

/** A parent that no layer has an entry for. */
const implicitParent: TarEntry = {
  kind: "directory",
  path: "",
  linkTarget: "",
  size: 0,
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  atime: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
  sparse: undefined,
};

/**
 * Unpacks each layer into a folder of its own, to be stacked by overlayfs: whiteouts become 0:0 character devices, opaque
 * directories get overlayfs's attribute. Source: Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
 * directories".
 *
 * Paths are resolved in the merged view, and each layer's folder gets real directories on the way, with the attributes
 * that lower layers gave them. A hard link to a file of a lower layer copies that file up first, as the kernel would.
 */
export class OverlayLayers implements TarSink {
  readonly #request: RootfsRequest;
  readonly #view: MergedView;
  readonly #folder: string;
  #layer = -1;
  #rootfs: Rootfs | undefined;
  /** Names that this layer's whiteouts hide. */
  #hidden = new Set<ByteString>();
  /** Whether the current entry is handed on, so that its data is too. */
  #open = false;
  readonly omitted = { xattrs: 0, devices: 0, fifos: 0, samples: [] as string[] };

  /** `request.path` is a folder that exists; layers become its folders 0, 1, … lowest first. */
  constructor(request: RootfsRequest) {
    this.#request = request;
    this.#folder = request.path;
    this.#view = new MergedView(request.budget.limits.maxDepth);
  }

  startLayer(): void {
    this.#layer += 1;
    this.#hidden = new Set();
    const path = this.#pathOf(this.#layer);
    storing("layer folder", () => mkdirSync(path, { mode: 0o700 }));
    this.#rootfs = openRootfs({ ...this.#request, path });
    this.#rootfs.startLayer();
    // The root's attributes are the highest layer's that has an entry for it.
    if (this.#view.root.entry !== undefined) this.#handOn(this.#view.root.entry);
    this.#view.root.layer = this.#layer;
  }

  endLayer(): void {
    const rootfs = this.#current();
    rootfs.endLayer();
    storing("directories", () => rootfs.finish());
    for (const what of ["xattrs", "devices", "fifos"] as const) this.omitted[what] += rootfs.omitted[what];
    this.omitted.samples.push(...rootfs.omitted.samples.slice(0, Math.max(0, 20 - this.omitted.samples.length)));
    this.close();
  }

  close(): void {
    this.#rootfs?.close();
    this.#rootfs = undefined;
  }

  data(bytes: Buffer, position: number): void {
    if (this.#open) this.#current().data(bytes, position);
  }

  entryEnd(): void {
    if (this.#open) this.#current().entryEnd();
    this.#open = false;
  }

  entry(entry: TarEntry): void {
    const components = splitName(entry.path, entry.path, this.#request.budget.limits.maxDepth);
    const name = components.pop();
    if (name === undefined) {
      this.#view.root.entry = entry;
      this.#handOn(entry);
      return;
    }
    const meaning = meaningOf([...components, name], entry.path);
    switch (meaning.kind) {
      case "aufs-metadata":
        this.#request.budget.charge(0, entry.path);
        return;
      case "whiteout":
      case "opaque": {
        this.#request.budget.charge(0, entry.path);
        const parent = this.#view.resolve(components, entry.path);
        if (this.#view.find(parent)?.kind !== "directory") return;
        if (meaning.kind === "opaque") this.#hideBelow(parent, entry.path);
        else this.#hide(parent, meaning.target, entry.path);
        return;
      }
      case "plain":
        this.#add(entry, this.#view.resolve(components, entry.path), name);
    }
  }

  #add(entry: TarEntry, parent: readonly ByteString[], name: ByteString): void {
    const holder = this.#materialise(parent);
    const path = [...parent, name].join("/");
    const before = holder.children.get(name);
    const linked = entry.kind === "hardlink" ? this.#linkTarget(entry, path) : undefined;
    this.#handOn({ ...entry, path, linkTarget: linked === undefined ? entry.linkTarget : linked.path });
    if (entry.kind !== "directory") {
      const kind = (linked?.node.entry ?? entry).kind === "symlink" ? "symlink" : "other";
      holder.children.set(name, { kind, layer: this.#layer, entry: linked?.node.entry ?? entry, children: new Map() });
      return;
    }
    if (before?.kind === "directory") {
      before.entry = entry;
      before.layer = this.#layer;
      return;
    }
    holder.children.set(name, newDirectory(this.#layer, entry));
    // It starts empty, also where a lower layer has a directory behind what it replaces.
    if (this.#hidden.has(path) || before?.layer === this.#layer) this.#current().makeOpaque(path);
  }

  /** The target without symlinks on the way, in this layer's folder; copied up when it is a lower layer's. */
  #linkTarget(entry: TarEntry, own: ByteString): { readonly path: ByteString; readonly node: MergedNode } {
    const components = splitName(entry.linkTarget, entry.path, this.#request.budget.limits.maxDepth);
    const name = components.pop();
    const parent = name === undefined ? [] : this.#view.resolve(components, entry.path);
    const path = [...parent, name ?? ""].join("/");
    const node = name === undefined ? this.#view.root : this.#view.find([...parent, name]);
    if (node === undefined)
      throw refuse("link-target-missing", entry.path, `a hard link to ${printable(entry.linkTarget)}, which is not there`);
    if (node.kind === "directory")
      throw refuse("link-target-directory", entry.path, `a hard link to the directory ${printable(entry.linkTarget)}`);
    if (path === own) throw refuse("link-to-itself", entry.path, "a hard link to itself");
    if (node.layer !== this.#layer) this.#copyUp(node, parent, path, entry.path);
    return { path, node };
  }

  #copyUp(node: MergedNode, parent: readonly ByteString[], path: ByteString, entry: ByteString): void {
    this.#materialise(parent);
    const source = node.entry;
    if (source === undefined) throw refuse("link-target-missing", entry, "a hard link to what has no entry");
    this.#handOn({ ...source, path });
    if (source.kind === "file") this.#copyContent(node.layer, path, source);
    this.entryEnd();
    node.layer = this.#layer;
  }

  #copyContent(layer: number, path: ByteString, source: TarEntry): void {
    const lower = new Tree(
      this.#pathOf(layer),
      { created: () => undefined, removing: () => undefined },
      this.#request.budget.limits.maxDepth,
    );
    try {
      lower.withFile(path, (fd) => {
        const buffer = Buffer.allocUnsafe(copyBytes);
        for (let at = 0; at < source.size;) {
          const read = storing("copying up", () => readSync(fd, buffer, 0, buffer.length, at));
          if (read === 0) break;
          this.#current().data(buffer.subarray(0, read), at);
          at += read;
        }
      });
    } finally {
      lower.close();
    }
  }

  #hide(parent: readonly ByteString[], name: ByteString, entry: ByteString): void {
    const path = [...parent, name];
    const node = this.#view.find(path);
    if (node === undefined) return;
    this.#hidden.add(path.join("/"));
    if (node.layer === this.#layer) {
      if (node.kind === "directory") this.#hideBelow(path, entry);
      return;
    }
    const holder = this.#materialise(parent);
    holder.children.delete(name);
    this.#current().makeWhiteout(path.join("/"), entry);
  }

  #hideBelow(path: readonly ByteString[], entry: ByteString): void {
    if (path.length === 0) {
      // Overlayfs looks through the roots of all layers, whatever their attributes.
      for (const name of this.#view.root.children.keys()) this.#hide([], name, entry);
      return;
    }
    keepOnly(this.#layer, this.#materialise(path));
    this.#current().makeOpaque(path.join("/"));
  }

  /** Makes the directories of a path in this layer's folder, as the layers below show them. */
  #materialise(path: readonly ByteString[]): MergedNode {
    let node = this.#view.root;
    for (const [depth, component] of path.entries()) {
      let child = node.children.get(component);
      const known = child?.kind === "directory";
      if (child === undefined || !known) {
        child = newDirectory(-1, undefined);
        node.children.set(component, child);
      }
      if (child.layer !== this.#layer) {
        const here = path.slice(0, depth + 1).join("/");
        this.#handOn({ ...(child.entry ?? implicitParent), path: here, kind: "directory", size: 0 });
        this.#open = false;
        child.layer = this.#layer;
        if (this.#hidden.has(here)) this.#current().makeOpaque(here);
      }
      node = child;
    }
    return node;
  }

  #handOn(entry: TarEntry): void {
    this.#current().entry(entry);
    this.#open = true;
  }

  #current(): Rootfs {
    if (this.#rootfs === undefined) throw new InternalError({ message: "an entry came while no layer was open" });
    return this.#rootfs;
  }

  #pathOf(layer: number): string {
    return join(this.#folder, String(layer));
  }
}
