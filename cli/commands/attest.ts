import type { Command } from "commander";
import { collectValues, withShared, type Launcher } from "../command.ts";

function withEvidence(command: Command): Command {
  return withShared(command)
    .option("--tee <kind>", "auto, tdx, sgx or snp", "auto")
    .option("--collateral <path>", "Intel and AMD collateral: a bundle file, or a folder that holds one")
    .option("--vek <file>", "SNP: VCEK or VLEK certificate")
    .option("--ask <file>", "SNP: ASK or ASVK certificate")
    .option("--ark <file>", "SNP: ARK certificate")
    .option("--crl <file>", "SNP: revocation list")
    .option("--trust-root <file>", "replaces the built-in roots (repeatable)", collectValues)
    .option("--at <time>", "verify at this moment (RFC 3339); now unless told")
    .option("--report-data <hex>", "the report data that the evidence must bind")
    .option("--event-log <file>", "CCEL or TCG2 event log to replay");
}

/** `attest verify`, `attest evidence`, `attest policy`. */
export function registerAttest(program: Command, launcher: Launcher): void {
  const attest = program.command("attest").description("evidence of TEEs: collect it, verify it offline, appraise it");
  withEvidence(attest.command("verify [evidence]"))
    .description("verify a TDX or SGX quote or an SNP report, and appraise it against a policy")
    .option("--policy <file>", "policy to appraise with; the built-in default unless told")
    .option("--batch", "read one JSON object per line on stdin (flag names as members), answer one JSON object per line")
    .addHelpText(
      "after",
      "\nExamples:\n  ociseal attest verify quote.bin --collateral collateral.json\n  ociseal attest verify report.bin --tee snp --vek vcek.der --crl milan.crl --at 2025-11-05T17:21:41Z --json",
    )
    .action(launcher.launch(async () => (await import("../actions/attest-verify.ts")).attestVerify));

  withShared(attest.command("evidence"))
    .description("collect evidence about this guest")
    .option("--tee <kind>", "auto, tdx, snp or sample", "auto")
    .option("--report-data <hex>", "up to 64 bytes that the evidence shall bind")
    .option("--tsm-path <dir>", "configfs-tsm report folder")
    .option("--out <file>", "write it there instead of stdout")
    .addHelpText("after", "\nExamples:\n  ociseal attest evidence --report-data 00ff --out evidence.json")
    .action(launcher.launch(async () => (await import("../actions/attest-evidence.ts")).attestEvidence));

  const policy = attest.command("policy").description("attestation policies");
  withEvidence(policy.command("create"))
    .description("write a policy that known-good evidence satisfies")
    .requiredOption("--from <file>", "the evidence")
    .option("--name <name>", "name of the policy", "created from evidence")
    .addHelpText("after", "\nExamples:\n  ociseal attest policy create --from quote.bin --collateral collateral.json > policy.json")
    .action(launcher.launch(async () => (await import("../actions/attest-policy.ts")).attestPolicyCreate));
  withShared(policy.command("lint <file>"))
    .description("say what a policy leaves unchecked")
    .addHelpText("after", "\nExamples:\n  ociseal attest policy lint policy.json")
    .action(launcher.launch(async () => (await import("../actions/attest-policy.ts")).attestPolicyLint));
  withEvidence(policy.command("explain <evidence>"))
    .description("say in sentences why evidence is accepted or refused, and what would satisfy the policy")
    .option("--policy <file>", "policy to appraise with; the built-in default unless told")
    .addHelpText("after", "\nExamples:\n  ociseal attest policy explain quote.bin --policy policy.json --collateral collateral.json")
    .action(launcher.launch(async () => (await import("../actions/attest-policy.ts")).attestPolicyExplain));

  const collateral = attest.command("collateral").description("what verification needs besides the evidence");
  withShared(collateral.command("fetch <evidence>"))
    .description("fetch the collateral of one piece of evidence from Intel or AMD into a bundle")
    .requiredOption("--out <file>", "bundle to write")
    .option("--pccs <url>", "ask this PCCS instead of Intel's service")
    .option("--kds <url>", "ask this service instead of AMD's")
    .addHelpText("after", "\nExamples:\n  ociseal attest collateral fetch quote.bin --out bundle.json")
    .action(launcher.launch(async () => (await import("../actions/attest-collateral.ts")).collateralFetch));
  withShared(collateral.command("import <path...>"))
    .description("make one bundle of collateral in any known form")
    .requiredOption("--out <file>", "bundle to write")
    .addHelpText("after", "\nExamples:\n  ociseal attest collateral import collateral.json vceks/ --out bundle.json")
    .action(launcher.launch(async () => (await import("../actions/attest-collateral.ts")).collateralImport));
  withShared(collateral.command("show <path>"))
    .description("say what a bundle holds, and until when it is good")
    .addHelpText("after", "\nExamples:\n  ociseal attest collateral show bundle.json")
    .action(launcher.launch(async () => (await import("../actions/attest-collateral.ts")).collateralShow));
}
