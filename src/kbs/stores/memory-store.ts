import { isBelow, pageOf } from "./record-key.ts";
import { assertRecordKey } from "./record-key.ts";
import type { SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";

/** A store that forgets: for tests and demonstrations. */
export function openMemoryStore(): SecretStore {
  const records = new Map<string, StoredRecord>();
  let revision = 0;
  const holds = (key: string, condition: WriteCondition): boolean => {
    switch (condition.kind) {
      case "any":
        return true;
      case "absent":
        return !records.has(key);
      case "revision":
        return records.get(key)?.revision === condition.revision;
    }
  };
  return {
    name: "memory",
    read: (key) => Promise.resolve(records.get(key)),
    write: (key, bytes, condition) => {
      assertRecordKey(key);
      if (!holds(key, condition)) return Promise.resolve("conflict");
      revision += 1;
      const record = { bytes: Buffer.from(bytes), revision: String(revision) };
      records.set(key, record);
      return Promise.resolve({ revision: record.revision });
    },
    remove: (key, condition) => {
      if (!records.has(key)) return Promise.resolve("absent");
      if (!holds(key, condition)) return Promise.resolve("conflict");
      records.delete(key);
      return Promise.resolve("removed");
    },
    list: ({ prefix, after, limit }) =>
      Promise.resolve(
        pageOf(
          [...records.keys()].filter((key) => isBelow(key, prefix)),
          after,
          limit,
        ),
      ),
    probe: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
