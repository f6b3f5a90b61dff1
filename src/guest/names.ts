import { refuse } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";

const maxNameBytes = 255;
/** PATH_MAX less its NUL: what is deeper could not be removed by ordinary tools. */
export const maxPathBytes = 4095;

/**
 * The components of an entry's name or a hard link's target, relative to the root of the image.
 *
 * Leading slashes, `.` and empty components are dropped. `..` is refused rather than clamped: no honest tool writes it.
 * An empty list is the root itself. Throws `ERR_GUEST_ENTRY_REFUSED`.
 */
export function splitName(name: ByteString, entry: ByteString, maxDepth: number): ByteString[] {
  if (name === "") throw refuse("empty-name", entry, "its name is empty");
  if (name.length > maxPathBytes) throw refuse("path-too-long", entry, `a name of ${name.length} bytes`);
  if (name.includes("\0")) throw refuse("nul-in-name", entry, "a NUL in the name");
  const components: ByteString[] = [];
  for (const component of name.split("/")) {
    if (component === "" || component === ".") continue;
    if (component === "..") throw refuse("dot-dot", entry, "its path has a .. component");
    if (component.length > maxNameBytes) throw refuse("name-too-long", entry, `a component of ${component.length} bytes`);
    components.push(component);
  }
  if (components.length > maxDepth) throw refuse("too-deep", entry, `${components.length} components, more than ${maxDepth}`);
  return components;
}

/** What a name means besides itself. Source: OCI image-spec, layer.md, "Whiteouts"; AUFS for the skipped ones. */
export type NameMeaning =
  | { readonly kind: "plain" }
  | { readonly kind: "whiteout"; readonly target: ByteString }
  | { readonly kind: "opaque" }
  | { readonly kind: "aufs-metadata" };

const whiteout = ".wh.";
const opaque = ".wh..wh..opq";
const aufs = ".wh..wh.";

/** Tells whiteouts from plain names. Throws `ERR_GUEST_ENTRY_REFUSED` for markers that would name a directory itself or its parent. */
export function meaningOf(components: readonly ByteString[], entry: ByteString): NameMeaning {
  for (let i = 0; i < components.length - 1; i += 1) {
    const component = components[i] ?? "";
    // AUFS kept its hard links in a directory .wh..wh.plnk; docker, umoci and containerd leave out what is in it.
    if (component.startsWith(aufs)) return { kind: "aufs-metadata" };
    if (component.startsWith(whiteout)) throw refuse("whiteout-in-path", entry, "a whiteout marker as a directory");
  }
  const base = components.at(-1) ?? "";
  if (!base.startsWith(whiteout)) return { kind: "plain" };
  if (base === opaque) return { kind: "opaque" };
  if (base.startsWith(aufs)) return { kind: "aufs-metadata" };
  const target = base.slice(whiteout.length);
  // umoci 0.4.7 removed the parent of the root at ".wh...", containers/storage the directory itself at ".wh..".
  if (target === "" || target === "." || target === "..") throw refuse("whiteout-name", entry, "a whiteout of no file");
  return { kind: "whiteout", target };
}
