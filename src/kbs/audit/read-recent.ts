import { open, type FileHandle } from "node:fs/promises";
import { auditFile, auditFileNumbers } from "./audit-log.ts";
import { parseRecordLine } from "./parse-line.ts";
import type { AuditRecord } from "./record.ts";

const blockBytes = 64 << 10;
const maxLineBytes = 1 << 20;
const newline = 0x0a;

/**
 * The records of a log from the newest to the oldest, read in blocks from the end, so that the last ones cost the same
 * however long the log is. Does not verify the chain. Throws `ERR_KBS_AUDIT_BROKEN` for a line that is no record.
 */
export async function* readRecent(directory: string): AsyncGenerator<AuditRecord> {
  for (const number of [...(await auditFileNumbers(directory))].reverse()) {
    const file = await openIfThere(auditFile(directory, number));
    // Retention took it meanwhile, and all older ones with it.
    if (file === undefined) return;
    try {
      for await (const line of linesBackward(file)) yield parseRecordLine(line);
    } finally {
      await file.close();
    }
  }
}

/** The lines that were there when reading began; what follows the last newline is a write under way. */
async function* linesBackward(file: FileHandle): AsyncGenerator<Buffer> {
  let end = (await file.stat()).size;
  let rest = Buffer.alloc(0);
  let complete: "unknown" | "yes" = "unknown";
  while (end > 0 && rest.length <= maxLineBytes) {
    const start = Math.max(0, end - blockBytes);
    const block = Buffer.alloc(end - start);
    const { bytesRead } = await file.read(block, 0, block.length, start);
    rest = Buffer.concat([block.subarray(0, bytesRead), rest]);
    end = start;
    for (let at = rest.lastIndexOf(newline); at >= 0; at = rest.lastIndexOf(newline)) {
      const line = rest.subarray(at + 1);
      rest = rest.subarray(0, at);
      if (complete === "yes") yield line;
      complete = "yes";
    }
  }
  if (complete === "yes" && rest.length > 0) yield rest;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw cause;
  }
}
