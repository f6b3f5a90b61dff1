import type { StoredRecord } from "./secret-store.ts";

const maxBytes = 32 << 20;
const maxRecordBytes = 64 << 10;
const maxAbsent = 1000;

/**
 * Records that were read or are read again and again, sealed as they are stored. For a store whose only writer is this
 * process: every write must be told, before it begins and when it has ended, whatever came of it.
 */
export class RecordCache {
  readonly #records = new Map<string, StoredRecord>();
  readonly #absent = new Set<string>();
  #size = 0;
  #changes = 0;

  get(key: string): StoredRecord | "absent" | undefined {
    const record = this.#records.get(key);
    if (record === undefined) return this.#absent.has(key) ? "absent" : undefined;
    // Taken out and put back, so that the map's order is that of use.
    this.#records.delete(key);
    this.#records.set(key, record);
    return record;
  }

  /** What {@link keep} must be given: a reading that began before a change may have seen what was there before it. */
  get changes(): number {
    return this.#changes;
  }

  changed(key: string): void {
    this.#changes += 1;
    this.#drop(key);
  }

  keep(key: string, record: StoredRecord | "absent", changesBefore: number): void {
    if (changesBefore !== this.#changes) return;
    this.#drop(key);
    if (record === "absent") {
      if (this.#absent.size >= maxAbsent) this.#absent.clear();
      this.#absent.add(key);
      return;
    }
    if (record.bytes.length > maxRecordBytes) return;
    this.#records.set(key, record);
    this.#size += record.bytes.length;
    for (const [oldest] of this.#records) {
      if (this.#size <= maxBytes) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    this.#absent.delete(key);
    const record = this.#records.get(key);
    if (record === undefined) return;
    this.#size -= record.bytes.length;
    this.#records.delete(key);
  }
}
