import { malformedTar, type EntryKind, type Extent, type TarEntry } from "./entry.ts";
import type { ByteString } from "./byte-string.ts";
import { blockSize, isZeroBlock, parseHeader, type TarHeader } from "./tar-header.ts";
import { checkGlobalPax, parsePax, type PaxHeader } from "./tar-pax.ts";
import { checkExtents, gnuSparsePairs, gnuSparseSize, paxSparse, SparseMapReader } from "./tar-sparse.ts";

/** Receives a tar stream's content, in order, synchronously. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** Bytes of the current entry's file at a position of the expanded file. Valid during the call only. */
  data(bytes: Buffer, position: number): void;
  entryEnd(): void;
}

export interface TarReaderLimits {
  /** Bytes of one PAX header, GNU long name or sparse map. */
  readonly maxPaxBytes: number;
}

const kinds: Readonly<Record<string, EntryKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "char-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
  S: "file",
};

/** The largest id that means an owner: 2^32-1 tells chown(2) to change nothing, so the file would stay root's. */
const maxId = 2 ** 32 - 2;
const maxOctalSize = 8 * 1024 ** 3;

type State =
  | { readonly kind: "header" }
  | { readonly kind: "meta"; readonly type: string; readonly body: Buffer; filled: number }
  | { readonly kind: "gnu-sparse"; readonly header: TarHeader; readonly size: number; readonly runs: number[] }
  | { readonly kind: "pax-sparse"; readonly header: TarHeader; readonly size: number; readonly map: SparseMapReader }
  | { readonly kind: "data" }
  | { readonly kind: "lone-zero" }
  | { readonly kind: "ended" };

/**
 * A strict reader of tar streams: POSIX ustar, PAX, GNU and V7.
 *
 * What two readers could understand in two ways is refused with `ERR_GUEST_TAR_MALFORMED`, never skipped (CVE-2025-62518).
 * After the end marker the content is not looked at any more. Works on chunks of any size without waiting; memory is
 * bounded by `maxPaxBytes`.
 */
export class TarReader {
  readonly #sink: TarSink;
  readonly #limits: TarReaderLimits;
  readonly #block = Buffer.alloc(blockSize);
  #blockFilled = 0;
  #state: State = { kind: "header" };
  #offset = 0;
  #remaining = 0;
  #padding = 0;
  #position = 0;
  #extents: readonly Extent[] | undefined;
  #extent = 0;
  #pax: PaxHeader | undefined;
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;

  constructor(sink: TarSink, limits: TarReaderLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state.kind === "ended") return;
      const before = at;
      if (this.#state.kind === "data") at = this.#takeData(chunk, at);
      else if (this.#state.kind === "meta" && this.#remaining > 0) at = this.#takeMeta(chunk, at);
      else if (this.#padding > 0) {
        const take = Math.min(this.#padding, chunk.length - at);
        this.#padding -= take;
        at += take;
      } else at = this.#takeBlock(chunk, at);
      this.#offset += at - before;
      this.#settle();
    }
  }

  /**
   * Call at the end of the stream. A stream may end behind an entry's last byte, without an end marker and without the
   * padding to a block, as Go's reader accepts and `umoci insert` writes; a cut layer does not match its digest.
   */
  end(): void {
    const { kind } = this.#state;
    if (kind === "ended" || kind === "lone-zero") return;
    if (kind !== "header" || this.#blockFilled > 0) {
      throw malformedTar("truncated", this.#offset, "the stream ends inside an entry");
    }
    this.#refuseMeta();
  }

  #takeBlock(chunk: Buffer, at: number): number {
    if (this.#blockFilled === 0 && chunk.length - at >= blockSize) {
      this.#onBlock(chunk, at);
      return at + blockSize;
    }
    const take = Math.min(blockSize - this.#blockFilled, chunk.length - at);
    chunk.copy(this.#block, this.#blockFilled, at, at + take);
    this.#blockFilled += take;
    if (this.#blockFilled === blockSize) {
      this.#blockFilled = 0;
      this.#onBlock(this.#block, 0);
    }
    return at + take;
  }

  #takeMeta(chunk: Buffer, at: number): number {
    const state = this.#state;
    if (state.kind !== "meta") return at;
    const take = Math.min(this.#remaining, chunk.length - at);
    chunk.copy(state.body, state.filled, at, at + take);
    state.filled += take;
    this.#remaining -= take;
    return at + take;
  }

  #takeData(chunk: Buffer, at: number): number {
    const extent = this.#extents?.[this.#extent];
    const left = extent === undefined ? this.#remaining : extent[1] - this.#position;
    const take = Math.min(left, chunk.length - at);
    this.#sink.data(chunk.subarray(at, at + take), (extent === undefined ? 0 : extent[0]) + this.#position);
    this.#position += take;
    this.#remaining -= take;
    if (extent !== undefined && this.#position === extent[1]) {
      this.#extent += 1;
      this.#position = 0;
    }
    return at + take;
  }

  /** Leaves a state whose bytes are all there. */
  #settle(): void {
    if (this.#remaining > 0) return;
    if (this.#state.kind === "data") {
      this.#sink.entryEnd();
      this.#state = { kind: "header" };
    } else if (this.#state.kind === "meta") {
      this.#onMeta(this.#state.type, this.#state.body);
      this.#state = { kind: "header" };
    }
  }

  #onBlock(buffer: Buffer, at: number): void {
    const state = this.#state;
    switch (state.kind) {
      case "header":
        if (isZeroBlock(buffer, at)) {
          this.#refuseMeta();
          this.#state = { kind: "lone-zero" };
        } else this.#onHeader(buffer, at);
        return;
      case "lone-zero":
        if (!isZeroBlock(buffer, at)) throw malformedTar("lone-zero-block", this.#offset, "a single zero block in the middle");
        this.#state = { kind: "ended" };
        return;
      case "gnu-sparse":
        this.#gnuSparse(state.header, state.size, state.runs, gnuSparsePairs(buffer, at, "extension", this.#offset));
        return;
      case "pax-sparse": {
        const runs = state.map.add(buffer, at);
        if (state.map.taken > state.header.size) throw malformedTar("sparse", this.#offset, "a sparse map longer than its entry");
        if (runs !== undefined) this.#emit(state.header, state.size, state.header.size - state.map.taken, runs);
        return;
      }
      case "meta":
      case "data":
      case "ended":
        throw malformedTar("truncated", this.#offset, "a block where none can be");
    }
  }

  #onHeader(buffer: Buffer, at: number): void {
    const header = parseHeader(buffer, at, this.#offset);
    switch (header.type) {
      case "x":
      case "g":
      case "L":
      case "K":
        this.#startMeta(header);
        return;
      case "S": {
        if (header.format !== "gnu" || this.#pax?.gnuSparse.size)
          throw malformedTar("sparse", this.#offset, "a GNU sparse entry that is not GNU's");
        const size = gnuSparseSize(buffer, at, this.#offset);
        this.#gnuSparse(header, size, [], gnuSparsePairs(buffer, at, "header", this.#offset));
        return;
      }
      default:
        this.#onEntryHeader(header);
    }
  }

  #startMeta(header: TarHeader): void {
    const { type, size } = header;
    if (size > this.#limits.maxPaxBytes) throw malformedTar("pax-size", this.#offset, `an extended header of ${size} bytes`);
    const twice = { x: this.#pax, L: this.#longName, K: this.#longLink }[type];
    if (twice !== undefined) throw malformedTar("meta-twice", this.#offset, `two extended headers of type ${type} for one entry`);
    this.#state = { kind: "meta", type, body: Buffer.allocUnsafe(size), filled: 0 };
    this.#remaining = size;
    this.#padding = paddingOf(size);
  }

  #onMeta(type: string, body: Buffer): void {
    if (type === "x") this.#pax = parsePax(body, this.#offset);
    else if (type === "g") checkGlobalPax(body, this.#offset);
    else {
      const text = body.toString("latin1");
      const end = text.indexOf("\0");
      const name = end < 0 ? text : text.slice(0, end);
      if (name === "" || !/^\0*$/.test(text.slice(name.length)))
        throw malformedTar("gnu-long-name", this.#offset, "a GNU long name with a NUL inside");
      if (type === "L") this.#longName = name;
      else this.#longLink = name;
    }
  }

  #gnuSparse(header: TarHeader, size: number, runs: number[], part: { runs: number[]; more: boolean }): void {
    for (const run of part.runs) runs.push(run);
    if (runs.length * 12 > this.#limits.maxPaxBytes) throw malformedTar("sparse", this.#offset, "a sparse map beyond the limit");
    if (part.more) this.#state = { kind: "gnu-sparse", header, size, runs };
    else this.#emit(header, size, header.size, runs);
  }

  #onEntryHeader(header: TarHeader): void {
    const { size: paxSize } = this.#pax ?? {};
    if (paxSize !== undefined && header.size !== 0 && header.size !== paxSize && paxSize < maxOctalSize) {
      throw malformedTar("pax-size", this.#offset, `the PAX header says ${paxSize} bytes, the header ${header.size}`);
    }
    const sized: TarHeader = paxSize === undefined ? header : { ...header, size: paxSize };
    const sparse = this.#pax === undefined ? undefined : paxSparse(this.#pax, this.#offset);
    if (sparse === undefined) this.#emit(sized, sized.size, sized.size, undefined);
    else if (sparse.kind === "in-header") this.#emit(sized, sparse.size, sized.size, sparse.runs);
    else {
      this.#state = {
        kind: "pax-sparse",
        header: sized,
        size: sparse.size,
        map: new SparseMapReader(this.#limits.maxPaxBytes, this.#offset),
      };
    }
  }

  /** The entry is known: hands it out and prepares for its data. `stored` is what follows in the stream. */
  #emit(header: TarHeader, size: number, stored: number, runs: readonly number[] | undefined): void {
    const path = this.#choose("path", this.#longName, this.#pax?.gnuSparse.get("name") ?? this.#pax?.path) ?? header.name;
    const linkTarget = this.#choose("linkpath", this.#longLink, this.#pax?.linkpath) ?? header.linkName;
    const kind = this.#kindOf(header, path);
    if (kind !== "file" && (header.size !== 0 || runs !== undefined)) {
      throw malformedTar("size-of-header-only", this.#offset, `a ${kind} with ${header.size} bytes of data`, path);
    }
    const isDevice = kind === "char-device" || kind === "block-device";
    const mtime = this.#number("mtime", this.#pax?.mtime ?? header.mtime, path);
    this.#extents = runs === undefined ? undefined : checkExtents(runs, size, stored, this.#offset);
    this.#sink.entry({
      kind,
      path,
      linkTarget: kind === "symlink" || kind === "hardlink" ? linkTarget : "",
      size: kind === "file" ? size : 0,
      mode: header.mode,
      uid: this.#id("uid", this.#pax?.uid ?? header.uid, path),
      gid: this.#id("gid", this.#pax?.gid ?? header.gid, path),
      mtime,
      atime: this.#pax?.atime ?? mtime,
      devMajor: isDevice ? this.#number("device number", header.devMajor, path) : 0,
      devMinor: isDevice ? this.#number("device number", header.devMinor, path) : 0,
      xattrs: this.#pax === undefined || this.#pax.xattrs.size === 0 ? undefined : this.#pax.xattrs,
      sparse: this.#extents,
    });
    this.#pax = this.#longName = this.#longLink = undefined;
    this.#extent = 0;
    this.#position = 0;
    this.#remaining = stored;
    this.#padding = paddingOf(stored);
    this.#state = { kind: "data" };
  }

  #kindOf(header: TarHeader, path: ByteString): EntryKind {
    const kind = Object.hasOwn(kinds, header.type) ? kinds[header.type] : undefined;
    if (kind === undefined) throw malformedTar("type", this.#offset, `entry type ${JSON.stringify(header.type)} is not supported`, path);
    if (kind !== "file" || !path.endsWith("/")) return kind;
    // V7 marks directories by a slash. With type 0 Go sees a file and GNU tar a directory.
    if (header.type === "\0") return "directory";
    throw malformedTar("trailing-slash", this.#offset, "a file whose name ends in a slash", path);
  }

  #choose(what: string, gnu: ByteString | undefined, pax: ByteString | undefined): ByteString | undefined {
    if (gnu !== undefined && pax !== undefined)
      throw malformedTar("pax-conflict", this.#offset, `${what} from a GNU and a PAX header at once`);
    return gnu ?? pax;
  }

  #id(what: string, value: number | undefined, path: ByteString): number {
    const id = this.#number(what, value, path);
    if (id < 0 || id > maxId) throw malformedTar("id-range", this.#offset, `${what} ${id} is not between 0 and ${maxId}`, path);
    return id;
  }

  #number(what: string, value: number | undefined, path: ByteString): number {
    if (value === undefined) throw malformedTar("number", this.#offset, `the ${what} is not a number`, path);
    return value;
  }

  #refuseMeta(): void {
    if (this.#pax ?? this.#longName ?? this.#longLink)
      throw malformedTar("meta-without-entry", this.#offset, "an extended header without its entry");
  }
}

function paddingOf(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}
