import { createReadStream } from "node:fs";
import { KbsError } from "../errors.ts";
import { auditFile, auditFileNumbers } from "./audit-log.ts";
import { parseRecordLine } from "./parse-line.ts";
import type { AuditRecord } from "./record.ts";

const maxLineBytes = 1 << 20;

/** Where a line stands. */
export interface LogPlace {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** The lines of a log, oldest first, without their newline. A last line without newline is given too. */
export async function* readLines(directory: string): AsyncGenerator<{ readonly bytes: Buffer; readonly place: LogPlace }> {
  for (const number of await auditFileNumbers(directory)) {
    const file = auditFile(directory, number);
    let rest = Buffer.alloc(0);
    let line = 0;
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      rest = Buffer.concat([rest, chunk]);
      for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
        line += 1;
        yield { bytes: rest.subarray(0, end), place: { file, line } };
        rest = rest.subarray(end + 1);
      }
      if (rest.length > maxLineBytes)
        throw new KbsError("ERR_KBS_AUDIT_BROKEN", { message: `a line of ${file} is longer than ${maxLineBytes} bytes` });
    }
    if (rest.length > 0) yield { bytes: rest, place: { file, line: line + 1 } };
  }
}

/** The records after a sequence number, oldest first, at most `limit`. Does not verify the chain. */
export async function readRecords(
  directory: string,
  request: { readonly after: number; readonly limit: number },
): Promise<readonly AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const { bytes } of readLines(directory)) {
    const record = parseRecordLine(bytes);
    if (record.seq > request.after) records.push(record);
    if (records.length === request.limit) break;
  }
  return records;
}
