import type { Command } from "commander";
import { collectValues, parseCount, withShared, type Launcher } from "../command.ts";

/** Flags of commands that administer a KBS. */
export function withAdmin(command: Command): Command {
  return withShared(command)
    .option("--kbs <url>", "Key Broker Service (environment: OCISEAL_KBS_URL)")
    .option("--admin-token <file>", "file with the administration token")
    .option("--tls-ca <file>", "trust these certificate authorities too (PEM)")
    .option("--tls-client-cert <file>", "client certificate (PEM)")
    .option("--tls-client-key <file>", "key of the client certificate (PEM)")
    .option("--plain-http <host>", "allow plain HTTP to this host (repeatable); loopback needs no flag", collectValues);
}

function examples(text: string): string {
  return `\nExamples:\n${text}`;
}

/** `kbs key`. */
export function registerKbsKeys(kbs: Command, launcher: Launcher): void {
  const key = kbs.command("key").description("image keys: versions, states, rotation");
  const load = async () => import("../actions/kbs-key.ts");
  withAdmin(key.command("create <uri>"))
    .description("make a key of 32 random bytes at the service")
    .option("--rotation-days <n>", "warn when the newest version is older", parseCount)
    .option("--dry-run", "only say what would be done")
    .addHelpText("after", examples("  ociseal kbs key create kbs:///default/image-kek/app --admin-token token"))
    .action(launcher.launch(async () => (await load()).keyCreate));
  withAdmin(key.command("list"))
    .description("list keys with age and state")
    .option("--prefix <path>", "only below REPOSITORY[/TYPE]")
    .addHelpText("after", examples("  ociseal kbs key list --admin-token token"))
    .action(launcher.launch(async () => (await load()).keyList));
  withAdmin(key.command("show <uri>"))
    .description("describe a key; never its material")
    .addHelpText("after", examples("  ociseal kbs key show kbs:///default/image-kek/app --admin-token token"))
    .action(launcher.launch(async () => (await load()).keyShow));
  withAdmin(key.command("rotate <uri>"))
    .description("add a version; packets are wrapped under it from now on")
    .option("--dry-run", "only say what would be done")
    .addHelpText("after", examples("  ociseal kbs key rotate kbs:///default/image-kek/app --admin-token token"))
    .action(launcher.launch(async () => (await load()).keyRotate));
  for (const [name, description] of [
    ["disable", "stop handing a key out"],
    ["enable", "hand it out again"],
    ["destroy", "destroy a key for ever; images that need it are lost"],
  ] as const) {
    withAdmin(key.command(`${name} <uri>`))
      .description(description)
      .option("--key-version <n>", "only this version", parseCount)
      .option("--dry-run", "only say what would be done")
      .addHelpText("after", examples(`  ociseal kbs key ${name} kbs:///default/image-kek/app --admin-token token`))
      .action(launcher.launch(async () => (await load())[name]));
  }
  withAdmin(key.command("rewrap <uri> <packet>"))
    .description("re-wrap the packet of a layer annotation under the newest version; neither key leaves the service")
    .addHelpText("after", examples("  ociseal kbs key rewrap kbs:///default/image-kek/app packet.json --admin-token token > new.json"))
    .action(launcher.launch(async () => (await load()).keyRewrap));
}

/** `kbs policy`, with `attestation` and `reference` below it. */
export function registerKbsPolicies(kbs: Command, launcher: Launcher): void {
  const policy = kbs.command("policy").description("who may have which resource under which attested claims");
  const load = async () => import("../actions/kbs-policy.ts");
  withAdmin(policy.command("set <file>"))
    .description("upload a resource policy: JSON, Rego as Trustee's clients write it, or a bundle that OPA compiled to WebAssembly")
    .option("--id <id>", "its name; resource-policy is the one that Trustee knows", "resource-policy")
    .option("--resources <pattern>", "the resources it governs, for example default/app-key/*; all unless told")
    .option("--dry-run", "compile it here, and send nothing")
    .addHelpText("after", examples("  ociseal kbs policy set release.json --id app --resources 'default/app-key/*' --admin-token token"))
    .action(launcher.launch(async () => (await load()).policySet));
  withAdmin(policy.command("get [id]"))
    .description("print a policy")
    .addHelpText("after", examples("  ociseal kbs policy get app --admin-token token"))
    .action(launcher.launch(async () => (await load()).policyGet));
  withAdmin(policy.command("list"))
    .description("list policies and what they govern")
    .addHelpText("after", examples("  ociseal kbs policy list --admin-token token"))
    .action(launcher.launch(async () => (await load()).policyList));
  withAdmin(policy.command("delete <id>"))
    .description("delete a policy")
    .option("--dry-run", "only say what would be deleted")
    .addHelpText("after", examples("  ociseal kbs policy delete app --admin-token token"))
    .action(launcher.launch(async () => (await load()).policyDelete));
  withAdmin(policy.command("evaluate <uri>"))
    .description("say whether a guest would get a resource, and why; nothing is released")
    .option("--claims <file>", "claims of an attestation token (JSON)")
    .option("--token <file>", "an attestation token instead")
    .addHelpText("after", examples("  ociseal kbs policy evaluate kbs:///default/app-key/1 --claims claims.json --admin-token token"))
    .action(launcher.launch(async () => (await load()).policyEvaluate));

  const attestation = policy.command("attestation").description("how evidence is appraised");
  withAdmin(attestation.command("set <file>"))
    .description("upload an appraisal policy: Rego, or a bundle that OPA compiled to WebAssembly")
    .option("--id <id>", "default_cpu or default_gpu", "default_cpu")
    .option("--dry-run", "compile it here, and send nothing")
    .addHelpText("after", examples("  ociseal kbs policy attestation set appraisal.rego --admin-token token"))
    .action(launcher.launch(async () => (await load()).attestationSet));
  withAdmin(attestation.command("get [id]"))
    .description("print an appraisal policy")
    .addHelpText("after", examples("  ociseal kbs policy attestation get --admin-token token"))
    .action(launcher.launch(async () => (await load()).attestationGet));

  for (const reference of [policy.command("reference"), kbs.command("reference")]) {
    reference.description("reference values that evidence is compared with");
    withAdmin(reference.command("set <name> [values...]"))
      .description("register the values of a name")
      .option("--expires <time>", "forget them then (RFC 3339)")
      .option("--value <json>", "one JSON value instead of a list of texts, for example 4 or true")
      .option("--dry-run", "only say what would be done")
      .addHelpText("after", examples("  ociseal kbs reference set launch_digest abcd… --admin-token token"))
      .action(launcher.launch(async () => (await load()).referenceSet));
    withAdmin(reference.command("list"))
      .description("list reference values")
      .addHelpText("after", examples("  ociseal kbs reference list --admin-token token"))
      .action(launcher.launch(async () => (await load()).referenceList));
    withAdmin(reference.command("delete <name>"))
      .description("delete the values of a name")
      .option("--dry-run", "only say what would be deleted")
      .addHelpText("after", examples("  ociseal kbs reference delete launch_digest --admin-token token"))
      .action(launcher.launch(async () => (await load()).referenceDelete));
  }
}

/** `kbs audit`, `kbs token`, `kbs config`, `kbs backup`, `kbs restore`, `kbs import`. */
export function registerKbsOperations(kbs: Command, launcher: Launcher): void {
  const audit = kbs.command("audit").description("the audit log: every administration act, every release and refusal");
  const load = async () => import("../actions/kbs-audit.ts");
  withAdmin(audit.command("verify"))
    .description("verify the whole chain: a cut, an edit or a reorder is found")
    .addHelpText("after", examples("  ociseal kbs audit verify --admin-token token"))
    .action(launcher.launch(async () => (await load()).auditVerify));
  withAdmin(audit.command("tail"))
    .description("the newest records")
    .option("-n, --lines <n>", "how many", parseCount, 20)
    .option("-f, --follow", "go on as records are written")
    .addHelpText("after", examples("  ociseal kbs audit tail -n 50 --json --admin-token token"))
    .action(launcher.launch(async () => (await load()).auditTail));
  withAdmin(audit.command("export"))
    .description("all records, one JSON object per line")
    .option("--after <n>", "only records after this sequence number", parseCount)
    .addHelpText("after", examples("  ociseal kbs audit export --admin-token token > audit.jsonl"))
    .action(launcher.launch(async () => (await load()).auditExport));

  withAdmin(kbs.command("token"))
    .description("issue an administration token")
    .requiredOption("--subject <name>", "whose it is")
    .option("--role <role>", "role of the configuration", "admin")
    .option(
      "--grant <actions:paths>",
      "narrow rights, for example resource:create,resource:confirm:default/image-kek/** (repeatable)",
      collectValues,
    )
    .option("--lifetime <seconds>", "seconds until it expires", parseCount)
    .addHelpText(
      "after",
      examples(
        "  ociseal kbs token --subject ci --role ci --grant 'resource:create,resource:confirm:default/image-kek/**' --admin-token token",
      ),
    )
    .action(launcher.launch(async () => (await import("../actions/kbs-token.ts")).issueToken));

  const config = kbs.command("config").description("the configuration file");
  withShared(config.command("check <file>"))
    .description("say everything that is wrong with a configuration file")
    .addHelpText("after", examples("  ociseal kbs config check kbs.toml"))
    .action(launcher.launch(async () => (await import("../actions/kbs-config.ts")).configCheck));

  withAdmin(kbs.command("import <dir>"))
    .description("take resources, policies and reference values over from a Trustee data folder")
    .option("--dry-run", "only list what there is")
    .addHelpText("after", examples("  ociseal kbs import /opt/confidential-containers/storage --admin-token token"))
    .action(launcher.launch(async () => (await import("../actions/kbs-import.ts")).kbsImport));

  withShared(kbs.command("backup <file>"))
    .description("write everything that a store holds, encrypted as it is, to a file")
    .requiredOption("--config <file>", "configuration that names the store")
    .addHelpText("after", examples("  ociseal kbs backup kbs.backup --config kbs.toml"))
    .action(launcher.launch(async () => (await import("../actions/kbs-backup.ts")).backup));
  withShared(kbs.command("restore <file>"))
    .description("fill an empty store from a backup")
    .requiredOption("--config <file>", "configuration that names the store")
    .addHelpText("after", examples("  ociseal kbs restore kbs.backup --config kbs.toml"))
    .action(launcher.launch(async () => (await import("../actions/kbs-backup.ts")).restore));
}
