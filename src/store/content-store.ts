import type { ByteStream, ContentAddress } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ReadOptions extends CallOptions {
  /** `afresh`: from the place that was written to, and not from what a client of it remembers, nor from a mirror of it. */
  readonly read?: "anyhow" | "afresh";
}

export interface FetchOptions extends ReadOptions {
  /** Bytes `[start, end)` of the stored form. A part cannot be checked against a digest: the caller must verify it some other way. */
  readonly range?: { readonly start: number; readonly end: number };
}

/** Opens the same bytes again at each call: an upload may need them more than once. The caller of `open` ends the stream. */
export type BlobSource = () => Promise<ByteStream>;

export type PushOutcome = "pushed" | "present" | "mounted";

export interface ReferrersFilter extends CallOptions {
  readonly artifactType?: string;
}

/**
 * The reading side of a registry repository, a layout, an archive or memory.
 *
 * A `reference` is a tag (registry), a ref name (layout) or a digest.
 */
export interface ContentReader {
  /** What to call this store in messages, as users write it: `docker://localhost:5000/app`, `oci:dir`. No credentials. */
  readonly name: string;
  /**
   * The descriptor of what a reference names, made from content that was read and hashed, never from a header.
   * Without a reference: the only image of a layout. Throws `ERR_STORE_NOT_FOUND`.
   */
  resolve(reference: string | undefined, options?: ReadOptions): Promise<Descriptor>;
  /**
   * The content. Size and digest are verified while streaming: the stream ends with an error instead of a normal end
   * when they are wrong. Manifests and blobs are told apart by media type. Throws `ERR_STORE_NOT_FOUND`.
   */
  fetch(target: Descriptor, options?: FetchOptions): Promise<ByteStream>;
  /** Whether the content is there; of a blob, without reading it. */
  exists(target: Descriptor, options?: CallOptions): Promise<boolean>;
  /** The manifests whose `subject` is the target. An empty list when there are none. */
  referrers(subject: Descriptor, filter?: ReferrersFilter): Promise<readonly Descriptor[]>;
  /** All tags or ref names, sorted. */
  tags(options?: CallOptions): Promise<readonly string[]>;
  /** The path of a blob's file where there is one, for readers that want to map or copy it; unverified. */
  localPath(target: Descriptor): string | undefined;
  close(): Promise<void>;
}

export interface IngestRequest extends CallOptions {
  /** Bytes that will come, where known; a registry upload of known length needs no chunking. */
  readonly size?: number;
  /** The address, once the source has ended, where its maker hashes it on the way (a cipher's thread): it is not hashed again. */
  readonly address?: (() => ContentAddress) | undefined;
}

/** The writing side. Nothing is visible under its final name before it is whole and verified. */
export interface ContentWriter {
  /**
   * Stores content whose digest is known, unless it is there. Size and digest are verified before it becomes visible.
   * A manifest with a `subject` becomes a referrer of it, on every kind of store.
   */
  push(target: Descriptor, source: BlobSource, options?: CallOptions): Promise<PushOutcome>;
  /** Stores a blob whose digest is not known before its last byte (an encrypted layer), and says what it was. */
  ingest(source: ByteStream, request?: IngestRequest): Promise<ContentAddress>;
  /**
   * Makes a name point at a manifest or index that is already there. With the target's own digest as the name it is
   * listed without one: a layout adds an entry to its index, a registry has nothing to do.
   */
  tag(target: Descriptor, reference: string, options?: CallOptions): Promise<void>;
  /** Removes a manifest and its names, or one name. `absent` when it was not there. */
  remove(target: Descriptor | string, options?: CallOptions): Promise<"removed" | "absent">;
}

/** What a store in a folder can do besides. */
export interface TakesBack {
  /**
   * After work that failed: removes what this store wrote since it was opened and no name keeps, and the folder too when
   * it made that and nothing else is in it. What somebody else uses by now stays. Throws `ERR_STORE_IO`.
   */
  takeBack(): Promise<void>;
}

export interface ContentStore extends ContentReader, ContentWriter {}
