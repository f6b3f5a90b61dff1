import { randomUUID } from "node:crypto";
import {
  formatKbsUri,
  jweWrapper,
  kbsWrapper,
  parseKbsUri,
  parsePublicKey,
  pgpWrapper,
  pkcs11Wrapper,
  pkcs7Wrapper,
  providerWrapper,
  type KbsPackets,
  type KeyWrapper,
} from "../src/keywrap/index.ts";
import { formatResourceUri, parseKeyTarget } from "../src/kbs/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { KbsOptions } from "./kbs-connection.ts";
import { parseProviderName, providerEnvironment, requireProviderConfig } from "./provider-config.ts";
import type { Shell } from "./shell.ts";

export interface RecipientOptions extends KbsOptions {
  readonly profile?: string;
  /** Keys of the same command, whose passwords a provider must not see. */
  readonly key?: readonly string[];
  readonly decryptionKey?: readonly string[];
}

/** Recipients made ready, and what was done at the KBS for them. */
export interface PreparedRecipients {
  readonly wrappers: readonly KeyWrapper[];
  readonly registered: readonly { readonly uri: string; readonly outcome: string; readonly proof: string }[];
}

/** Recipients whose files were read; nothing was made for them yet. */
export interface OpenedRecipients {
  /**
   * Makes wrappers of them. Keys at the KBS are created and proved to be there first, so that nothing is ever pushed
   * whose key nobody holds; with a dry run they are only named.
   */
  prepare(options: RecipientOptions, mode: "write" | "plan"): Promise<PreparedRecipients>;
}

/** Reads `-r` values: what is wrong with them is found before a registry or a service is asked for anything. */
export async function openRecipients(shell: Shell, values: readonly string[]): Promise<OpenedRecipients> {
  const opened: { readonly value: string; readonly local: KeyWrapper | undefined }[] = [];
  for (const value of values) {
    if (isKept(value)) parseKeyTarget(value);
    const local = isKept(value) || value.startsWith("provider:") ? undefined : await localRecipient(shell, value);
    opened.push({ value, local });
  }
  return { prepare: (options, mode) => prepare(shell, opened, options, mode) };
}

/** {@link openRecipients} and at once `prepare`. */
export async function prepareRecipients(
  shell: Shell,
  values: readonly string[],
  options: RecipientOptions,
  mode: "write" | "plan",
): Promise<PreparedRecipients> {
  return (await openRecipients(shell, values)).prepare(options, mode);
}

function isKept(value: string): boolean {
  return /^kbs(\+resource)?:\/\//.test(value);
}

async function prepare(
  shell: Shell,
  opened: readonly { readonly value: string; readonly local: KeyWrapper | undefined }[],
  options: RecipientOptions,
  mode: "write" | "plan",
): Promise<PreparedRecipients> {
  const wrappers: KeyWrapper[] = [];
  const registered: { readonly uri: string; readonly outcome: string; readonly proof: string }[] = [];
  for (const { value, local } of opened) {
    if (local !== undefined) wrappers.push(local);
    if (isKept(value)) {
      const uri = keyUriOf(value);
      const packets = packetsOf(options.profile);
      if (mode === "plan") {
        registered.push({ uri, outcome: "would be created", proof: "dry run" });
        wrappers.push(kbsWrapper({ uri, kek: new Uint8Array(32), packets }));
        continue;
      }
      const { connectAdmin } = await import("./kbs-connection.ts");
      const admin = await connectAdmin(shell, options);
      try {
        // A generated name is new; one that was given may be taken, and Trustee would put a new key in place of the old.
        const given = parseKeyTarget(value).tag !== undefined;
        if (given && (await (await import("./key-provider.ts")).overwrites(admin, uri, { signal: shell.signal }))) {
          throw usage(
            `the service would overwrite a key that may be at ${uri}, and images that need it would be lost`,
            "leave the tag away, so that a new one is generated for this image",
          );
        }
        const { key, outcome, proof, uri: proved } = await admin.registerKey(uri, { signal: shell.signal });
        registered.push({ uri: proved, outcome, proof });
        wrappers.push(kbsWrapper({ uri: formatKbsUri(parseKbsUri(proved)), kek: key, packets }));
      } finally {
        await admin.close();
      }
    }
  }
  wrappers.push(
    ...(await providerRecipients(
      shell,
      opened.map(({ value }) => value),
      options,
    )),
  );
  return { wrappers, registered };
}

/** One wrapper for each provider, with all its parameters: it gets them in one call, as from ocicrypt. */
async function providerRecipients(
  shell: Shell,
  values: readonly string[],
  { key = [], decryptionKey = [] }: RecipientOptions,
): Promise<readonly KeyWrapper[]> {
  const parameters = new Map<string, string[]>();
  for (const value of values.filter((text) => text.startsWith("provider:"))) {
    const { name, parameter = "Enabled" } = parseProviderName(value.slice("provider:".length));
    parameters.set(name, [...(parameters.get(name) ?? []), parameter]);
  }
  if (parameters.size === 0) return [];
  const config = await requireProviderConfig(shell);
  const env = providerEnvironment(shell, [...key, ...decryptionKey]);
  return [...parameters].map(([name, texts]) => providerWrapper({ config, name, parameters: texts, env }));
}

/** One key per image: without a tag the tag is generated. */
function keyUriOf(value: string): string {
  const target = parseKeyTarget(value);
  return formatResourceUri({ ...target, tag: target.tag ?? randomUUID() });
}

function packetsOf(profile: string | undefined): KbsPackets {
  return profile === "coco" ? "attestation-agent" : "both";
}

async function localRecipient(shell: Shell, value: string): Promise<KeyWrapper> {
  const colon = value.indexOf(":");
  const scheme = value.slice(0, Math.max(colon, 0));
  const rest = value.slice(colon + 1);
  switch (scheme) {
    case "jwe": {
      const [file = "", ...parameters] = rest.split(";");
      const algorithm = algorithmOf(parameters);
      const publicKey = parsePublicKey(await readSmallFile(file, "public key"), { name: file });
      return jweWrapper({ publicKey, ...(algorithm === undefined ? {} : { algorithm }), name: file });
    }
    case "pkcs7":
      return pkcs7Wrapper({ certificate: await readSmallFile(rest, "certificate"), name: rest });
    case "pgp": {
      const [file = "", ...select] = rest.split("#");
      const keys = await readSmallFile(file, "keyring");
      return pgpWrapper({ keys, name: file, ...(select.length === 0 ? {} : { select: select.join("#") }) });
    }
    case "pkcs11": {
      const [file = "", ...parameters] = rest.split(";");
      const publicKey = await (await import("./token-keys.ts")).tokenRecipient(shell, file);
      return pkcs11Wrapper({ publicKey, name: file, ...hashOf(parameters) });
    }
    default:
      throw usage(
        `not a recipient: ${value.slice(0, 200)}`,
        "give jwe:FILE, kbs:///REPOSITORY/TYPE[/TAG], pkcs7:CERT, pgp:FILE[#NAME], pkcs11:FILE or provider:NAME[:PARAMETER]; see ociseal encrypt --help",
      );
  }
}

function algorithmOf(parameters: readonly string[]): "RSA-OAEP" | "RSA-OAEP-256" | "ECDH-ES+A256KW" | undefined {
  if (parameters.length === 0) return undefined;
  const text = parameters.join(";");
  if (text === "alg=RSA-OAEP" || text === "alg=RSA-OAEP-256" || text === "alg=ECDH-ES+A256KW") return text.slice(4) as "RSA-OAEP";
  throw usage(`not a parameter of a jwe recipient: ${text.slice(0, 100)}`, "alg=RSA-OAEP, alg=RSA-OAEP-256 or alg=ECDH-ES+A256KW");
}

function hashOf(parameters: readonly string[]): { readonly hash?: "sha1" | "sha256" } {
  if (parameters.length === 0) return {};
  const text = parameters.join(";");
  if (text === "hash=sha1" || text === "hash=sha256") return { hash: text.slice(5) as "sha1" };
  throw usage(`not a parameter of a pkcs11 recipient: ${text.slice(0, 100)}`, "hash=sha256 (default) or hash=sha1");
}
