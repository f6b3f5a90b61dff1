import type { Command } from "commander";
import { collectValues, withShared, type Launcher } from "../command.ts";

/** `doctor`. Topics that are commands of their own are registered below it by their owners. */
export function registerDoctor(program: Command, launcher: Launcher): void {
  withShared(program.command("doctor"))
    // What follows a subcommand is the subcommand's.
    .enablePositionalOptions()
    .argument("[topic]", "only this: runtime, credentials, registry, kbs, keyprovider, guest or crio")
    .description("say what is missing or misconfigured, with the fix; exit code 0 unless something fails")
    .option("--kbs <url>", "Key Broker Service to ask (environment: OCISEAL_KBS_URL)")
    .option("--registry <host>", "registry to ask: HOST[/REPOSITORY]")
    .option("--plain-http <host>", "ask this registry in plain HTTP (repeatable); loopback needs no flag", collectValues)
    .option("--tls-ca <file>", "trust these certificate authorities too (PEM)")
    .option("--creds-file <file>", "registry credentials to look at instead of the usual files")
    .option("--tsm-path <dir>", "configfs-tsm report folder")
    .addHelpText(
      "after",
      `
Examples:
  ociseal doctor
  ociseal doctor --kbs https://kbs.example:8080 --registry ghcr.io/org/app
  ociseal doctor guest --json`,
    )
    .action(launcher.launch(async () => (await import("../actions/doctor.ts")).doctor));
}
