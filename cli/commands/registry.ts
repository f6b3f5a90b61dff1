import type { Command } from "commander";
import { withShared, type Launcher } from "../command.ts";

/** `ociseal registry serve`. */
export function registerRegistry(program: Command, launcher: Launcher): void {
  const registry = program.command("registry").description("the embedded registry: development, tests, air-gapped hand-over");
  withShared(registry.command("serve"))
    .description("serve an OCI registry until interrupted; prints one line of JSON when it is ready")
    .option("--listen <host:port>", "address to listen on; port 0 chooses a free one", "127.0.0.1:5000")
    .option("--storage <dir>", "keep images in this folder instead of memory")
    .addHelpText(
      "after",
      `
Examples:
  ociseal registry serve
  ociseal registry serve --listen 127.0.0.1:0 --storage ./images`,
    )
    .action(launcher.launch(async () => (await import("../actions/registry-serve.ts")).registryServe));
}
