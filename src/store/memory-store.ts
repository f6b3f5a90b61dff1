import { collect, digestOf, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { BlobArea, IndexArea } from "./areas.ts";
import { bytesStream } from "./bytes-stream.ts";
import type { BlobSource, CallOptions, ContentStore, FetchOptions, IngestRequest } from "./content-store.ts";
import { checkSignal } from "./errors.ts";
import { IndexedStore } from "./indexed-store.ts";
import { ensureVerified } from "./verified-stream.ts";

/** A store in memory, for tests and small images. It grows with what is put into it. */
export function memoryStore(name = "memory:"): ContentStore {
  return new IndexedStore(name, new MemoryBlobs(), new MemoryIndex());
}

class MemoryBlobs implements BlobArea {
  readonly #blobs = new Map<Digest, Buffer>();

  async has(address: ContentAddress): Promise<boolean> {
    return this.#blobs.get(address.digest)?.length === address.size;
  }

  async sizeOf(digest: Digest): Promise<number | undefined> {
    return this.#blobs.get(digest)?.length;
  }

  async open(address: ContentAddress, { range }: FetchOptions): Promise<ByteStream | undefined> {
    const bytes = this.#blobs.get(address.digest);
    if (bytes === undefined) return undefined;
    return bytesStream(range === undefined ? bytes : bytes.subarray(range.start, range.end));
  }

  async put(address: ContentAddress, source: BlobSource, { signal }: CallOptions): Promise<"pushed" | "present"> {
    if (await this.has(address)) return "present";
    const stream = ensureVerified(await source(), address, `content ${address.digest}`);
    const bytes = await collect(stream, { maxBytes: address.size });
    checkSignal(signal);
    this.#blobs.set(address.digest, bytes);
    return "pushed";
  }

  async ingest(source: ByteStream, { signal }: IngestRequest): Promise<ContentAddress> {
    const bytes = await collect(source, { maxBytes: Number.MAX_SAFE_INTEGER });
    checkSignal(signal);
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  }

  async remove(digest: Digest): Promise<"removed" | "absent"> {
    return this.#blobs.delete(digest) ? "removed" : "absent";
  }

  localPath(): string | undefined {
    return undefined;
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}
}

class MemoryIndex implements IndexArea {
  #entries: readonly Descriptor[] = [];

  async read(): Promise<readonly Descriptor[]> {
    return this.#entries;
  }

  async update(change: (entries: readonly Descriptor[]) => readonly Descriptor[], _options: CallOptions): Promise<void> {
    this.#entries = change(this.#entries);
  }
}
