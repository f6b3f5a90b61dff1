import { randomBytes } from "node:crypto";
import { fdatasync, writeSync } from "node:fs";
import { mkdir, open, readdir, readFile, rm, stat, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { lockDirectory } from "../stores/directory-lock.ts";
import { parseRecordLine } from "./parse-line.ts";
import { firstPrev, sealedRecord, type AuditEntry, type AuditHead, type AuditRecord } from "./record.ts";

export interface AuditLogOptions {
  readonly directory: string;
  /** Signs a statement about a chain's head: a compact JWS. */
  readonly sign: (head: AuditHead, time: Date) => string;
  /** Keeps the head of each checkpoint elsewhere, so that a cut tail is found. */
  readonly keepHead: (head: AuditHead) => Promise<void>;
  readonly now: () => Date;
  /** Records between checkpoints; 1000 unless told. */
  readonly checkpointEvery?: number | undefined;
  /** A file is closed at this size; 64 MiB unless told. */
  readonly maxFileBytes?: number | undefined;
  /** Files whose last record is older are removed; 90 days unless told. */
  readonly retentionDays?: number | undefined;
  /** Hears of each record that is on disk, for shipping it elsewhere. */
  readonly ship?: ((record: AuditRecord) => void) | undefined;
}

interface Waiting {
  readonly entry: AuditEntry;
  readonly done: () => void;
  readonly failed: (cause: unknown) => void;
}

const defaultCheckpointEvery = 1000;
const defaultMaxFileBytes = 64 << 20;
const defaultRetentionDays = 90;
const flushed = promisify(fdatasync);
const nextTurn = promisify(setImmediate);
const fileGrammar = /^audit-(\d{10})\.jsonl$/;

/**
 * The audit log of one service process: JSON lines, each with the hash of the one before.
 *
 * `append` returns when the record is flushed to the disk; records that come meanwhile share the next flush. After a
 * write failure every append fails until one succeeds again: a service that cannot write its audit must not answer.
 */
export class AuditLog {
  readonly #options: AuditLogOptions;
  #head: AuditHead;
  #file: FileHandle;
  #fileNumber: number;
  #fileSize: number;
  #sinceCheckpoint = 0;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  readonly #lock: { release(): void };

  private constructor(
    options: AuditLogOptions,
    lock: { release(): void },
    state: { head: AuditHead; file: FileHandle; fileNumber: number; fileSize: number },
  ) {
    this.#options = options;
    this.#lock = lock;
    this.#head = state.head;
    this.#file = state.file;
    this.#fileNumber = state.fileNumber;
    this.#fileSize = state.fileSize;
  }

  /**
   * Opens the folder and goes on with its chain. A torn last line (the process died in a write) was never acknowledged and is cut off.
   * Throws `ERR_KBS_STORE_LOCKED`: of two processes in one folder each would break the other's chain.
   */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    await failing(() => mkdir(options.directory, { recursive: true, mode: 0o700 }));
    const lock = await failing(() =>
      lockDirectory(join(options.directory, "lock"), {
        message: `the audit folder ${options.directory} is in use by another process`,
        hint: "stop the other server; each replica needs a folder of its own",
      }),
    );
    try {
      return await AuditLog.#openLocked(options, lock);
    } catch (cause) {
      lock.release();
      throw cause;
    }
  }

  static async #openLocked(options: AuditLogOptions, lock: { release(): void }): Promise<AuditLog> {
    return failing(async () => {
      const numbers = await auditFileNumbers(options.directory);
      const fileNumber = numbers.at(-1) ?? 1;
      const path = auditFile(options.directory, fileNumber);
      const head = (await headOfFile(path, numbers)) ??
        (await headBefore(options.directory, numbers)) ?? { chain: randomBytes(8).toString("hex"), seq: 0, hash: firstPrev };
      const file = await open(path, "a", 0o600);
      const folder = await open(options.directory, "r");
      await folder.sync();
      await folder.close();
      const { size } = await file.stat();
      return new AuditLog(options, lock, { head, file, fileNumber, fileSize: size });
    });
  }

  get head(): AuditHead {
    return this.#head;
  }

  get directory(): string {
    return this.#options.directory;
  }

  /** Writes a record. Throws `ERR_KBS_AUDIT_UNWRITABLE`. */
  append(entry: AuditEntry): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      this.#waiting.push({ entry, done: resolve, failed: reject });
    });
    this.#running ??= this.#drain();
    return written;
  }

  /** Writes a last checkpoint and closes the file. */
  async close(): Promise<void> {
    try {
      await this.#running;
      if (this.#head.seq > 0 && this.#sinceCheckpoint > 0) await this.#write([], "checkpoint");
      await this.#file.close();
    } finally {
      this.#lock.release();
    }
  }

  async #drain(): Promise<void> {
    // Whatever else arrived in this turn of the event loop goes into the same flush.
    await nextTurn();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      const due = this.#sinceCheckpoint + batch.length >= (this.#options.checkpointEvery ?? defaultCheckpointEvery);
      try {
        await this.#write(
          batch.map(({ entry }) => entry),
          due ? "checkpoint" : "no-checkpoint",
        );
        for (const { done } of batch) done();
      } catch (cause) {
        for (const { failed } of batch) failed(cause);
      }
    }
    this.#running = undefined;
  }

  async #write(entries: readonly AuditEntry[], then: "checkpoint" | "no-checkpoint" | "opening-checkpoint"): Promise<void> {
    const now = this.#options.now();
    const records: AuditRecord[] = [];
    let lines = "";
    let head = this.#head;
    const add = (entry: AuditEntry): void => {
      const { record, line } = chained(entry, head, now);
      records.push(record);
      lines += line;
      head = { chain: record.chain, seq: record.seq, hash: record.hash };
    };
    for (const entry of entries) add(entry);
    if (then !== "no-checkpoint") add(checkpointEntry(this.#options.sign(head, now)));
    await this.#flush(lines);
    this.#head = head;
    this.#sinceCheckpoint = then !== "no-checkpoint" ? 0 : this.#sinceCheckpoint + entries.length;
    if (then !== "no-checkpoint") await this.#options.keepHead(head);
    for (const record of records) this.#options.ship?.(record);
    // A file holds at least one record beside its opening checkpoint, however small the limit.
    const full = this.#fileSize >= (this.#options.maxFileBytes ?? defaultMaxFileBytes);
    if (full && then !== "opening-checkpoint") await this.#rotate(now);
  }

  async #flush(lines: string): Promise<void> {
    const bytes = Buffer.from(lines, "utf8");
    try {
      // A few records go into the kernel's memory in less time than a hand-over to another thread takes; the disk is waited for.
      for (let written = 0; written < bytes.length;) written += writeSync(this.#file.fd, bytes, written);
      await flushed(this.#file.fd);
      this.#fileSize += bytes.length;
    } catch (cause) {
      // Half a batch may be on the disk; the chain must go on where it was acknowledged.
      await this.#file.truncate(this.#fileSize).catch(() => undefined);
      throw unwritable(cause);
    }
  }

  async #rotate(now: Date): Promise<void> {
    await failing(async () => {
      const next = await open(auditFile(this.#options.directory, this.#fileNumber + 1), "ax", 0o600);
      await this.#file.close();
      this.#file = next;
      this.#fileNumber += 1;
      this.#fileSize = 0;
      const oldest = now.getTime() - (this.#options.retentionDays ?? defaultRetentionDays) * 24 * 3600 * 1000;
      for (const number of await auditFileNumbers(this.#options.directory)) {
        const path = auditFile(this.#options.directory, number);
        if (number < this.#fileNumber && (await stat(path)).mtimeMs < oldest) await rm(path);
      }
    });
    // Each file begins with a signed statement about the chain so far: it can be verified when older files are gone.
    await this.#write([], "opening-checkpoint");
  }
}

function chained(entry: AuditEntry, head: AuditHead, now: Date): { readonly record: AuditRecord; readonly line: string } {
  return sealedRecord({ chain: head.chain, seq: head.seq + 1, time: now.toISOString(), ...entry, prev: head.hash });
}

function checkpointEntry(checkpoint: string): AuditEntry {
  return { action: "audit.checkpoint", decision: "allow", actor: "service", requestId: "", address: "", checkpoint };
}

/** The path of a log file. */
export function auditFile(directory: string, number: number): string {
  return join(directory, `audit-${String(number).padStart(10, "0")}.jsonl`);
}

/** The numbers of the log files in a folder, ascending. */
export async function auditFileNumbers(directory: string): Promise<readonly number[]> {
  const names = await readdir(directory);
  return names
    .flatMap((name) => fileGrammar.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((left, right) => left - right);
}

/** The last record of a file, after cutting off a torn line. */
async function headOfFile(path: string, numbers: readonly number[]): Promise<AuditHead | undefined> {
  if (numbers.length === 0) return undefined;
  const bytes = await readFile(path);
  const end = bytes.lastIndexOf(0x0a) + 1;
  if (end < bytes.length) {
    const file = await open(path, "r+");
    await file.truncate(end);
    await file.sync();
    await file.close();
  }
  if (end === 0) return undefined;
  const start = bytes.lastIndexOf(0x0a, end - 2) + 1;
  const { chain, seq, hash } = parseRecordLine(bytes.subarray(start, end - 1));
  return { chain, seq, hash };
}

async function headBefore(directory: string, numbers: readonly number[]): Promise<AuditHead | undefined> {
  const former = numbers.at(-2);
  return former === undefined ? undefined : headOfFile(auditFile(directory, former), numbers);
}

function unwritable(cause: unknown): KbsError {
  return new KbsError("ERR_KBS_AUDIT_UNWRITABLE", {
    message: `the audit log cannot be written: ${describeCause(cause)}`,
    hint: "free space on the volume of the audit folder; until then this service answers nothing that must be recorded",
    cause,
  });
}

async function failing<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw cause instanceof KbsError ? cause : unwritable(cause);
  }
}
