import type { CommandPage } from "../command-reference.ts";
import type { Action } from "../command.ts";
import { completionScript, completionShells } from "../completion.ts";
import { usage } from "../errors.ts";

export function completionOf(pages: () => readonly CommandPage[]): Action<object> {
  return async (shell, [name = ""]) => {
    const wanted = completionShells.find((one) => one === name);
    if (wanted === undefined) throw usage(`completion is for ${completionShells.join(", ")}, not ${name}`);
    const script = completionScript(wanted, pages());
    await shell.result(script.trimEnd(), { shell: wanted, script });
  };
}
