import { createHash, type Hash } from "node:crypto";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { decodeBase64, encodeBase64, parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "../protocol/shape.ts";
import { maxListPage, type SecretStore } from "../stores/secret-store.ts";

const format = "ociseal-kbs-backup/1";
const maxLineBytes = 8 << 20;

export interface BackupReport {
  readonly records: number;
  /** `sha256:` over all lines but the last. */
  readonly digest: string;
}

/**
 * A store as lines of JSON: a head, one line per record, and a last line with their number and digest.
 *
 * The records stay sealed: a backup without the root key is worth nothing, so keep that one elsewhere. It may be taken
 * while the service runs; each record is whole.
 */
export async function* backupStore(store: SecretStore, now: Date): AsyncGenerator<string> {
  const hash = createHash("sha256");
  let records = 0;
  const line = (value: unknown): string => {
    const text = `${JSON.stringify(value)}\n`;
    hash.update(text);
    return text;
  };
  yield line({ format, createdAt: now.toISOString(), store: store.name });
  let after: string | undefined;
  do {
    const page = await store.list({ prefix: "", limit: maxListPage, after });
    for (const key of page.keys) {
      const record = await store.read(key);
      // Removed since it was listed.
      if (record === undefined) continue;
      records += 1;
      yield line({ key, value: encodeBase64(record.bytes) });
    }
    after = page.next;
  } while (after !== undefined);
  yield `${JSON.stringify({ records, digest: `sha256:${hash.digest("hex")}` })}\n`;
}

/**
 * Fills an empty store from a backup, which is read twice: nothing is written before its digest matched. Throws
 * `ERR_KBS_CONFLICT` when the store is not empty, `ERR_KBS_RECORD_CORRUPT` when the backup is cut or changed.
 */
export async function restoreStore(store: SecretStore, open: () => Readable): Promise<BackupReport> {
  const existing = await store.list({ prefix: "", limit: 1 });
  if (existing.keys.length > 0)
    throw new KbsError("ERR_KBS_CONFLICT", { message: `the ${store.name} is not empty`, hint: "restore into a new store" });
  const report = await verifyBackup(open());
  for await (const entry of linesOf(open())) {
    if (entry.kind === "record") await store.write(entry.key, entry.value, { kind: "absent" });
  }
  return report;
}

/** Checks a backup without a store. Throws `ERR_KBS_RECORD_CORRUPT`. */
export async function verifyBackup(source: Readable): Promise<BackupReport> {
  let records = 0;
  let report: BackupReport | undefined;
  for await (const entry of linesOf(source)) {
    if (report !== undefined) throw damaged("goes on after its end");
    if (entry.kind === "record") records += 1;
    if (entry.kind === "end") {
      if (entry.records !== records || entry.digest !== entry.computed) throw damaged("does not match its digest");
      report = { records, digest: entry.digest };
    }
  }
  if (report === undefined) throw damaged("ends too early");
  return report;
}

type Entry =
  | { readonly kind: "head" }
  | { readonly kind: "record"; readonly key: string; readonly value: Buffer }
  | { readonly kind: "end"; readonly records: number; readonly digest: string; readonly computed: string };

async function* linesOf(source: Readable): AsyncGenerator<Entry> {
  const hash = createHash("sha256");
  let first = true;
  for await (const text of createInterface({ input: source, crlfDelay: Number.POSITIVE_INFINITY })) {
    const entry = parseLine(text, hash);
    if (first !== (entry.kind === "head")) throw damaged("does not begin with its head");
    first = false;
    if (entry.kind !== "end") hash.update(`${text}\n`);
    yield entry;
  }
}

function parseLine(text: string, hash: Hash): Entry {
  let value: unknown;
  try {
    value = parseJson(text, { maxBytes: maxLineBytes, maxDepth: 2, subject: "a line of the backup" });
  } catch (cause) {
    throw damaged("has a line that is not JSON", cause);
  }
  if (!isObject(value)) throw damaged("has a line that is not an object");
  if (value["format"] === format) return { kind: "head" };
  const { key, value: bytes, records, digest } = value;
  if (typeof key === "string" && typeof bytes === "string") return { kind: "record", key, value: decodeBase64(bytes, "a record") };
  if (typeof records === "number" && typeof digest === "string")
    return { kind: "end", records, digest, computed: `sha256:${hash.copy().digest("hex")}` };
  throw damaged("has a line of unknown form");
}

function damaged(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the backup ${what}`, cause });
}
