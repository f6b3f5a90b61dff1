import type { Command, Option } from "commander";

export interface OptionPage {
  /** `-r, --recipient <recipient>`. */
  readonly flags: string;
  readonly description: string;
  readonly defaultValue: string | undefined;
  /** `-r` and `--recipient`; what a shell offers. */
  readonly names: readonly string[];
  /** `recipient`, the name of its value; `undefined` for a switch. */
  readonly value: string | undefined;
}

/** One command with everything its help says, for man pages, completion and the reference. */
export interface CommandPage {
  /** `ociseal kbs resource put`. */
  readonly name: string;
  readonly usage: string;
  readonly description: string;
  readonly options: readonly OptionPage[];
  /** Names of its arguments, in order. */
  readonly arguments: readonly string[];
  /** What its help says after the flags: examples, image names. Empty if nothing. */
  readonly epilogue: string;
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
      options: command.options.filter(({ hidden }) => !hidden).map(optionPage),
      arguments: command.registeredArguments.map((argument) => argument.name()),
      epilogue: epilogueOf(command),
      // A group with arguments does something by itself too.
      kind: command.commands.length > 0 && command.registeredArguments.length === 0 ? "group" : "command",
    });
    for (const child of command.commands) visit(child, path);
  };
  visit(program, []);
  return pages;
}

function optionPage({ flags, description, defaultValue, short, long }: Option): OptionPage {
  return {
    flags,
    description,
    defaultValue: typeof defaultValue === "string" || typeof defaultValue === "number" ? String(defaultValue) : undefined,
    names: [short, long].filter((name) => name !== undefined),
    value: /[<[]([^>\]]+)[>\]]/.exec(flags)?.[1],
  };
}

/** commander keeps the text after the help in listeners, so it is read from the help as printed. */
function epilogueOf(command: Command): string {
  const settings = command.configureOutput();
  let printed = "";
  command.configureOutput({ ...settings, writeOut: (text) => void (printed += text) });
  try {
    command.outputHelp();
  } finally {
    command.configureOutput(settings);
  }
  const help = command.helpInformation();
  return printed.startsWith(help) ? printed.slice(help.length).trim() : "";
}
