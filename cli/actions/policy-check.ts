import { checkPolicy, parseRegistriesD } from "../../src/signing/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile } from "../files.ts";
import { readRegistriesD } from "../signing-settings.ts";
import { formatTable } from "../table.ts";

export const policyCheck: Action<{ readonly registriesD?: string }> = async (shell, [file = ""], { registriesD }) => {
  const check = checkPolicy({
    bytes: await readSmallFile(file, "policy"),
    source: file,
    ...(registriesD === undefined ? {} : { registriesD: await parseRegistriesD(await readRegistriesD(registriesD)) }),
  });
  const verdicts = Object.entries(check.verdicts).map(([reader, verdict]) => [reader, verdict]);
  const remarks = check.remarks.map(({ reader, effect, where, message }) => `${reader} ${effect} ${where}: ${message}`);
  await shell.result([formatTable(["READER", "VERDICT"], verdicts, shell.stdout.columns), ...remarks].join("\n"), check);
  if (check.verdicts.ociseal === "invalid") shell.exitWith("integrity");
};
