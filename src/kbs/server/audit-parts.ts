import { AuditLog } from "../audit/audit-log.ts";
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

/** Opens the audit log of this replica: checkpoints are signed with the token key, and their heads kept, sealed, in the store. */
export function openAuditLog(
  options: AuditOptions,
  parts: { readonly records: SealedRecords; readonly tokenKeys: SigningKeys; readonly now: () => Date; readonly log: Log },
): Promise<AuditLog> {
  const { ship } = options;
  return AuditLog.open({
    ...options,
    ship: ship === "log" ? (record) => parts.log({ event: "audit", record }) : ship,
    now: parts.now,
    sign: (head, time) =>
      signCompact(
        { typ: "ociseal-audit-checkpoint+jwt", kid: parts.tokenKeys.active.key.kid },
        { ...head, time: time.toISOString() },
        parts.tokenKeys.active.key,
      ),
    keepHead: async (head) => {
      await parts.records.write(recordOf(head.chain), head, { kind: "any" });
    },
  });
}

/** The head of the last checkpoint of a chain, as the store keeps it. */
export async function keptHead(records: SealedRecords, chain: string): Promise<AuditHead | undefined> {
  const document = await records.read(recordOf(chain));
  if (document === undefined) return undefined;
  const { value } = document;
  if (!isObject(value) || typeof value["seq"] !== "number" || typeof value["hash"] !== "string") {
    throw new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the kept head of the audit chain ${chain} is damaged` });
  }
  return { chain, seq: value["seq"], hash: value["hash"] };
}

function recordOf(chain: string): string {
  return `system/audit-head-${chain}`;
}
