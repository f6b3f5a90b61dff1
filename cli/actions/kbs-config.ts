import { checkKbsConfig } from "../../src/kbs/index.ts";
import type { Action } from "../command.ts";
import { readSmallFile } from "../files.ts";

export const configCheck: Action<object> = async (shell, [file = ""]) => {
  const problems = checkKbsConfig((await readSmallFile(file, "configuration")).toString("utf8"));
  const lines = problems.map(({ path, message }) => `${path} ${message}`);
  await shell.result(lines.length === 0 ? `${file} is a valid configuration` : lines.join("\n"), {
    valid: problems.length === 0,
    problems,
  });
  if (problems.length > 0) shell.exitWith("usage");
};
