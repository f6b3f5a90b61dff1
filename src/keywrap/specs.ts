import type { KeyUnwrapper, KeyWrapper } from "./contract.ts";
import { KeywrapError } from "./errors.ts";
import { parsePublicKey } from "./key-files.ts";
import { jweWrapper, type JweAlgorithm } from "./jwe.ts";
import { pgpUnwrapper, pgpWrapper } from "./pgp.ts";
import { pkcs11Wrapper } from "./pkcs11.ts";
import { pkcs7Wrapper } from "./pkcs7.ts";
import type { ProviderConfig } from "./provider/config.ts";
import { providerUnwrapper, providerWrapper } from "./provider/provider.ts";

/** Where recipients and keys named by text come from; this room opens no files and reads no environment. */
export interface KeySources {
  /** Reads a small file whole; `what` says what for. */
  readFile(path: string, what: string): Promise<Uint8Array>;
  /** The key provider configuration; asked for only when a provider is named. */
  providerConfig(): Promise<ProviderConfig>;
}

const algorithms: ReadonlySet<string> = new Set<JweAlgorithm>(["RSA-OAEP", "RSA-OAEP-256", "ECDH-ES+A256KW"]);

/**
 * A recipient as the command line names it: `jwe:FILE[;alg=ALG]`, `pkcs7:CERT`, `pgp:FILE[;key=ADDRESS-OR-ID]`,
 * `pkcs11:PUBLIC-KEY`, `provider:NAME[:PARAMETER]`; `undefined` for any other scheme. Throws
 * `ERR_KEYWRAP_RECIPIENT_MALFORMED`, and what the wrappers and sources throw.
 */
export async function recipientFrom(spec: string, sources: KeySources): Promise<KeyWrapper | undefined> {
  const { scheme, value } = split(spec);
  switch (scheme) {
    case "jwe": {
      const { file, options } = fileAndOptions(spec, value, ["alg"]);
      const algorithm = options.get("alg");
      if (algorithm !== undefined && !algorithms.has(algorithm)) throw malformed(spec, `alg to be one of ${[...algorithms].join(", ")}`);
      const publicKey = parsePublicKey(await sources.readFile(file, "public key"), { name: file });
      return jweWrapper({ publicKey, algorithm: algorithm as JweAlgorithm | undefined, name: file });
    }
    case "pkcs7":
      return pkcs7Wrapper({ certificate: await sources.readFile(value, "certificate"), name: value });
    case "pgp": {
      const { file, options } = fileAndOptions(spec, value, ["key"]);
      return pgpWrapper({ keys: await sources.readFile(file, "OpenPGP keyring"), select: options.get("key"), name: file });
    }
    case "pkcs11":
      return pkcs11Wrapper({ publicKey: parsePublicKey(await sources.readFile(value, "public key"), { name: value }), name: value });
    case "provider": {
      const { name, parameters } = providerParts(spec, value);
      return providerWrapper({ config: await sources.providerConfig(), name, parameters });
    }
    default:
      return undefined;
  }
}

/**
 * Keys to open with that are more than a private key file: `pgp:FILE`, `provider:NAME[:PARAMETER]`; `undefined` for any
 * other text. Throws as {@link recipientFrom}.
 */
export async function unwrapperFrom(spec: string, sources: KeySources, password?: string | Uint8Array): Promise<KeyUnwrapper | undefined> {
  const { scheme, value } = split(spec);
  if (scheme === "pgp") {
    return pgpUnwrapper({ keys: await sources.readFile(value, "OpenPGP secret keyring"), options: { name: value, password } });
  }
  if (scheme !== "provider") return undefined;
  const { name, parameters } = providerParts(spec, value);
  return providerUnwrapper({ config: await sources.providerConfig(), name, parameters });
}

function split(spec: string): { readonly scheme: string; readonly value: string } {
  const colon = spec.indexOf(":");
  return { scheme: spec.slice(0, Math.max(0, colon)), value: spec.slice(colon + 1) };
}

function fileAndOptions(
  spec: string,
  value: string,
  known: readonly string[],
): { readonly file: string; readonly options: ReadonlyMap<string, string> } {
  const [file = "", ...rest] = value.split(";");
  if (file === "") throw malformed(spec, "a file name after the scheme");
  const options = new Map<string, string>();
  for (const option of rest) {
    const [name = "", text] = option.split(/=(.*)/s, 2);
    if (!known.includes(name) || text === undefined || text === "")
      throw malformed(spec, `${known.map((item) => `;${item}=…`).join(", ")} or nothing after the file`);
    options.set(name, text);
  }
  return { file, options };
}

/** What follows the name may hold colons. Source: ocicrypt `helpers/parse_helpers.go`. */
function providerParts(spec: string, value: string): { readonly name: string; readonly parameters: readonly string[] | undefined } {
  const [name = "", parameter] = value.split(/:(.*)/s, 2);
  if (name === "") throw malformed(spec, "the name of a key provider");
  return { name, parameters: parameter === undefined || parameter === "" ? undefined : [parameter] };
}

function malformed(spec: string, expected: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_RECIPIENT_MALFORMED", {
    message: `not a recipient: ${JSON.stringify(spec.slice(0, 160))} (expected ${expected})`,
    hint: "recipients are jwe:FILE, pkcs7:CERT, pgp:FILE, pkcs11:FILE, provider:NAME[:PARAMETER] and kbs:///REPOSITORY/TYPE/TAG",
  });
}
