import type { Command } from "commander";
import { collectValues, withKbs, withShared, type Launcher } from "../command.ts";
import { withKbsAdmin } from "./image.ts";

const parameters = `
What follows provider:NAME: in skopeo, podman and buildah:
  kbs:///REPO/TYPE             a new key for this image, made and kept at the KBS first
  kbs:///REPO/TYPE/TAG         the key of this name there, made when it is missing
  keyid=URI::keypath=FILE      the 32 raw bytes of a file, registered under URI`;

/** How the KBS is reached and recognised. */
function withKbsTransport(command: Command): Command {
  return withKbs(withShared(command))
    .option("--tls-ca <file>", "trust these certificate authorities for the KBS too (PEM)")
    .option("--tls-client-cert <file>", "client certificate for the KBS (PEM)")
    .option("--tls-client-key <file>", "key of the client certificate (PEM)")
    .option("--plain-http <host>", "allow plain HTTP to a KBS on this host (repeatable); loopback needs no flag", collectValues);
}

function withProvider(command: Command): Command {
  return withKbsAdmin(withKbsTransport(command))
    .option("--name <name>", "what the provider is called in provider:NAME", "attestation-agent")
    .option("-k, --key <key>", "a key to open with (repeatable); kbs unless told, when a KBS is named", collectValues)
    .option("--key-dir <dir>", "the folder in which keypath= names files")
    .option("--allow-sample", "allow CoCo's published sample key: for tests only");
}

function withDecoder(command: Command): Command {
  return withKbsTransport(command)
    .option("--decryption-keys-path <dir>", "folder of private keys, as imgcrypt's")
    .option("--spool-dir <dir>", "folder for the ciphertext of layers that are verified as a whole; TMPDIR unless told")
    .option("--containerd <version>", "write the configuration of containerd 1 or 2", "1");
}

/** `keyprovider exec`, `keyprovider serve`, `ctd-decoder` and `doctor containerd`: what other tools call. */
export function registerKeyprovider(program: Command, launcher: Launcher): void {
  const keyprovider = program.command("keyprovider").description("ocicrypt key provider for skopeo, podman, buildah and CRI-O");
  withProvider(keyprovider.command("exec"))
    .description("answer one request on stdin (cmd in the key provider configuration)")
    .addHelpText(
      "after",
      `${parameters}

Examples:
  echo '{"key-providers":{"attestation-agent":{"cmd":{"path":"ociseal","args":["keyprovider","exec",
    "--kbs","http://127.0.0.1:8080","--kbs-admin-token","admin.token"]}}}}' > ocicrypt.json
  OCICRYPT_KEYPROVIDER_CONFIG=ocicrypt.json skopeo copy \\
    --encryption-key provider:attestation-agent:kbs:///default/image-key SOURCE DESTINATION`,
    )
    .action(launcher.launch(async () => (await import("../actions/keyprovider-exec.ts")).keyproviderExec));
  withProvider(keyprovider.command("serve"))
    .description("answer over gRPC until interrupted; prints one line of JSON when it is ready")
    .option("--listen <address>", "HOST:PORT or unix:PATH; beyond loopback callers must show a certificate", "127.0.0.1:50000")
    .option("--tls-cert <file>", "serve with this certificate (PEM)")
    .option("--tls-key <file>", "its private key (PEM)")
    .option("--tls-client-ca <file>", "serve only callers with a certificate of these authorities (PEM)")
    .addHelpText(
      "after",
      `${parameters}

Examples:
  ociseal keyprovider serve --kbs http://127.0.0.1:8080 --kbs-admin-token admin.token
  ociseal keyprovider serve --listen unix:/run/ociseal/provider.sock --kbs https://kbs.example`,
    )
    .action(launcher.launch(async () => (await import("../actions/keyprovider-serve.ts")).keyproviderServe));

  withDecoder(program.command("ctd-decoder"))
    .description("containerd's stream processor: decrypt one layer from stdin to stdout")
    .option("--print-config", "print what has to stand in containerd's configuration")
    .addHelpText("after", "\nExamples:\n  ociseal ctd-decoder --print-config --decryption-keys-path /etc/containerd/ocicrypt/keys")
    .action(launcher.launch(async () => (await import("../actions/ctd-decoder.ts")).ctdDecoder));

  const doctor = program.commands.find((command) => command.name() === "doctor") ?? program.command("doctor").description("print fixes");
  withDecoder(doctor.command("containerd"))
    .description("print what has to stand in containerd's configuration so that it decrypts")
    .addHelpText("after", "\nExamples:\n  ociseal doctor containerd --decryption-keys-path /etc/containerd/ocicrypt/keys --containerd 2")
    .action(launcher.launch(async () => (await import("../actions/ctd-decoder.ts")).printContainerdConfig));
}
