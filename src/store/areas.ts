import type { ByteStream, ContentAddress, Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { BlobSource, CallOptions, FetchOptions, IngestRequest } from "./content-store.ts";

/** Where a store keeps content: files, memory, a tar file. Content is only ever named by its digest. */
export interface BlobArea {
  /** Whether a blob of this digest and size is there; content of another size is not there. */
  has(address: ContentAddress): Promise<boolean>;
  /** The size of the blob of this digest, whatever it should be; `undefined` when it is not there. */
  sizeOf(digest: Digest): Promise<number | undefined>;
  /** The bytes, unverified; `undefined` when they are not there. */
  open(address: ContentAddress, options: FetchOptions): Promise<ByteStream | undefined>;
  /** Verifies, then makes visible. */
  put(target: Descriptor, source: BlobSource, options: CallOptions): Promise<"pushed" | "present">;
  ingest(source: ByteStream, request: IngestRequest): Promise<ContentAddress>;
  remove(digest: Digest): Promise<"removed" | "absent">;
  /** The blob's own file, where it has one. */
  localPath(address: ContentAddress): string | undefined;
  /** Everything that was put is safe from a power failure after this; called before an index names it. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** The list of manifests that a store names: a layout's index.json, or the same in memory. */
export interface IndexArea {
  read(): Promise<readonly Descriptor[]>;
  /** Replaces the list by what `change` makes of its newest state; nobody else changes it meanwhile. */
  update(change: (entries: readonly Descriptor[]) => readonly Descriptor[], options: CallOptions): Promise<void>;
}
