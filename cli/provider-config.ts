import { parseProviderConfig, type ProviderConfig } from "../src/keywrap/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { Shell } from "./shell.ts";

/** The key providers that `OCICRYPT_KEYPROVIDER_CONFIG` names, as ocicrypt has it; `undefined` when it is not set. */
export async function readProviderConfig(shell: Shell): Promise<ProviderConfig | undefined> {
  const file = shell.env["OCICRYPT_KEYPROVIDER_CONFIG"];
  if (file === undefined || file === "") return undefined;
  return parseProviderConfig(await readSmallFile(file, "key provider configuration"));
}

/** The same where a provider is needed. Throws `ERR_USAGE`. */
export async function requireProviderConfig(shell: Shell): Promise<ProviderConfig> {
  const config = await readProviderConfig(shell);
  if (config !== undefined) return config;
  throw usage(
    "provider: needs the configuration of key providers",
    'set OCICRYPT_KEYPROVIDER_CONFIG to a file with {"key-providers":{"NAME":{"cmd":{"path":"…"}}}}',
  );
}

/** `NAME[:PARAMETER]`; the parameter may hold colons. */
export function parseProviderName(text: string): { readonly name: string; readonly parameter: string | undefined } {
  const at = text.indexOf(":");
  return at < 0 ? { name: text, parameter: undefined } : { name: text.slice(0, at), parameter: text.slice(at + 1) };
}

/** Variables that hold passwords and PINs by their name. */
const secretVariables: readonly string[] = ["COSIGN_PASSWORD", "COSIGN_PKCS11_PIN"];

/**
 * The environment that a provider program gets: ours without passwords, also those that `-k FILE:env=NAME` names. They
 * are of other keys, and none of its business.
 */
export function providerEnvironment(shell: Shell, keys: readonly string[] = []): Readonly<Record<string, string | undefined>> {
  const named = keys.flatMap((key) => /:env=(.+)$/s.exec(key)?.[1] ?? []);
  const secret = new Set([...secretVariables, ...named]);
  return Object.fromEntries(Object.entries(shell.env).filter(([name]) => !secret.has(name)));
}
