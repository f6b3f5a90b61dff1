import { setTimeout as wait } from "node:timers/promises";
import type { AuditRecord, KbsAdmin } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { requireNumber } from "../images.ts";
import { withAdmin, type KbsOptions } from "../kbs-connection.ts";
import type { Shell } from "../shell.ts";
import { counted, printable } from "../table.ts";

export const auditVerify: Action<KbsOptions> = async (shell, _args, options) => {
  const verdict = await withAdmin(shell, options, ({ audit }) => audit.verify({ signal: shell.signal }));
  const { records, checkpoints, break: broken } = verdict;
  await shell.result(
    broken === undefined
      ? `the audit chain is intact: ${counted(records, "record")}, ${counted(checkpoints, "checkpoint")}`
      : `the audit chain is broken at record ${broken.seq}: ${broken.message}`,
    verdict,
  );
  if (verdict.verdict === "broken") shell.exitWith("integrity");
};

const pageSize = 1000;
const followEveryMs = 1000;

export const auditTail: Action<KbsOptions & { readonly lines: number; readonly follow?: boolean }> = async (shell, _args, options) => {
  requireNumber("--lines", options.lines, 1);
  await withAdmin(shell, options, async ({ audit }) => {
    const { records } = await audit.read({ last: Math.min(options.lines, pageSize), signal: shell.signal });
    if (options.follow !== true) {
      await shell.result(records.map(line).join("\n"), { records });
      return;
    }
    await print(shell, records);
    for (let after = records.at(-1)?.seq ?? 0; !shell.signal.aborted;) {
      const page = await audit.read({ after, limit: pageSize, signal: shell.signal });
      await print(shell, page.records);
      after = page.records.at(-1)?.seq ?? after;
      await wait(followEveryMs, undefined, { signal: shell.signal }).catch(() => undefined);
    }
  });
};

export const auditExport: Action<KbsOptions & { readonly after?: number }> = async (shell, _args, options) => {
  requireNumber("--after", options.after, 0);
  await withAdmin(shell, options, async ({ audit }) => {
    for await (const records of pages(audit, options.after ?? 0, shell.signal)) await print({ ...shell, json: true }, records);
  });
};

async function* pages(audit: KbsAdmin["audit"], start: number, signal: AbortSignal): AsyncGenerator<readonly AuditRecord[]> {
  for (let after = start; ;) {
    const { records } = await audit.read({ after, limit: pageSize, signal });
    const last = records.at(-1);
    if (last === undefined) return;
    yield records;
    after = last.seq;
  }
}

async function print(shell: Shell, records: readonly AuditRecord[]): Promise<void> {
  for (const record of records) {
    const text = shell.json ? JSON.stringify(record) : line(record);
    await new Promise<void>((resolve, reject) => shell.stdout.write(`${text}\n`, (error) => (error ? reject(error) : resolve())));
  }
}

function line(record: AuditRecord): string {
  const { seq, time, action, resource, decision, reasons } = record;
  return printable(`${seq} ${time} ${decision} ${action} ${resource ?? ""} ${(reasons ?? []).join("; ")}`.trimEnd());
}
