import type { Command } from "commander";
import { parseCount, withShared, type Launcher } from "../command.ts";
import { registerKbsKeys, registerKbsOperations, registerKbsPolicies, withAdmin } from "./kbs-administration.ts";
import { registerKbsSystem } from "./kbs-system.ts";

/** `kbs serve` and the administration of a service. */
export function registerKbs(program: Command, launcher: Launcher): void {
  const kbs = program.command("kbs").description("the Key Broker Service and its administration");
  withShared(kbs.command("serve"))
    .description("run the service until interrupted; prints one line of JSON when it is ready")
    .option("--listen <host:port>", "address to listen on (127.0.0.1:8080); port 0 chooses a free one")
    .option("--data <dir>", "folder that keeps everything")
    .option("--config <file>", "configuration file (TOML)")
    .option("--collateral <path>", "verify TDX, SGX and SNP evidence with this collateral")
    .option("--fetch-collateral", "verify TDX, SGX and SNP evidence with collateral from Intel and AMD")
    .option("--appraisal-policy <file>", "attestation policy that hardware evidence must satisfy")
    .option("--admin-token-out <file>", "write an administration token for one day: the first step of a new service")
    .option("--dev", "development: sample TEE allowed, admin token generated, loopback only")
    .addHelpText("after", "\nExamples:\n  ociseal kbs serve --dev --data ./kbs\n  ociseal kbs serve --config /etc/ociseal/kbs.toml")
    .action(launcher.launch(async () => (await import("../actions/kbs-serve.ts")).kbsServe));

  const resource = kbs.command("resource").description("resources: bytes that guests get after attestation");
  withAdmin(resource.command("put <uri> <file>"))
    .description("store a file under kbs:///REPOSITORY/TYPE/TAG")
    .option("--if-absent", "refuse when there is one already")
    .option("--dry-run", "only say what would be stored")
    .addHelpText("after", "\nExamples:\n  ociseal kbs resource put kbs:///default/key/app app.kek --admin-token token")
    .action(launcher.launch(async () => (await import("../actions/kbs-resource.ts")).resourcePut));
  withAdmin(resource.command("get <uri>"))
    .description("print a resource (as an administrator)")
    .addHelpText("after", "\nExamples:\n  ociseal kbs resource get kbs:///default/key/app --admin-token token > app.kek")
    .action(launcher.launch(async () => (await import("../actions/kbs-resource.ts")).resourceGet));
  withAdmin(resource.command("list"))
    .description("list resources, by name, without their content")
    .option("--prefix <path>", "only below REPOSITORY[/TYPE]")
    .option("--limit <n>", "at most so many", parseCount)
    .addHelpText("after", "\nExamples:\n  ociseal kbs resource list --prefix default --admin-token token")
    .action(launcher.launch(async () => (await import("../actions/kbs-resource.ts")).resourceList));
  withAdmin(resource.command("delete <uri>"))
    .description("delete a resource")
    .option("--dry-run", "only say what would be deleted")
    .addHelpText("after", "\nExamples:\n  ociseal kbs resource delete kbs:///default/key/app --admin-token token")
    .action(launcher.launch(async () => (await import("../actions/kbs-resource.ts")).resourceDelete));

  registerKbsKeys(kbs, launcher);
  registerKbsPolicies(kbs, launcher);
  registerKbsOperations(kbs, launcher);
  registerKbsSystem(kbs, launcher);
}
