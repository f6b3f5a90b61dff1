import { readFile } from "node:fs/promises";
import { describeCause } from "../errors/index.ts";
import { credentialOf, keysFor, normalizeKey, parseCredentials, serverKeyOf, type CredentialsDocument } from "./credential-entries.ts";
import { askHelper } from "./credential-helpers.ts";
import type { Credential, CredentialSource } from "./credentials.ts";
import { RegistryError } from "./errors.ts";

/** A file to look into, or its content where that came through the environment (`DOCKER_AUTH_CONFIG`). */
export interface CredentialFile {
  readonly path: string;
  /** Instead of reading `path`, which is then only a name for messages. */
  readonly content?: string | undefined;
  /** `dockercfg`: the legacy file whose top level is the `auths` map. */
  readonly style?: "config" | "dockercfg" | undefined;
  /** A file that the user named must exist; a file of a standard place need not. */
  readonly presence?: "required" | "optional" | undefined;
}

/**
 * Credentials as docker and podman keep them. Files are looked through in order; within a file the most specific key
 * counts: a helper named for it, then what stands in the file, then `credsStore` (where docker logs in by a store, nothing
 * stands in the file). Files are read once, at the first need; helpers are asked once per key.
 *
 * A helper that fails is an error (`ERR_CREDENTIAL_HELPER_FAILED`) when the file says that it holds something for the
 * host; a `credsStore` of some other machine does not stand in the way of public images.
 */
export function credentialsFromFiles(files: readonly CredentialFile[]): CredentialSource {
  let documents: Promise<readonly (CredentialsDocument & { readonly path: string })[]> | undefined;
  const answers = new Map<string, Promise<Credential | undefined>>();
  const ask = (helper: string, key: string) => {
    const id = `${helper} ${key}`;
    let answer = answers.get(id);
    if (answer === undefined) {
      answer = askHelper(helper, serverKeyOf(key));
      answers.set(id, answer);
    }
    return answer;
  };
  return async (host, repository) => {
    documents ??= Promise.all(files.map(readDocument)).then((all) => all.filter((document) => document !== undefined));
    for (const document of await documents) {
      const found = await findIn(document, host, repository, ask);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

/** One credential for one host, for `--creds-file` and tests. */
export function credentialsFor(host: string, credential: Credential): CredentialSource {
  const key = normalizeKey(host);
  return (asked) => Promise.resolve(normalizeKey(asked) === key ? credential : undefined);
}

/** The first source that knows. */
export function credentialsInOrder(...sources: readonly CredentialSource[]): CredentialSource {
  return async (host, repository) => {
    for (const source of sources) {
      const found = await source(host, repository);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

async function findIn(
  document: CredentialsDocument & { readonly path: string },
  host: string,
  repository: string,
  ask: (helper: string, key: string) => Promise<Credential | undefined>,
): Promise<Credential | undefined> {
  for (const key of keysFor(host, repository)) {
    const named = document.helpers.get(key);
    const helper = named === "" ? undefined : named;
    const entry = document.auths.get(key);
    const fromHelper = helper === undefined ? undefined : await ask(helper, key);
    if (fromHelper !== undefined) return fromHelper;
    const own = entry === undefined ? undefined : credentialOf(entry, `auths[${JSON.stringify(key)}] of ${document.path}`);
    if (own !== undefined) return own;
  }
  const key = normalizeKey(host);
  // An empty name in credHelpers takes a registry out of the store, as docker does it.
  if (document.store === undefined || document.helpers.get(key) === "") return undefined;
  try {
    return await ask(document.store, key);
  } catch (error) {
    if (document.auths.has(key)) throw error;
    return undefined;
  }
}

async function readDocument(file: CredentialFile): Promise<(CredentialsDocument & { readonly path: string }) | undefined> {
  const { path, content, style = "config" } = file;
  const text = content ?? (await readText(file));
  return text === undefined ? undefined : { ...parseCredentials(text, path, style), path };
}

async function readText(file: CredentialFile): Promise<string | undefined> {
  try {
    return await readFile(file.path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if ((code === "ENOENT" || code === "ENOTDIR") && file.presence !== "required") return undefined;
    throw new RegistryError("ERR_CREDENTIALS_UNREADABLE", {
      message: `credentials file ${file.path} cannot be read (${describeCause(cause)})`,
      hint: "check the path and its permissions",
      cause,
    });
  }
}
