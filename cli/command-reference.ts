import type { Command } from "commander";

/** One command with everything its help says, for man pages, completion and the reference. */
export interface CommandPage {
  /** `ociseal kbs resource put`. */
  readonly name: string;
  readonly usage: string;
  readonly description: string;
  readonly options: readonly { readonly flags: string; readonly description: string; readonly defaultValue: string | undefined }[];
  /** Whether it only groups others. */
  readonly kind: "command" | "group";
}

/** The command line as a list, depth first. */
export function commandPages(program: Command): readonly CommandPage[] {
  const pages: CommandPage[] = [];
  const visit = (command: Command, parents: readonly string[]): void => {
    const path = [...parents, command.name()];
    pages.push({
      name: path.join(" "),
      usage: `${path.join(" ")} ${command.usage()}`.trim(),
      description: command.description(),
      options: command.options
        .filter(({ hidden }) => !hidden)
        .map(({ flags, description, defaultValue }) => ({
          flags,
          description,
          defaultValue: typeof defaultValue === "string" || typeof defaultValue === "number" ? String(defaultValue) : undefined,
        })),
      kind: command.commands.length > 0 ? "group" : "command",
    });
    for (const child of command.commands) visit(child, path);
  };
  visit(program, []);
  return pages;
}
