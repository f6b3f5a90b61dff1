import { AuditLog } from "../audit/audit-log.ts";
import { readRecent } from "../audit/read-recent.ts";
import type { AuditHead, AuditRecord } from "../audit/record.ts";
import { KbsError } from "../errors.ts";
import type { SealedRecords } from "../keys/sealed-records.ts";
import { isObject } from "../protocol/shape.ts";
import { signCompact } from "../tokens/jws.ts";
import type { Log } from "./observe.ts";
import type { SigningKeys } from "../tokens/signing-keys.ts";

export interface AuditOptions {
  readonly directory: string;
  readonly checkpointEvery?: number | undefined;
  readonly maxFileBytes?: number | undefined;
  /** 90 unless told. */
  readonly retentionDays?: number | undefined;
  /** Hears of each record that is on disk: for syslog, a collector; `log` is the log of the service. */
  readonly ship?: "log" | ((record: AuditRecord) => void) | undefined;
}

/** What the store keeps about a chain. */
export interface KeptHeads {
  /** The head of its last checkpoint. */
  readonly last: AuditHead;
  /** A head that the log did not reach any more when it was opened: for good, whatever is written behind the gap. */
  readonly missing: AuditHead | undefined;
}

/**
 * Opens the audit log of this replica: checkpoints are signed with the token key, and their heads kept, sealed, in the store.
 * A log that lost its last records while nobody ran goes on, says so in a record of its own, and never verifies again.
 */
export async function openAuditLog(
  options: AuditOptions,
  parts: { readonly records: SealedRecords; readonly tokenKeys: SigningKeys; readonly now: () => Date; readonly log: Log },
): Promise<AuditLog> {
  const { ship } = options;
  let missing: AuditHead | undefined;
  const keepHead = async (head: AuditHead): Promise<void> => {
    await parts.records.write(recordOf(head.chain), missing === undefined ? head : { ...head, missing }, { kind: "any" });
  };
  const log = await AuditLog.open({
    ...options,
    ship: ship === "log" ? (record) => parts.log({ event: "audit", record }) : ship,
    now: parts.now,
    sign: (head, time) =>
      signCompact(
        { typ: "ociseal-audit-checkpoint+jwt", kid: parts.tokenKeys.active.key.kid },
        { ...head, time: time.toISOString() },
        parts.tokenKeys.active.key,
      ),
    keepHead,
  });
  try {
    const kept = await keptHeads(parts.records, log.head.chain);
    missing = kept?.missing;
    if (kept === undefined || missing !== undefined || (await reaches(log, kept.last))) return log;
    missing = kept.last;
    const message = `the log ended at record ${log.head.seq}, or differed, before the checkpoint at ${missing.seq}`;
    parts.log({ event: "audit-tail-missing", message });
    await keepHead(missing);
    await log.append({
      action: "audit.tail-missing",
      decision: "error",
      actor: "service",
      requestId: "",
      address: "",
      reasons: [message],
    });
    return log;
  } catch (cause) {
    await log.close().catch(() => undefined);
    throw cause;
  }
}

/** Whether a log holds the record that a kept head is about; after an orderly end that is its last one. */
async function reaches(log: AuditLog, kept: AuditHead): Promise<boolean> {
  if (log.head.seq === kept.seq) return log.head.hash === kept.hash;
  try {
    for await (const { seq, hash } of readRecent(log.directory)) {
      if (seq <= kept.seq) return seq === kept.seq && hash === kept.hash;
    }
  } catch (cause) {
    // A line that is no record any more stands where the checkpoint should.
    if (!(cause instanceof KbsError)) throw cause;
  }
  return false;
}

/** The heads of a chain, as the store keeps them. */
export async function keptHeads(records: SealedRecords, chain: string): Promise<KeptHeads | undefined> {
  const document = await records.read(recordOf(chain));
  if (document === undefined) return undefined;
  const { value } = document;
  const last = isObject(value) ? headIn(chain, value) : undefined;
  const gone = isObject(value) ? value["missing"] : undefined;
  const missing = isObject(gone) ? headIn(chain, gone) : undefined;
  if (last === undefined || (gone !== undefined && missing === undefined)) {
    throw new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the kept head of the audit chain ${chain} is damaged` });
  }
  return { last, missing };
}

function headIn(chain: string, { seq, hash }: Readonly<Record<string, unknown>>): AuditHead | undefined {
  return typeof seq === "number" && typeof hash === "string" ? { chain, seq, hash } : undefined;
}

function recordOf(chain: string): string {
  return `system/audit-head-${chain}`;
}
