import { decodeBase64, parseJson } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import type { Credential } from "./credentials.ts";
import { RegistryError } from "./errors.ts";
import { hub } from "./scheme.ts";

const maxFileBytes = 4 * 1024 * 1024;

/** A credentials file, parsed: docker's config.json and podman's auth.json share the format. */
export interface CredentialsDocument {
  /** By normalised key: `host`, `host:port`, or podman's `host/namespace`. */
  readonly auths: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
  readonly helpers: ReadonlyMap<string, string>;
  readonly store: string | undefined;
}

/** The key under which docker keeps the Hub's credentials, in files and helpers. */
export const hubServerKey = "https://index.docker.io/v1/";

/**
 * One spelling per key: no scheme, no `/v1/` or `/v2/` behind it, the Hub's names as `docker.io`. Afterwards keys are
 * compared whole, never by prefix (prefixes leaked credentials in another product).
 */
export function normalizeKey(key: string): string {
  const withoutScheme = key.toLowerCase().replace(/^https?:\/\//, "");
  const [host = "", ...path] = withoutScheme.split("/");
  const rest = path.join("/").replace(/\/+$/, "");
  const kept = rest === "v1" || rest === "v2" || rest === "" ? "" : `/${rest}`;
  return `${hub.names.has(host) ? "docker.io" : host}${kept}`;
}

/** The keys that serve a repository, the most specific first. Source: containers-auth.json(5). */
export function keysFor(host: string, repository: string): readonly string[] {
  const name = normalizeKey(host);
  const parts = repository.split("/");
  const namespaces = parts.map((_, i) => `${name}/${parts.slice(0, parts.length - i).join("/")}`);
  return [...namespaces, name];
}

/** What a helper is asked for. */
export function serverKeyOf(key: string): string {
  return key === "docker.io" ? hubServerKey : key;
}

/** Parses a credentials file. Throws `ERR_CREDENTIALS_MALFORMED`, without repeating content. */
export function parseCredentials(text: string, where: string, style: "config" | "dockercfg"): CredentialsDocument {
  let document: unknown;
  try {
    document = parseJson(text.trim() === "" ? "{}" : text, { maxBytes: maxFileBytes, subject: where });
  } catch (cause) {
    throw malformed(describeCause(cause), cause);
  }
  const root = asRecord(document, where);
  const auths = new Map<string, Readonly<Record<string, unknown>>>();
  const source = style === "dockercfg" ? root : asRecord(root["auths"] ?? {}, `auths of ${where}`);
  for (const [key, entry] of Object.entries(source)) {
    const normal = normalizeKey(key);
    // Of two spellings of one host the one with something in it counts.
    if (!auths.has(normal) || Object.keys(auths.get(normal) ?? {}).length === 0)
      auths.set(normal, asRecord(entry, `auths[${JSON.stringify(key)}] of ${where}`));
  }
  const helpers = new Map<string, string>();
  for (const [key, helper] of Object.entries(asRecord(root["credHelpers"] ?? {}, `credHelpers of ${where}`))) {
    if (typeof helper !== "string") throw malformed(`credHelpers[${JSON.stringify(key)}] of ${where} is not text`);
    helpers.set(normalizeKey(key), helper);
  }
  const store = root["credsStore"];
  if (store !== undefined && typeof store !== "string") throw malformed(`credsStore of ${where} is not text`);
  return { auths, helpers, store: store === "" ? undefined : store };
}

/** The credential in an entry; `undefined` for an empty one, which only marks that a helper holds the secret. */
export function credentialOf(entry: Readonly<Record<string, unknown>>, where: string): Credential | undefined {
  const text = (name: string): string | undefined => {
    const value = entry[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const registryToken = text("registrytoken");
  if (registryToken !== undefined) return { kind: "registry-token", token: registryToken };
  const identityToken = text("identitytoken");
  if (identityToken !== undefined) return { kind: "identity-token", token: identityToken };
  const auth = text("auth");
  if (auth === undefined) {
    // Written by hand and by some tools; containers/image ignores them, docker reads them.
    const username = text("username");
    const password = text("password");
    return username === undefined || password === undefined ? undefined : { kind: "basic", username, password };
  }
  const decoded = decodeAuth(auth, where);
  const colon = decoded.indexOf(":");
  if (colon < 0) throw malformed(`auth in ${where} is not base64 of USER:PASSWORD`);
  // docker pads the password with NUL bytes.
  const password = decoded.slice(colon + 1).replace(/\0+$/, "");
  const username = decoded.slice(0, colon);
  return username === "<token>" ? { kind: "identity-token", token: password } : { kind: "basic", username, password };
}

/** What is wrong with the entries of a credentials file, each by its own error; none repeats content. */
export function credentialProblems(text: string, where: string): readonly RegistryError[] {
  const problems: RegistryError[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      problems.push(error);
    }
  };
  attempt(() => {
    const { auths } = parseCredentials(text, where, "config");
    for (const [key, entry] of auths) attempt(() => credentialOf(entry, `auths[${JSON.stringify(key)}] of ${where}`));
  });
  return problems;
}

function decodeAuth(auth: string, where: string): string {
  try {
    return decodeBase64(auth.replaceAll(/\s/g, "")).toString("utf8");
  } catch (cause) {
    throw malformed(`auth in ${where} is not base64`, cause);
  }
}

function asRecord(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${where} is not a JSON object`);
  return value as Readonly<Record<string, unknown>>;
}

function malformed(message: string, cause?: unknown): RegistryError {
  return new RegistryError("ERR_CREDENTIALS_MALFORMED", {
    message,
    cause,
    hint: "log in again to have the entry written anew, or mend the file",
  });
}
