import type { ByteStream, ContentAddress, Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { BlobArea, IndexArea } from "./areas.ts";
import type { FetchOptions } from "./content-store.ts";
import { StoreError } from "./errors.ts";

type ReadingArea = Pick<BlobArea, "has" | "sizeOf" | "open" | "localPath" | "close">;

/** A place that can only be read; writing is `ERR_STORE_UNSUPPORTED`. */
export class ReadOnlyBlobs implements BlobArea {
  readonly #area: ReadingArea;
  readonly #storeName: string;

  constructor(area: ReadingArea, storeName: string) {
    this.#area = area;
    this.#storeName = storeName;
  }

  has(address: ContentAddress): Promise<boolean> {
    return this.#area.has(address);
  }

  sizeOf(digest: Digest): Promise<number | undefined> {
    return this.#area.sizeOf(digest);
  }

  open(address: ContentAddress, options: FetchOptions): Promise<ByteStream | undefined> {
    return this.#area.open(address, options);
  }

  localPath(address: ContentAddress): string | undefined {
    return this.#area.localPath(address);
  }

  async put(): Promise<never> {
    throw readOnlyError(this.#storeName);
  }

  async ingest(source: ByteStream): Promise<never> {
    source.destroy();
    throw readOnlyError(this.#storeName);
  }

  async remove(): Promise<never> {
    throw readOnlyError(this.#storeName);
  }

  async flush(): Promise<void> {}

  close(): Promise<void> {
    return this.#area.close();
  }
}

/** A list that can only be read. */
export class ReadOnlyIndex implements IndexArea {
  readonly #read: () => Promise<readonly Descriptor[]>;
  readonly #storeName: string;

  constructor(read: () => Promise<readonly Descriptor[]>, storeName: string) {
    this.#read = read;
    this.#storeName = storeName;
  }

  read(): Promise<readonly Descriptor[]> {
    return this.#read();
  }

  async update(): Promise<never> {
    throw readOnlyError(this.#storeName);
  }
}

export function readOnlyError(storeName: string): StoreError {
  return new StoreError("ERR_STORE_UNSUPPORTED", {
    message: `${storeName} was opened for reading and cannot be written`,
    hint: "this kind of image can be a source only, or it was named as the source",
  });
}
