/** What must hold for a write to happen. */
export type WriteCondition =
  | { readonly kind: "any" }
  | { readonly kind: "absent" }
  /** The record is still the one that was read. */
  | { readonly kind: "revision"; readonly revision: string };

export interface StoredRecord {
  readonly bytes: Buffer;
  /** Opaque; changes with every write of other bytes. */
  readonly revision: string;
}

export interface RecordPage {
  /** Sorted by code units. */
  readonly keys: readonly string[];
  /** Where the next page starts (`after`); `undefined` on the last one. */
  readonly next: string | undefined;
}

export interface ListRequest {
  /** Whole leading segments: `resource/default`. */
  readonly prefix: string;
  readonly after?: string | undefined;
  /** At most 1000. */
  readonly limit: number;
}

/**
 * Where a Key Broker Service keeps its records. Every value is sealed before it comes here.
 *
 * A key is segments of letters, digits, `_ - .` (no leading dot) joined by `/`; the first one is the namespace. A value
 * has at most 4 MiB. A write that returned is durable: it survives the death of the process at any later moment. Of two
 * writers with the same condition, exactly one wins.
 *
 * Throws `ERR_KBS_STORE_UNAVAILABLE` when the storage does not answer, `ERR_KBS_STORE_READ_ONLY`,
 * `ERR_KBS_STORE_FAILED`. Whoever opened it closes it.
 */
export interface SecretStore {
  /** What to call it in messages and logs; no credentials. */
  readonly name: string;
  /** The record, or `undefined`. */
  read(key: string): Promise<StoredRecord | undefined>;
  /** The new revision, or `"conflict"` when the condition does not hold; then nothing was written. */
  write(key: string, bytes: Uint8Array, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict">;
  remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict">;
  list(request: ListRequest): Promise<RecordPage>;
  /** Returns when the storage answers; throws otherwise. */
  probe(): Promise<void>;
  close(): Promise<void>;
}

/** The most keys that one page of any store holds. */
export const maxListPage = 1000;
