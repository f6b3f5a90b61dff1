import type { Command } from "commander";
import type { Launcher } from "../command.ts";
import { withAdmin } from "./kbs-administration.ts";

/** `kbs system`: the keys of the service itself. */
export function registerKbsSystem(kbs: Command, launcher: Launcher): void {
  const system = kbs.command("system").description("the service itself: the keys that sign tokens and seal records");
  const load = async () => import("../actions/kbs-system.ts");
  const example = (text: string) => `\nExamples:\n  ${text}`;
  withAdmin(system.command("show"))
    .description("mode, store, signing and encryption keys, head of the audit log")
    .addHelpText("after", example("ociseal kbs system show --admin-token token"))
    .action(launcher.launch(async () => (await load()).systemShow));
  withAdmin(system.command("rotate-signing-key"))
    .description("sign tokens with a new key; what was signed before verifies until it expires")
    .option("--purpose <tokens>", "attestation or admin", "attestation")
    .option("--revoke-former", "refuse everything signed before, at once: a key may have leaked")
    .option("--admin-token-out <file>", "write a new token for yourself, when yours is revoked too")
    .option("--dry-run", "only say what would be done")
    .addHelpText(
      "after",
      example(
        "ociseal kbs system rotate-signing-key --admin-token token\n  ociseal kbs system rotate-signing-key --purpose admin --revoke-former --admin-token-out new-token --admin-token token",
      ),
    )
    .action(launcher.launch(async () => (await load()).rotateSigningKey));
  withAdmin(system.command("rotate-encryption-key"))
    .description("seal every record under a new key-encryption key")
    .option("--dry-run", "only say what would be done")
    .addHelpText("after", example("ociseal kbs system rotate-encryption-key --admin-token token"))
    .action(launcher.launch(async () => (await load()).rotateEncryptionKey));
  withAdmin(system.command("rotate-root-key"))
    .description("wrap the key-encryption keys under the first root key of the configuration; the others may go afterwards")
    .option("--dry-run", "only say what would be done")
    .addHelpText("after", example("ociseal kbs system rotate-root-key --admin-token token"))
    .action(launcher.launch(async () => (await load()).rotateRootKey));
  withAdmin(system.command("reseal"))
    .description("go on sealing records under the newest key, and forget keys under which nothing is sealed")
    .option("--dry-run", "only say what would be done")
    .addHelpText("after", example("ociseal kbs system reseal --admin-token token"))
    .action(launcher.launch(async () => (await load()).reseal));
}
