import { createHash, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readdir, readFile, rename, rm, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { lockDirectory } from "./directory-lock.ts";
import { KeyedMutex } from "./keyed-mutex.ts";
import { RecordCache } from "./record-cache.ts";
import { assertRecordKey, isBelow } from "./record-key.ts";
import type { ListRequest, RecordPage, SecretStore, StoredRecord, WriteCondition } from "./secret-store.ts";

/** Cannot occur in a key, so a record `a/b` and a folder `a/b` never collide. */
const recordSuffix = "~";

/**
 * Opens (and creates, mode 0700) a folder of records, one file each, for this process alone.
 *
 * A write goes to a temporary file, is flushed, and is moved into place with one rename (or link, when it must be new);
 * then the folder is flushed. Killed at any moment, the folder holds either the old or the new record, whole; left-over
 * temporary files are removed at the next start. Throws `ERR_KBS_STORE_LOCKED`, `ERR_KBS_STORE_FAILED`.
 */
export async function openDirectoryStore(path: string): Promise<SecretStore> {
  const records = join(path, "records");
  const staging = join(path, "staging");
  return failing(`open ${path}`, async () => {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    const lock = lockDirectory(join(path, "lock"), {
      message: `the store ${path} is in use by another process`,
      hint: "stop the other server, or use PostgreSQL, Vault or Kubernetes storage for several replicas",
    });
    try {
      await mkdir(records, { recursive: true, mode: 0o700 });
      await rm(staging, { recursive: true, force: true });
      await mkdir(staging, { mode: 0o700 });
      await syncDirectory(path);
    } catch (cause) {
      lock.release();
      throw cause;
    }
    return new DirectoryStore(path, records, staging, lock);
  });
}

class DirectoryStore implements SecretStore {
  readonly name: string;
  readonly #records: string;
  readonly #staging: string;
  readonly #lock: { release(): void };
  readonly #mutex = new KeyedMutex();
  readonly #folders = new Set<string>();
  readonly #cache = new RecordCache();
  #keys = new Set<string>();
  #loaded = false;
  #loading: Promise<void> | undefined;
  readonly #changed = new Map<string, "there" | "gone">();
  #sorted: readonly string[] | undefined;

  constructor(path: string, records: string, staging: string, lock: { release(): void }) {
    this.name = `directory ${path}`;
    this.#records = records;
    this.#staging = staging;
    this.#lock = lock;
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    assertRecordKey(key);
    const known = this.#cache.get(key);
    if (known !== undefined) return known === "absent" ? undefined : known;
    return failing(`read ${key}`, async () => {
      const { changes } = this.#cache;
      try {
        const bytes = await readFile(this.#fileOf(key));
        const record = { bytes, revision: revisionOf(bytes) };
        this.#cache.keep(key, record, changes);
        return record;
      } catch (cause) {
        if (!isAbsent(cause)) throw cause;
        this.#cache.keep(key, "absent", changes);
        return undefined;
      }
    });
  }

  async write(key: string, bytes: Uint8Array, condition: WriteCondition): Promise<{ readonly revision: string } | "conflict"> {
    assertRecordKey(key);
    return this.#changing(key, () =>
      failing(`write ${key}`, async () => {
        if (condition.kind === "revision" && (await this.read(key))?.revision !== condition.revision) return "conflict";
        const file = this.#fileOf(key);
        await this.#ensureFolder(dirname(file));
        const temporary = join(this.#staging, randomBytes(12).toString("hex"));
        try {
          await writeDurably(temporary, bytes);
          if (condition.kind !== "absent") await rename(temporary, file);
          else if ((await linkNew(temporary, file)) === "exists") return "conflict";
        } finally {
          await rm(temporary, { force: true });
        }
        this.#remember(key, "there");
        await syncDirectory(dirname(file));
        return { revision: revisionOf(bytes) };
      }),
    );
  }

  async remove(key: string, condition: WriteCondition): Promise<"removed" | "absent" | "conflict"> {
    assertRecordKey(key);
    return this.#changing(key, () =>
      failing(`remove ${key}`, async () => {
        const record = await this.read(key);
        if (record === undefined) return "absent";
        if (condition.kind === "absent" || (condition.kind === "revision" && record.revision !== condition.revision)) return "conflict";
        await unlink(this.#fileOf(key));
        this.#remember(key, "gone");
        await syncDirectory(dirname(this.#fileOf(key)));
        return "removed";
      }),
    );
  }

  async list({ prefix, after = "", limit }: ListRequest): Promise<RecordPage> {
    if (prefix !== "") assertRecordKey(prefix);
    return failing("list records", async () => {
      const sorted = await this.#sortedKeys();
      const keys: string[] = [];
      let next: string | undefined;
      for (
        let i = firstAfter(sorted, after >= prefix ? after : prefix, after >= prefix ? "exclusive" : "inclusive");
        i < sorted.length;
        i += 1
      ) {
        const key = sorted[i] ?? "";
        // "0" follows "/": what lies below the prefix ends before it.
        if (prefix !== "" && key >= `${prefix}0`) break;
        if (!isBelow(key, prefix)) continue;
        if (keys.length === limit) {
          next = keys.at(-1);
          break;
        }
        keys.push(key);
      }
      return { keys, next };
    });
  }

  async probe(): Promise<void> {
    await failing("probe", async () => {
      const temporary = join(this.#staging, `probe-${randomBytes(8).toString("hex")}`);
      await writeDurably(temporary, Buffer.of(1));
      await unlink(temporary);
    });
  }

  close(): Promise<void> {
    this.#lock.release();
    return Promise.resolve();
  }

  /** One change of a record at a time; what was read of it before is forgotten, whatever comes of it. */
  #changing<T>(key: string, change: () => Promise<T>): Promise<T> {
    return this.#mutex.run(key, async () => {
      this.#cache.changed(key);
      try {
        return await change();
      } finally {
        this.#cache.changed(key);
      }
    });
  }

  /**
   * All keys in order. Read from the folder once: the lock makes this process the only writer, so what it writes and
   * removes keeps them true, and a page of a hundred thousand keys costs no walk through a hundred thousand files.
   */
  async #sortedKeys(): Promise<readonly string[]> {
    this.#loading ??= this.#loadKeys();
    try {
      await this.#loading;
    } catch (cause) {
      this.#loading = undefined;
      throw cause;
    }
    this.#sorted ??= [...this.#keys].sort();
    return this.#sorted;
  }

  async #loadKeys(): Promise<void> {
    this.#changed.clear();
    const found = new Set<string>();
    await walk(this.#records, "", (key) => found.add(key));
    // What changed meanwhile may or may not have been seen: the last word counts.
    for (const [key, state] of this.#changed) {
      if (state === "there") found.add(key);
      else found.delete(key);
    }
    this.#keys = found;
    this.#loaded = true;
    this.#sorted = undefined;
  }

  #remember(key: string, state: "there" | "gone"): void {
    if (!this.#loaded) {
      if (this.#loading !== undefined) this.#changed.set(key, state);
      return;
    }
    const known = this.#keys.has(key);
    if (state === "there" && !known) this.#keys.add(key);
    else if (state === "gone" && known) this.#keys.delete(key);
    else return;
    this.#sorted = undefined;
  }

  #fileOf(key: string): string {
    return join(this.#records, key) + recordSuffix;
  }

  /** Creates a record's folder; each new folder's parent is flushed, or a power cut could lose the whole branch. */
  async #ensureFolder(folder: string): Promise<void> {
    if (this.#folders.has(folder)) return;
    if (folder !== this.#records) {
      await this.#ensureFolder(dirname(folder));
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await syncDirectory(dirname(folder));
    }
    this.#folders.add(folder);
  }
}

function revisionOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 32);
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function linkNew(existing: string, path: string): Promise<"linked" | "exists"> {
  try {
    await link(existing, path);
    return "linked";
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return "exists";
    throw cause;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function readdirOrEmpty(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch (cause) {
    if (isAbsent(cause)) return [];
    throw cause;
  }
}

async function walk(folder: string, key: string, visit: (key: string) => void): Promise<void> {
  for (const entry of await readdirOrEmpty(folder)) {
    const name = key === "" ? entry.name : `${key}/${entry.name}`;
    if (entry.isDirectory()) await walk(join(folder, entry.name), name, visit);
    else if (name.endsWith(recordSuffix)) visit(name.slice(0, -recordSuffix.length));
  }
}

/** Where keys begin that are greater than a bound, or equal to it. */
function firstAfter(sorted: readonly string[], bound: string, equal: "inclusive" | "exclusive"): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const key = sorted[middle] ?? "";
    if (key < bound || (equal === "exclusive" && key === bound)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isAbsent(cause: unknown): boolean {
  const code = (cause as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ENOTDIR";
}

async function failing<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof KbsError) throw cause;
    const full = ["ENOSPC", "EDQUOT", "EROFS"].includes(String((cause as NodeJS.ErrnoException).code));
    throw new KbsError(full ? "ERR_KBS_STORE_UNAVAILABLE" : "ERR_KBS_STORE_FAILED", {
      message: `the directory store could not ${what}: ${describeCause(cause)}`,
      hint: full ? "free space on the volume of the data directory; nothing was lost" : undefined,
      cause,
    });
  }
}
