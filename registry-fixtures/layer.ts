import { gzipSync, zstdCompressSync } from "node:zlib";
import { pack, type Header } from "tar-stream";
import { digestOf, type Digest } from "../src/bytes/index.ts";
import { mediaTypes } from "../src/oci/index.ts";

/** One member of a layer, in the order of the archive. Times are seconds since 1970, 0 unless told; owners 0 unless told. */
export type LayerEntry = EntryFacts &
  (
    | { readonly kind: "file"; readonly content: string | Uint8Array }
    | { readonly kind: "directory" }
    | { readonly kind: "symlink"; readonly target: string }
    /** `target`: the path of a member before it. */
    | { readonly kind: "hardlink"; readonly target: string }
    | { readonly kind: "fifo" }
    | { readonly kind: "device"; readonly type: "character" | "block"; readonly major: number; readonly minor: number }
    /** Removes what lower layers have at the path. Source: OCI image-spec, layer.md, "Whiteouts". */
    | { readonly kind: "whiteout" }
    /** Hides all that lower layers have in the directory at the path. */
    | { readonly kind: "opaque" }
  );

interface EntryFacts {
  readonly path: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  /** Extended attributes, as PAX records. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

/**
 * `gzip-stored` is gzip without compression: its bytes are the same with every zlib, so digests can stand in a test.
 * `gzip` and `zstd` are the same on one machine with one Node.js.
 */
export type Compression = "none" | "gzip" | "gzip-stored" | "zstd";

/** A layer in both forms. */
export interface FixtureLayer {
  readonly mediaType: string;
  /** The stored form. */
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly tar: Buffer;
}

const layerMediaTypes: Readonly<Record<Compression, string>> = {
  none: mediaTypes.layerTar,
  gzip: mediaTypes.layerTarGzip,
  "gzip-stored": mediaTypes.layerTarGzip,
  zstd: mediaTypes.layerTarZstd,
};

/** Packs a layer. The same entries give the same bytes. */
export async function makeLayer(entries: readonly LayerEntry[], compression: Compression = "gzip"): Promise<FixtureLayer> {
  const tar = await makeTar(entries);
  const bytes = compress(tar, compression);
  return { mediaType: layerMediaTypes[compression], bytes, digest: digestOf(bytes), diffId: digestOf(tar), tar };
}

/** The archive alone, uncompressed. */
export async function makeTar(entries: readonly LayerEntry[]): Promise<Buffer> {
  const archive = pack();
  const chunks: Buffer[] = [];
  const done = (async () => {
    for await (const chunk of archive) chunks.push(chunk as Buffer);
  })();
  for (const entry of entries) {
    const content = entry.kind === "file" ? Buffer.from(entry.content) : Buffer.alloc(0);
    archive.entry(headerOf(entry, content.length), content);
  }
  archive.finalize();
  await done;
  return Buffer.concat(chunks);
}

function compress(tar: Buffer, compression: Compression): Buffer {
  switch (compression) {
    case "none":
      return tar;
    case "gzip":
      return gzipSync(tar, { level: 6 });
    case "gzip-stored":
      return gzipSync(tar, { level: 0 });
    case "zstd":
      return zstdCompressSync(tar);
  }
}

function headerOf(entry: LayerEntry, size: number): Partial<Header> & { name: string } {
  const base = {
    name: entry.path,
    mode: entry.mode ?? (entry.kind === "directory" ? 0o755 : 0o644),
    uid: entry.uid ?? 0,
    gid: entry.gid ?? 0,
    mtime: new Date((entry.mtime ?? 0) * 1000),
    ...(entry.xattrs === undefined
      ? {}
      : { pax: Object.fromEntries(Object.entries(entry.xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value])) }),
  };
  switch (entry.kind) {
    case "file":
      return { ...base, type: "file", size };
    case "directory":
      return { ...base, name: entry.path.endsWith("/") ? entry.path : `${entry.path}/`, type: "directory" };
    case "symlink":
      return { ...base, mode: entry.mode ?? 0o777, type: "symlink", linkname: entry.target };
    case "hardlink":
      return { ...base, type: "link", linkname: entry.target };
    case "fifo":
      return { ...base, type: "fifo" };
    case "device":
      return { ...base, type: `${entry.type}-device`, devmajor: entry.major, devminor: entry.minor };
    case "whiteout": {
      const slash = entry.path.lastIndexOf("/") + 1;
      return { ...base, name: `${entry.path.slice(0, slash)}.wh.${entry.path.slice(slash)}`, type: "file", size: 0 };
    }
    case "opaque":
      return { ...base, name: `${entry.path}/.wh..wh..opq`, type: "file", size: 0 };
  }
}
