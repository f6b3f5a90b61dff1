import { KbsError } from "../errors.ts";
import { parseOwnJson } from "../protocol/own-json.ts";
import type { ListRequest, RecordPage, SecretStore, WriteCondition } from "../stores/secret-store.ts";
import type { Keyring } from "./keyring.ts";

/** A sealed JSON document, and what the next write must find. */
export interface SealedDocument {
  readonly value: unknown;
  readonly revision: string;
}

const maxAttempts = 20;
const maxOpened = 100;

/** JSON documents in a store, sealed for their place. Throws `ERR_KBS_RECORD_CORRUPT` and what the store throws. */
export class SealedRecords {
  readonly #store: SecretStore;
  readonly #keyring: Keyring;
  readonly #opened = new Map<string, { readonly sealed: Uint8Array; readonly value: unknown }>();

  constructor(store: SecretStore, keyring: Keyring) {
    this.#store = store;
    this.#keyring = keyring;
  }

  async read(key: string): Promise<SealedDocument | undefined> {
    const record = await this.#store.read(key);
    if (record === undefined) return undefined;
    const { revision } = record;
    // The very same sealed bytes in the same place hold the same document; policies are read for every request.
    const known = this.#opened.get(key);
    if (known !== undefined && Buffer.compare(known.sealed, record.bytes) === 0) return { value: known.value, revision };
    const value = parseOwnJson(await this.#keyring.open(record.bytes, key));
    if (this.#opened.size >= maxOpened) this.#opened.clear();
    this.#opened.set(key, { sealed: record.bytes, value });
    return { value, revision };
  }

  write(key: string, value: unknown, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict"> {
    return this.#store.write(key, this.#keyring.seal(Buffer.from(JSON.stringify(value), "utf8"), key), condition);
  }

  remove(key: string): Promise<"removed" | "absent" | "conflict"> {
    return this.#store.remove(key, { kind: "any" });
  }

  list(request: ListRequest): Promise<RecordPage> {
    return this.#store.list(request);
  }

  /** Changes a document under compare-and-set; `edit` may run several times. */
  async edit(key: string, edit: (value: unknown) => unknown): Promise<void> {
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const existing = await this.read(key);
      const condition: WriteCondition = existing === undefined ? { kind: "absent" } : { kind: "revision", revision: existing.revision };
      if ((await this.write(key, edit(existing?.value), condition)) !== "conflict") return;
    }
    throw new KbsError("ERR_KBS_STORE_CONFLICT", { message: `${key} is being changed by others; try again` });
  }

  /** Seals a document again under the active key-encryption key, unless it is. */
  async reseal(key: string): Promise<"resealed" | "current" | "absent"> {
    const record = await this.#store.read(key);
    if (record === undefined) return "absent";
    if (this.#keyring.isCurrent(record.bytes, key)) return "current";
    const sealed = this.#keyring.seal(await this.#keyring.open(record.bytes, key), key);
    const outcome = await this.#store.write(key, sealed, { kind: "revision", revision: record.revision });
    return outcome === "conflict" ? this.reseal(key) : "resealed";
  }
}
