import type { Command } from "commander";
import { withRegistry, withShared, type Launcher } from "../command.ts";

/** `login` and `logout`. */
export function registerLogin(program: Command, launcher: Launcher): void {
  withShared(withRegistry(program.command("login <registry>")))
    .description("check credentials at a registry and keep them where docker and podman find them")
    .option("-u, --username <name>", "user name")
    .option("--password-stdin", "read the password from stdin")
    .option("--password-file <file>", "read the password from this file")
    .option("--authfile <file>", "keep them in this file (environment: REGISTRY_AUTH_FILE)")
    .addHelpText(
      "after",
      "\nWithout a flag the password is asked for on the terminal; it is never taken from the command line.\n\nExamples:\n  ociseal login ghcr.io -u me --password-stdin < token",
    )
    .action(launcher.launch(async () => (await import("../actions/login.ts")).login));
  withShared(program.command("logout <registry>"))
    .description("forget the credentials of a registry, also in credential helpers")
    .option("--authfile <file>", "only in this file (environment: REGISTRY_AUTH_FILE)")
    .addHelpText("after", "\nExamples:\n  ociseal logout ghcr.io")
    .action(launcher.launch(async () => (await import("../actions/login.ts")).logout));
}
