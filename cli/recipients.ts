import { randomUUID } from "node:crypto";
import {
  formatKbsUri,
  jweWrapper,
  kbsWrapper,
  parseKbsUri,
  parsePublicKey,
  type KbsPackets,
  type KeyWrapper,
} from "../src/keywrap/index.ts";
import { formatResourceUri, parseKeyTarget } from "../src/kbs/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import { connectAdmin, type KbsOptions } from "./kbs-connection.ts";
import type { Shell } from "./shell.ts";

export interface RecipientOptions extends KbsOptions {
  readonly profile?: string;
}

/** Recipients made ready, and what was done at the KBS for them. */
export interface PreparedRecipients {
  readonly wrappers: readonly KeyWrapper[];
  readonly registered: readonly { readonly uri: string; readonly outcome: string; readonly proof: string }[];
}

/**
 * Turns `-r` values into wrappers. Keys at the KBS are created and proved to be there first, so that nothing is ever
 * pushed whose key nobody holds; with a dry run they are only named.
 */
export async function prepareRecipients(
  shell: Shell,
  values: readonly string[],
  options: RecipientOptions,
  mode: "write" | "plan",
): Promise<PreparedRecipients> {
  const wrappers: KeyWrapper[] = [];
  const registered: { readonly uri: string; readonly outcome: string; readonly proof: string }[] = [];
  for (const value of values) {
    if (/^kbs(\+resource)?:\/\//.test(value)) {
      const uri = keyUriOf(value);
      const packets = packetsOf(options.profile);
      if (mode === "plan") {
        registered.push({ uri, outcome: "would be created", proof: "dry run" });
        wrappers.push(kbsWrapper({ uri, kek: new Uint8Array(32), packets }));
        continue;
      }
      const admin = await connectAdmin(shell, options);
      try {
        const { key, outcome, proof, uri: proved } = await admin.registerKey(uri, { signal: shell.signal });
        registered.push({ uri: proved, outcome, proof });
        wrappers.push(kbsWrapper({ uri: formatKbsUri(parseKbsUri(proved)), kek: key, packets }));
      } finally {
        await admin.close();
      }
      continue;
    }
    wrappers.push(await localRecipient(value));
  }
  return { wrappers, registered };
}

/** One key per image: without a tag the tag is generated. */
function keyUriOf(value: string): string {
  const target = parseKeyTarget(value);
  return formatResourceUri({ ...target, tag: target.tag ?? randomUUID() });
}

function packetsOf(profile: string | undefined): KbsPackets {
  return profile === "coco" ? "attestation-agent" : "both";
}

async function localRecipient(value: string): Promise<KeyWrapper> {
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
    default:
      throw usage(`not a recipient: ${value.slice(0, 200)}`, "give jwe:FILE or kbs:///REPOSITORY/TYPE[/TAG]; see ociseal encrypt --help");
  }
}

function algorithmOf(parameters: readonly string[]): "RSA-OAEP" | "RSA-OAEP-256" | "ECDH-ES+A256KW" | undefined {
  if (parameters.length === 0) return undefined;
  const text = parameters.join(";");
  if (text === "alg=RSA-OAEP" || text === "alg=RSA-OAEP-256" || text === "alg=ECDH-ES+A256KW") return text.slice(4) as "RSA-OAEP";
  throw usage(`not a parameter of a jwe recipient: ${text.slice(0, 100)}`, "alg=RSA-OAEP, alg=RSA-OAEP-256 or alg=ECDH-ES+A256KW");
}
