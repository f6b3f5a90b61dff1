import type { Command } from "commander";
import { collectValues, withShared, type Launcher } from "../command.ts";

/** `ociseal registry serve`, `ociseal registry gc`. */
export function registerRegistry(program: Command, launcher: Launcher): void {
  const registry = program.command("registry").description("the embedded registry: development, tests, air-gapped hand-over");
  withShared(registry.command("serve"))
    .description("serve an OCI registry until interrupted; prints one line of JSON when it is ready")
    .option("--listen <host:port>", "address to listen on; port 0 chooses a free one", "127.0.0.1:5000")
    .option("--storage <dir>", "keep images in this folder instead of memory")
    .option("--tls-cert <file>", "serve TLS with this certificate and those between it and the root (PEM)")
    .option("--tls-key <file>", "key of the certificate (PEM)")
    .option("--tls-client-ca <file>", "only clients with a certificate of this authority (PEM)")
    .option("--htpasswd <file>", "users and passwords: bcrypt lines as htpasswd -B makes; read again when it changes")
    .option("--anonymous-pull", "with --htpasswd: everybody may pull")
    .option("--push-user <name>", "with --htpasswd: only these users push and delete (repeatable); every user unless told", collectValues)
    .option("--gc-every <time>", "remove unreferenced content now and then: 30m, 12h, 7d")
    .option("--gc-grace <time>", "with --gc-every: leave what was pushed or asked for within this time; longer than any push takes", "24h")
    .option("--gc-untagged", "with --gc-every: also manifests without a tag that no kept image needs")
    .addHelpText(
      "after",
      `
Without --htpasswd everybody who reaches the address may pull, push and delete.

Examples:
  ociseal registry serve
  ociseal registry serve --listen 127.0.0.1:0 --storage ./images
  htpasswd -Bc users alice
  ociseal registry serve --listen :5000 --storage /srv/images --tls-cert site.pem --tls-key site.key --htpasswd users --anonymous-pull`,
    )
    .action(launcher.launch(async () => (await import("../actions/registry-serve.ts")).registryServe));
  withShared(registry.command("gc"))
    .description("remove what no image needs any more from the storage folder of a registry that is not running")
    .requiredOption("--storage <dir>", "the folder that registry serve --storage was given")
    .option("--grace <time>", "leave what was pushed or asked for within this time: 0s, 30m, 24h, 7d", "24h")
    .option("--untagged", "also manifests without a tag that no kept image needs and that say nothing about one")
    .option("--dry-run", "say what would be removed; remove nothing")
    .addHelpText(
      "after",
      `
A running registry holds its folder; let it collect by itself with registry serve --gc-every.

Examples:
  ociseal registry gc --storage ./images --dry-run
  ociseal registry gc --storage ./images --untagged --grace 0s`,
    )
    .action(launcher.launch(async () => (await import("../actions/registry-gc.ts")).registryGc));
}
