import type { Command } from "commander";
import { collectValues, withRegistry, withShared, type Launcher } from "../command.ts";

/** `sign`, `verify`, `policy`. */
export function registerSigning(program: Command, launcher: Launcher): void {
  withShared(withRegistry(program.command("sign <image>")))
    .description("sign an image so that cosign, skopeo and CoCo guests verify it")
    .option("--key <key>", "a cosign key file, or hashivault://, k8s://, pkcs11:, or a KMS URI")
    .option("--identity-token <file>", "keyless: an OpenID Connect token (also from GitHub and GitLab jobs)")
    .option("--format <format>", "both, legacy (.sig tag) or bundle (referrer)", "both")
    .option("-a, --annotation <key=value>", "sign this annotation too (repeatable)", collectValues)
    .option("--tlog <mode>", "upload or none; none with a key, upload without")
    .option("--no-recursive", "of an index, sign only itself and not its members")
    .option("--signature-repository <repository>", "keep signatures in this repository")
    .option("--signing-config <file>", "keyless: services of a private deployment")
    .option("--dry-run", "print what would be signed; write nothing")
    .addHelpText(
      "after",
      "\nExamples:\n  ociseal key generate cosign --out cosign\n  ociseal sign --key cosign.key localhost:5000/alpine:sealed",
    )
    .action(launcher.launch(async () => (await import("../actions/sign.ts")).sign));

  withShared(withRegistry(program.command("verify [image]")))
    .description("verify an image's signatures; lists every signature and why it counted or not")
    .option("--key <key>", "public key: PEM file or key URI")
    .option("--certificate-identity <identity>", "keyless: the exact identity in the certificate")
    .option("--certificate-identity-regexp <pattern>", "keyless: a pattern for the identity, matched whole")
    .option("--certificate-oidc-issuer <issuer>", "keyless: the exact issuer in the certificate")
    .option("--policy <file>", "a containers-policy.json to satisfy instead")
    .option("--trusted-root <file>", "trust material: certificate authorities and logs")
    .option("--tlog <mode>", "required, if-present or ignore; if-present with a key, required without")
    .option("-a, --annotation <key=value>", "the signature must carry this annotation (repeatable)", collectValues)
    .option("--type <predicate>", "verify an attestation of this predicate type instead of a signature")
    .option("--signature-repository <repository>", "look for signatures in this repository")
    .option("--from-file <list>", "work on every line IMAGE of this file")
    .option("--shard <i/n>", "with --from-file: only every n-th line, beginning with line i (0 to n-1)")
    .option("--state <file>", "with --from-file: remember what is done, skip it the next time; a tag is always verified again")
    .addHelpText(
      "after",
      "\nExamples:\n  ociseal verify --key cosign.pub localhost:5000/alpine:sealed\n  ociseal verify --policy policy.json localhost:5000/alpine:sealed\n  ociseal verify --from-file images.txt --key cosign.pub --json",
    )
    .action(launcher.launch(async () => (await import("../actions/verify.ts")).verify));

  const policy = program.command("policy").description("signature policies (containers-policy.json)");
  withShared(policy.command("check <file>"))
    .description("parse a policy.json as strictly as skopeo does, and say where other readers take it differently")
    .option("--registries-d <dir>", "say too whether this registries.d folder lets skopeo look for signatures")
    .addHelpText("after", "\nExamples:\n  ociseal policy check /etc/containers/policy.json")
    .action(launcher.launch(async () => (await import("../actions/policy-check.ts")).policyCheck));
}
