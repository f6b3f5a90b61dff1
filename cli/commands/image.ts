import { Option, type Command } from "commander";
import { collectValues, withKbs, withRegistry, withShared, type Launcher } from "../command.ts";

const imageNames = `
Image names:
  docker://HOST/NAME[:TAG][@DIGEST]   a registry; a bare HOST/NAME:TAG or NAME:TAG means the same
  oci:DIR[:REF]                       an OCI layout folder
  oci-archive:FILE[:REF]              an OCI layout in a tar file
  docker-archive:FILE[:NAME:TAG]      what docker save writes (source only)
  dir:DIR                             skopeo's folder of blobs`;

const recipients = `
Recipients:
  jwe:FILE                 a public key: PEM, DER or JWK (RSA or EC P-256/384/521)
  kbs:///REPO/TYPE[/TAG]   a key at the KBS of --kbs, created and registered there first
  pkcs7:CERT, pgp:FILE, provider:NAME[:PARAMETER]   as in ocicrypt
  pkcs11:FILE[;hash=sha1]  an RSA key in a token: its public key, or ocicrypt's YAML that names it`;

const keys = `
Keys to open:
  FILE[:pass=…|:file=…|:fd=N|:env=NAME]   a private key: PEM of every kind, DER, JWK
  kbs                                     attest to the KBS of --kbs, then ask it
  kek:KBS-URI=FILE                        a raw 32-byte key at hand
  provider:NAME, pgp:FILE                 as in ocicrypt
  pkcs11:FILE[:file=…|:fd=N|:env=NAME]    ocicrypt's YAML that names a key in a token, and where its PIN is`;

function withEncryption(command: Command): Command {
  return withKbsAdmin(command)
    .option("--kbs <url>", "Key Broker Service (environment: OCISEAL_KBS_URL)")
    .option("-r, --recipient <recipient>", "who may open the result (repeatable)", collectValues)
    .addOption(new Option("--encryption-key <recipient>", "the same, under skopeo's name").argParser(collectValues).hideHelp())
    .option("--cipher <name>", "aes-256-gcm (default) or aes-256-ctr-hmac-sha256")
    .option("--profile <name>", "ocicrypt or coco: write what those readers open, refuse what they would not")
    .option("--platform <platform>", "os/arch[/variant] (repeatable); every platform unless told", collectValues);
}

/** Flags of commands that administer a KBS. */
export function withKbsAdmin(command: Command): Command {
  return command.option("--kbs-admin-token <file>", "file with the administration token of the KBS");
}

function withOpening(command: Command): Command {
  return withKbs(command)
    .option("-k, --key <key>", "a key to open with (repeatable)", collectValues)
    .addOption(new Option("--decryption-key <key>", "the same, under skopeo's name").argParser(collectValues).hideHelp());
}

/** `encrypt`, `decrypt`, `copy`, `inspect`, `rewrap`, `lint`, `cat`. */
export function registerImage(program: Command, launcher: Launcher): void {
  withShared(withRegistry(withEncryption(program.command("encrypt [source] [destination]"))))
    .description("encrypt an image's layers, register the key, sign, and push")
    .option("--layer <n>", "only this layer: a position, negative from the end, or a digest (repeatable)", collectValues)
    .addOption(new Option("--encrypt-layer <n>", "the same, under skopeo's name").argParser(collectValues).hideHelp())
    .option("--skip-base <image>", "leave the layers of this base image plain")
    .option("--sign-key <file>", "sign the result with this cosign key before its tag moves")
    .option("--strip-history", "remove the build history from the configuration (changes the image ID)")
    .option("--pad", "hide exact layer sizes: pad inside the compressed stream (at most 12 % more)")
    .option(
      "--convergent <keyfile>",
      "derive keys from this secret, so that equal layers stay equal for registries to share; reads each layer twice",
    )
    .option("--engine <name>", "node (default) or noble, the portable one")
    .option("--source-signatures <mode>", "keep, drop or require: what becomes of the source's signatures", "drop")
    .option("--source-policy <file>", "policy.json that the source must satisfy before anything is encrypted")
    .option("--source-key <file>", "public key that must have signed the source")
    .option("--referrers", "SBOMs and other referrers of the source follow, bound by the seal attestation")
    .option("--dry-run", "print what would be done; create, push and sign nothing")
    .option("--from-file <list>", "work on every line SOURCE DESTINATION of this file")
    .option("--shard <i/n>", "with --from-file: only every n-th line, beginning with line i (0 to n-1)")
    .option("--state <file>", "with --from-file: remember what is done, skip it the next time")
    .addHelpText(
      "after",
      `
Examples:
  ociseal key generate ec --out team
  ociseal encrypt docker.io/library/alpine:3 localhost:5000/alpine:sealed -r jwe:team.pub
  ociseal encrypt oci:app oci:app-sealed -r kbs:///default/app-key --kbs http://127.0.0.1:8080 --kbs-admin-token token
  ociseal encrypt --from-file images.txt --shard 0/8 --state shard-0.jsonl -r jwe:team.pub

What the registry learns, and what it costs:
  --pad                    sizes within 12 % and the number of layers still show; the layers grow by that much
  --convergent KEYFILE     everybody sees which layers are equal, and who has the secret can test guesses of
                           what is in them: one secret for each tenant, kept as well as the keys
  --strip-history          nobody reads how it was built, you neither
${recipients}
${imageNames}`,
    )
    .action(launcher.launch(async () => (await import("../actions/encrypt.ts")).encrypt));

  withShared(withRegistry(withOpening(program.command("decrypt <source> <destination>"))))
    .description("decrypt an image, image to image")
    .option("--platform <platform>", "os/arch[/variant] (repeatable); every platform unless told", collectValues)
    .option("--engine <name>", "node (default) or noble, the portable one")
    .option("--dry-run", "print what would be done; write nothing")
    .addHelpText(
      "after",
      `
Examples:
  ociseal decrypt localhost:5000/alpine:sealed oci:alpine -k team.key
${keys}
${imageNames}`,
    )
    .action(launcher.launch(async () => (await import("../actions/decrypt.ts")).decrypt));

  withShared(withRegistry(program.command("copy <source> <destination>")))
    .description("copy an image, any transport to any, every platform")
    .option("--all", "every platform (the default)")
    .option("--platform <platform>", "only os/arch[/variant] (repeatable)", collectValues)
    .option("--referrers", "signatures, SBOMs and attestations follow")
    .option("--encryption-key <recipient>", "as skopeo copy: encrypt on the way (repeatable)", collectValues)
    .option("--encrypt-layer <n>", "as skopeo copy: with --encryption-key, only this layer (repeatable)", collectValues)
    .option("--decryption-key <key>", "as skopeo copy: decrypt on the way (repeatable)", collectValues)
    .option("--dry-run", "print what would be done; write nothing")
    .addHelpText(
      "after",
      `
Examples:
  ociseal copy docker://quay.io/org/app:1 oci:app:1 --referrers
  ociseal copy oci-archive:app.tar localhost:5000/app:1
  docker save app:1 | ociseal copy docker-archive:/dev/stdin oci:app:1
  ociseal copy --encryption-key jwe:team.pub oci:app:1 docker://localhost:5000/app:sealed
${imageNames}`,
    )
    .action(launcher.launch(async () => (await import("../actions/copy.ts")).copy));

  withShared(withRegistry(program.command("inspect <image>")))
    .description("what is encrypted how, for whom, signed by whom, and what stays readable")
    .addHelpText(
      "after",
      `
Examples:
  ociseal inspect localhost:5000/alpine:sealed
  ociseal inspect --json oci:app-sealed`,
    )
    .action(launcher.launch(async () => (await import("../actions/inspect.ts")).inspect));

  withShared(withRegistry(withOpening(withKbsAdmin(program.command("rewrap [image] [destination]")))))
    .description("change recipients or rotate keys; layers are neither encrypted again nor uploaded again")
    .option("--add <recipient>", "add a recipient (repeatable)", collectValues)
    .option("--remove <recipient>", "remove a recipient or key ID, or with SCHEME:? all that have no ID (repeatable)", collectValues)
    .option("--rotate", "make a new version of the KBS key, and wrap for that")
    .option("--server-side", "let the KBS re-wrap: this command sees neither the old key nor the new one")
    .option("--disable-old", "with --rotate: disable the old version at the KBS afterwards")
    .option("--platform <platform>", "os/arch[/variant] (repeatable); every platform unless told", collectValues)
    .option("--sign-key <file>", "sign the new manifest with this cosign key before its tag moves")
    .option("--source-key <file>", "public key that must have signed the image; needed with --sign-key, or a policy")
    .option("--source-policy <file>", "policy.json that the image must satisfy before anything changes")
    .option("--dry-run", "print the plan; change nothing")
    .option("--from-file <list>", "work on every line IMAGE [DESTINATION] of this file")
    .option("--shard <i/n>", "with --from-file: only every n-th line, beginning with line i (0 to n-1)")
    .option("--state <file>", "with --from-file: remember what is done, skip it the next time")
    .addHelpText(
      "after",
      `
Examples:
  ociseal rewrap localhost:5000/app:1 -k old.key --add jwe:new.pub --remove old.pub
  ociseal rewrap --from-file images.txt --state rewrap.jsonl -k old.key --add jwe:new.pub
${recipients}
${keys}`,
    )
    .action(launcher.launch(async () => (await import("../actions/rewrap.ts")).rewrap));

  withShared(withRegistry(program.command("lint <image>")))
    .description("whether a stock reader would open the image, and why not")
    .option("--profile <name>", "coco or ocicrypt", "coco")
    .addHelpText("after", "\nExamples:\n  ociseal lint --profile coco localhost:5000/app:sealed")
    .action(launcher.launch(async () => (await import("../actions/lint.ts")).lint));

  withShared(withRegistry(withOpening(program.command("cat <image>"))))
    .description("a range of one layer's plaintext on stdout, fetching only what it needs, verified")
    .option("--layer <n>", "which layer: a position, negative from the end, or a digest", collectValues)
    .option("--range <a-b>", "bytes a to b, b included; the whole layer unless told")
    .option("--platform <platform>", "os/arch[/variant] of an index; the host's unless told", collectValues)
    .addHelpText("after", "\nExamples:\n  ociseal cat localhost:5000/app:sealed -k team.key --layer 0 --range 0-1048575 > head.bin")
    .action(launcher.launch(async () => (await import("../actions/cat.ts")).cat));
}
