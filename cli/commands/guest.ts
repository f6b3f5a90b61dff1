import type { Command } from "commander";
import { collectValues, parseCount, parseSize, withKbs, withRegistry, withShared, type Launcher } from "../command.ts";

function withLimits(command: Command): Command {
  return command
    .option("--max-unpacked-size <bytes>", "refuse images that unpack to more, with K, M or G", parseSize)
    .option("--max-entries <n>", "refuse images with more files", parseCount)
    .option("--limit <name=value>", "another limit (repeatable): depth, ratio, pax, zstd-window or time, like time=2h", collectValues);
}

/** `pull` and `unpack`. */
export function registerGuest(program: Command, launcher: Launcher): void {
  withShared(withRegistry(withKbs(withLimits(program.command("pull <image> <dir>")))))
    .description("the guest's pull: policy, signature, attestation, key, decrypt, unpack; all or nothing")
    .option("--policy <file>", "containers-policy.json that decides whether the image may run")
    .option("--verify-key <file>", "public key that must have signed the image")
    .option("--insecure-accept-unsigned", "take an image whose signature nobody checked")
    .option("--require-seal-attestation", "the image must carry a signed attestation of what its plaintext is")
    .option("-k, --key <key>", "a key to open with (repeatable); kbs asks the KBS", collectValues)
    .option("--output <kind>", "rootfs, bundle, oci or overlay", "rootfs")
    .option("--platform <platform>", "os/arch[/variant]; the host's unless told")
    .option("--rootless", "map all ownership to the caller")
    .option("--specials <mode>", "require or skip: devices and extended attributes that cannot be made")
    .option("--keep-encrypted", "with --output oci: keep the layers encrypted")
    .option("--layer-cache <dir>", "keep verified layers here for the next pull")
    .option("--record <file>", "write what was pulled, verified and by which policy")
    .option("--aa <url>", "report the pull to this attestation agent as a runtime measurement")
    .addHelpText(
      "after",
      `
Examples:
  ociseal pull --verify-key cosign.pub --kbs http://127.0.0.1:8080 -k kbs localhost:5000/app:sealed ./rootfs
  ociseal pull --policy policy.json -k guest.key --output bundle localhost:5000/app:sealed ./bundle`,
    )
    .action(launcher.launch(async () => (await import("../actions/pull.ts")).pull));

  withShared(withRegistry(withLimits(program.command("unpack <image> <dir>"))))
    .description("unpack a plain image into a folder")
    .option("--output <kind>", "rootfs or bundle", "rootfs")
    .option("--platform <platform>", "os/arch[/variant]; the host's unless told")
    .option("--rootless", "map all ownership to the caller")
    .option("--specials <mode>", "require or skip: devices and extended attributes that cannot be made")
    .addHelpText(
      "after",
      "\nExamples:\n  ociseal unpack oci:alpine ./rootfs\n  ociseal unpack --output bundle oci-archive:app.tar ./bundle && crun run -b ./bundle app",
    )
    .action(launcher.launch(async () => (await import("../actions/unpack.ts")).unpack));
}
