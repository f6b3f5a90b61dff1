import type { Command } from "commander";
import { commandPages } from "../command-reference.ts";
import { withShared, type Launcher } from "../command.ts";

/** `completion`. */
export function registerCompletion(program: Command, launcher: Launcher): void {
  withShared(program.command("completion <shell>"))
    .description("print the script that completes this command line in bash, zsh or fish")
    .addHelpText(
      "after",
      `
Examples:
  ociseal completion bash > ~/.local/share/bash-completion/completions/ociseal
  ociseal completion zsh > ~/.zsh/completions/_ociseal
  ociseal completion fish > ~/.config/fish/completions/ociseal.fish`,
    )
    .action(launcher.launch(async () => (await import("../actions/completion.ts")).completionOf(() => commandPages(program))));
}
