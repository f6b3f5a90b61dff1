import { GuestError } from "./errors.ts";
import { printable, type ByteString } from "./byte-string.ts";

export type EntryKind = "file" | "directory" | "symlink" | "hardlink" | "char-device" | "block-device" | "fifo";

/** One extent of data in a sparse file: `[offset, length]` in bytes of the expanded file. */
export type Extent = readonly [offset: number, length: number];

/** One entry of a tar stream with its PAX and GNU extensions applied; numbers are checked, names are not. */
export interface TarEntry {
  readonly kind: EntryKind;
  /** As it stands in the stream: may be absolute, may have `.`, `..`, empty components. */
  readonly path: ByteString;
  /** Of symlinks and hard links, else empty. */
  readonly linkTarget: ByteString;
  /** Logical size in bytes; of a sparse file the expanded one. */
  readonly size: number;
  /** The low twelve bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  readonly atime: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** PAX `SCHILY.xattr.NAME`: raw values. */
  readonly xattrs: ReadonlyMap<ByteString, Buffer> | undefined;
  /** Where the data of a sparse file goes, ascending and apart. */
  readonly sparse: readonly Extent[] | undefined;
}

/** Why an entry was refused; stands in `details.rule` of `ERR_GUEST_ENTRY_REFUSED`. */
export type EntryRule =
  | "dot-dot"
  | "empty-name"
  | "name-too-long"
  | "path-too-long"
  | "too-deep"
  | "nul-in-name"
  | "root-not-a-directory"
  | "parent-not-a-directory"
  | "too-many-links"
  | "whiteout-name"
  | "whiteout-in-path"
  | "link-target-missing"
  | "link-target-directory"
  | "link-target-invalid"
  | "link-to-itself"
  | "device-number"
  | "xattr-name"
  | "owner-not-mapped"
  | "not-a-file"
  | "file-too-large"
  | "raced";

export function refuse(rule: EntryRule, entry: ByteString, why: string, cause?: unknown): GuestError {
  return new GuestError("ERR_GUEST_ENTRY_REFUSED", {
    message: `entry ${printable(entry)} is refused: ${why}`,
    hint: "the layer was made to harm whoever unpacks it, or by a broken tool; do not use the image, tell its publisher",
    details: { entry: printable(entry), rule },
    cause,
  });
}

/** Why a tar stream was refused; stands in `details.rule` of `ERR_GUEST_TAR_MALFORMED`. */
export type TarRule =
  | "truncated"
  | "checksum"
  | "magic"
  | "number"
  | "type"
  | "size-of-header-only"
  | "lone-zero-block"
  | "trailing-slash"
  | "pax-syntax"
  | "pax-size"
  | "pax-duplicate"
  | "pax-value"
  | "pax-conflict"
  | "meta-without-entry"
  | "meta-twice"
  | "gnu-long-name"
  | "id-range"
  | "sparse";

export function malformedTar(rule: TarRule, offset: number, why: string, entry?: ByteString): GuestError {
  const where = entry === undefined ? `at byte ${offset}` : `at byte ${offset}, entry ${printable(entry)}`;
  return new GuestError("ERR_GUEST_TAR_MALFORMED", {
    message: `the tar stream is malformed ${where}: ${why}`,
    hint: "readers disagree about such streams, so none is trusted; build the image again with a current tool",
    details: { rule, offset, ...(entry === undefined ? {} : { entry: printable(entry) }) },
  });
}
