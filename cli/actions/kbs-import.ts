import { importTrusteeData, readTrusteeData, type TrusteeItem } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { withAdmin, type KbsOptions } from "../kbs-connection.ts";
import { printable } from "../table.ts";

export const kbsImport: Action<KbsOptions & { readonly dryRun?: boolean }> = async (shell, [folder = ""], options) => {
  if (options.dryRun === true) {
    const found: string[] = [];
    for await (const item of readTrusteeData(folder)) found.push(describe(item));
    await shell.result(found.join("\n"), { found, dryRun: true });
    return;
  }
  const report = await withAdmin(shell, options, (admin) => importTrusteeData(folder, admin, (item) => shell.note(describe(item))));
  const skipped = report.skipped.map(({ name, reason }) => printable(`skipped ${name}: ${reason}`));
  await shell.result([`imported ${report.imported}; ${report.present} were there`, ...skipped].join("\n"), report);
};

/** What an item is, without its content. */
function describe(item: TrusteeItem): string {
  switch (item.kind) {
    case "resource":
      return printable(`resource kbs:///${item.path}`);
    case "release-policy":
    case "appraisal-policy":
      return printable(`${item.kind} ${item.id}`);
    case "reference-value":
      return printable(`reference value ${item.name}`);
    case "skipped":
      return printable(`cannot take ${item.name}: ${item.reason}`);
  }
}
