import {
  brokerUnwrapper,
  keksAtHand,
  parsePrivateKey,
  pgpUnwrapper,
  pkcs11Unwrapper,
  privateKeyUnwrapper,
  providerUnwrapper,
  type KeyUnwrapper,
  type RecipientKey,
} from "../src/keywrap/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";
import type { KbsOptions } from "./kbs-connection.ts";
import { askPassword, readPassword } from "./password.ts";
import { parseProviderName, providerEnvironment, requireProviderConfig } from "./provider-config.ts";
import type { Shell } from "./shell.ts";

/** Keys made ready to open layers with; whoever asked for them closes them. */
export interface OpenedKeys {
  readonly unwrappers: readonly KeyUnwrapper[];
  close(): Promise<void>;
}

/** Turns `-k` values into unwrappers. Nothing is asked of a KBS before the first key is needed. */
export async function openKeys(shell: Shell, values: readonly string[], options: KbsOptions): Promise<OpenedKeys> {
  const keys: RecipientKey[] = [];
  const keks: { readonly uri: string; readonly kek: Uint8Array }[] = [];
  const unwrappers: KeyUnwrapper[] = [];
  const closers: (() => Promise<void>)[] = [];
  for (const value of values) {
    if (value === "kbs") {
      const { connectGuest } = await import("./kbs-connection.ts");
      const client = await connectGuest(shell, options);
      closers.push(() => client.close());
      unwrappers.push(
        brokerUnwrapper({
          broker: { fetchKey: (uri, call) => client.fetchResource(uri, call) },
          name: "the Key Broker Service",
          reach: "remote",
        }),
      );
    } else if (value.startsWith("kek:")) {
      const [uri, file] = splitLast(value.slice(4), "=");
      if (file === undefined) throw usage("kek: takes KBS-URI=FILE", "for example kek:kbs:///default/key/app=app.kek");
      keks.push({ uri, kek: await readSmallFile(file, "key encryption key") });
    } else if (value.startsWith("provider:")) {
      const { name, parameter } = parseProviderName(value.slice("provider:".length));
      const config = await requireProviderConfig(shell);
      const env = providerEnvironment(shell, values);
      unwrappers.push(providerUnwrapper({ config, name, env, ...(parameter === undefined ? {} : { parameters: [parameter] }) }));
    } else if (value.startsWith("pgp:")) {
      unwrappers.unshift(await pgpKeys(shell, value.slice("pgp:".length)));
    } else if (value.startsWith("pkcs11:")) {
      unwrappers.unshift(await tokenKey(shell, value.slice("pkcs11:".length)));
    } else {
      keys.push(await privateKey(shell, value));
    }
  }
  if (keks.length > 0)
    unwrappers.unshift(brokerUnwrapper({ broker: keksAtHand(keks), name: "the given key encryption keys", reach: "local" }));
  if (keys.length > 0) unwrappers.unshift(privateKeyUnwrapper(keys));
  return {
    unwrappers,
    async close() {
      for (const close of closers) await close();
    },
  };
}

async function privateKey(shell: Shell, value: string): Promise<RecipientKey> {
  return withPassword(shell, value, async (file, password) =>
    parsePrivateKey(await readSmallFile(file, "private key"), { name: file, ...(password === undefined ? {} : { password }) }),
  );
}

async function pgpKeys(shell: Shell, value: string): Promise<KeyUnwrapper> {
  return withPassword(shell, value, async (file, password) =>
    pgpUnwrapper({
      keys: await readSmallFile(file, "secret keyring"),
      options: { name: file, ...(password === undefined ? {} : { password }) },
    }),
  );
}

/** `FILE[:file=…|:fd=N|:env=NAME]`: the PIN is never an argument, which everybody on the machine could read. */
async function tokenKey(shell: Shell, value: string): Promise<KeyUnwrapper> {
  const [file, source] = splitPassword(value);
  if (source?.startsWith("pass=") === true)
    throw usage("a PIN is not given on the command line", "put it in a file or the environment: pkcs11:FILE:file=PATH or :env=NAME");
  const pin = source === undefined ? undefined : (await readPassword(shell, source)).toString("utf8");
  const { tokenToOpen } = await import("./token-keys.ts");
  return pkcs11Unwrapper(await tokenToOpen(shell, file, pin));
}

/** Reads `FILE[:pass=…|:file=…|:fd=N|:env=NAME]`, and asks at the terminal when the key turns out to be encrypted. */
async function withPassword<Key>(
  shell: Shell,
  value: string,
  read: (file: string, password: string | Uint8Array | undefined) => Promise<Key>,
): Promise<Key> {
  const [file, source] = splitPassword(value);
  const password = source === undefined ? undefined : await readPassword(shell, source);
  try {
    return await read(file, password);
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ERR_KEYWRAP_PASSWORD_MISSING";
    if (!missing || !shell.stdin.isTTY) throw error;
    return read(file, await askPassword(shell, file));
  }
}

function splitPassword(value: string): readonly [string, string | undefined] {
  const match = /^(.*?):((?:pass|file|fd|env)=[\s\S]*)$/.exec(value);
  return [match?.[1] ?? value, match?.[2]];
}

function splitLast(text: string, separator: string): readonly [string, string | undefined] {
  const at = text.lastIndexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
