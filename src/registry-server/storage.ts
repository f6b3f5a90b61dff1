import type { ByteStream, Chunks, Digest, DigestAlgorithm } from "../bytes/index.ts";
import type { Catalog } from "./catalog.ts";

/** Where the registry keeps content: memory, or one OCI layout per repository. */
export interface RegistryStorage {
  /** `undefined`: nothing was ever pushed there. */
  find(name: string): Promise<Repository | undefined>;
  create(name: string): Promise<Repository>;
  /** Names of all repositories, sorted. */
  names(): Promise<readonly string[]>;
  beginUpload(algorithm: DigestAlgorithm): Promise<PendingUpload>;
  close(): Promise<void>;
}

/** Content of one repository. Nothing is visible under a digest before it is whole and its digest verified. */
export interface Repository {
  readonly name: string;
  /** The catalog of now; changed through {@link change} alone. */
  readonly catalog: Catalog;
  /** Size of a blob in bytes, `undefined` when it is not there. */
  sizeOf(digest: Digest): Promise<number | undefined>;
  /** As {@link sizeOf}, for a client that will rely on the answer: it counts as a use, see {@link whenIdle}. */
  claim(digest: Digest): Promise<number | undefined>;
  /**
   * Runs an action on a blob that nobody pushed, mounted or claimed since a moment (milliseconds since 1970), and holds
   * up those who would meanwhile. `undefined`: not there, or in use.
   */
  whenIdle<Result>(digest: Digest, before: number, action: (size: number) => Promise<Result>): Promise<Result | undefined>;
  /** All content, manifests included. */
  blobs(): Promise<readonly Digest[]>;
  /** Bytes `[start, end)`; the caller ends the stream. */
  open(digest: Digest, start: number, end: number): Promise<ByteStream>;
  /**
   * Hands bytes `[start, end)` to a sink piece by piece. A piece is valid until the sink's promise is settled: its memory is
   * used again, so that a large blob leaves no garbage.
   */
  copyTo(digest: Digest, start: number, end: number, sink: PieceSink): Promise<void>;
  /** A manifest's exact bytes, checked against the digest. */
  readManifest(digest: Digest): Promise<Buffer>;
  writeManifest(digest: Digest, bytes: Buffer): Promise<void>;
  /** Takes over a blob of another repository of the same storage. */
  link(digest: Digest, from: Repository): Promise<"linked" | "absent">;
  /** Makes an upload whose digest was verified visible as a blob. */
  commit(upload: PendingUpload, digest: Digest): Promise<void>;
  remove(digest: Digest): Promise<"removed" | "absent">;
  /** Changes the catalog at once, before anything else can run, and is settled when the change is lasting. */
  change(edit: CatalogEdit): Promise<void>;
}

/** May be played again on a newer catalog, when somebody else changed the folder meanwhile. */
export type CatalogEdit = (catalog: Catalog) => void;

export type PieceSink = (piece: Uint8Array) => Promise<void>;

/** Bytes of a blob that is being pushed. One request uses it at a time. */
export interface PendingUpload {
  /** Bytes received so far. */
  readonly size: number;
  /**
   * Appends a body. When the body breaks, what came before stays; when it has another length than `expected`, or the
   * whole grows over `maxBytes`, nothing of it stays. Throws what the body throws, or a {@link SizeMismatch}.
   */
  append(body: Chunks, limits: { readonly expected?: number | undefined; readonly maxBytes: number }): Promise<void>;
  /** Digest of all bytes so far. Reads them again when the algorithm is not the one the upload began with. */
  digest(algorithm: DigestAlgorithm): Promise<Digest>;
  discard(): Promise<void>;
}

/** A body had another length than it said, or was too large. */
export class SizeMismatch extends Error {
  readonly reason: "length" | "too-large" | "storage-full";
  constructor(reason: "length" | "too-large" | "storage-full", message: string) {
    super(message);
    this.reason = reason;
  }
}
