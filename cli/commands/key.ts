import type { Command } from "commander";
import { parseCount, withShared, type Launcher } from "../command.ts";

/** `key generate`, `key public`, `key import`. */
export function registerKey(program: Command, launcher: Launcher): void {
  const key = program.command("key").description("key pairs: cosign, recipients, attestation");
  withShared(key.command("generate <kind>"))
    .description("make a key: cosign, rsa, ec, ed25519 or kek; writes PREFIX.key and PREFIX.pub")
    .requiredOption("--out <prefix>", "where to write")
    .option("--bits <n>", "rsa: modulus length", parseCount)
    .option("--curve <name>", "P-256, P-384 or P-521, for ec")
    .addHelpText(
      "after",
      "\nThe password of a cosign key comes from COSIGN_PASSWORD or a prompt.\n\nExamples:\n  ociseal key generate cosign --out cosign\n  ociseal key generate ec --curve P-384 --out team",
    )
    .action(launcher.launch(async () => (await import("../actions/key-generate.ts")).keyGenerate));
  withShared(key.command("public <file>"))
    .description("print the public half of a private key")
    .addHelpText("after", "\nExamples:\n  ociseal key public team.key > team.pub")
    .action(launcher.launch(async () => (await import("../actions/key-public.ts")).keyPublic));
  withShared(key.command("import <file>"))
    .description("make a cosign key pair of an existing private key")
    .requiredOption("--out <prefix>", "where to write PREFIX.key and PREFIX.pub")
    .addHelpText("after", "\nExamples:\n  ociseal key import existing.pem --out cosign")
    .action(launcher.launch(async () => (await import("../actions/key-import.ts")).keyImport));
}
