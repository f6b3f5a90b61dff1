import { parseJson } from "../../bytes/index.ts";
import { KeywrapError } from "../errors.ts";

/** How a key provider is reached. Source: ocicrypt `config/keyprovider-config`. */
export type ProviderTarget =
  | { readonly kind: "exec"; readonly path: string; readonly args: readonly string[] }
  | { readonly kind: "grpc"; readonly target: string; readonly tls: ProviderTls | undefined };

/** Paths of PEM files, and the name that the server's certificate must have. Source: ocicrypt 1.3, `grpc-tls`. */
export interface ProviderTls {
  readonly rootCaFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly serverName: string | undefined;
  readonly verification: "certificate" | "none";
}

export type ProviderConfig = ReadonlyMap<string, ProviderTarget>;

const maxConfig = 1 << 20;
/** Names become annotation names; ocicrypt's own parameters must not be reachable as providers. */
const nameGrammar = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * Reads the file that `OCICRYPT_KEYPROVIDER_CONFIG` names: `{"key-providers":{NAME:{"cmd":{"path","args"}|"grpc":TARGET}}}`.
 * `cmd` wins over `grpc`, as in ocicrypt; members of other implementations are passed over. Throws
 * `ERR_KEYWRAP_PROVIDER_CONFIG`.
 */
export function parseProviderConfig(bytes: Uint8Array): ProviderConfig {
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes: maxConfig, maxDepth: 16, subject: "key provider configuration" });
  } catch (cause) {
    throw malformed("is not JSON", cause);
  }
  const providers = object(object(value, "")["key-providers"] ?? {}, "key-providers");
  return new Map(Object.entries(providers).map(([name, entry]) => [checkName(name), parseTarget(name, object(entry, name))]));
}

function checkName(name: string): string {
  if (nameGrammar.test(name)) return name;
  throw malformed(`has a provider with the name ${JSON.stringify(name.slice(0, 80))} (expected letters, digits, '.', '_', '-')`);
}

function parseTarget(name: string, entry: Readonly<Record<string, unknown>>): ProviderTarget {
  const { cmd, grpc } = entry;
  if (cmd !== undefined && cmd !== null) {
    const { path, args = [] } = object(cmd, `${name}.cmd`);
    if (typeof path !== "string" || path === "") throw malformed(`lacks ${name}.cmd.path`);
    if (args !== null && !isTexts(args)) throw malformed(`has ${name}.cmd.args that are not a list of texts`);
    return { kind: "exec", path, args: args ?? [] };
  }
  if (typeof grpc === "string" && grpc !== "") return { kind: "grpc", target: grpc, tls: parseTls(name, entry["grpc-tls"]) };
  throw malformed(`names neither cmd nor grpc for ${name}`);
}

function parseTls(name: string, value: unknown): ProviderTls | undefined {
  if (value === undefined || value === null) return undefined;
  const tls = object(value, `${name}.grpc-tls`);
  const text = (member: string): string | undefined => {
    const found = tls[member];
    if (found === undefined || found === "") return undefined;
    if (typeof found === "string") return found;
    throw malformed(`has ${name}.grpc-tls.${member} that is not text`);
  };
  return {
    rootCaFile: text("root-ca-file"),
    certFile: text("cert-file"),
    keyFile: text("key-file"),
    serverName: text("server-name"),
    verification: tls["insecure-skip-verify"] === true ? "none" : "certificate",
  };
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function object(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw malformed(`has ${where || "a document"} that is not an object`);
  return value as Record<string, unknown>;
}

/** The provider of a name. Throws `ERR_KEYWRAP_PROVIDER_CONFIG`. */
export function providerOf(config: ProviderConfig, name: string): ProviderTarget {
  const target = config.get(name);
  if (target !== undefined) return target;
  const known = [...config.keys()].join(", ");
  throw new KeywrapError("ERR_KEYWRAP_PROVIDER_CONFIG", {
    message: `no key provider ${JSON.stringify(name.slice(0, 80))} is configured (configured: ${known || "none"})`,
    hint: 'name it in the file that OCICRYPT_KEYPROVIDER_CONFIG points to: {"key-providers":{"NAME":{"cmd":{"path":"…"}}}}',
  });
}

function malformed(message: string, cause?: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PROVIDER_CONFIG", {
    message: `the key provider configuration ${message}`,
    hint: 'the form is {"key-providers":{"NAME":{"cmd":{"path":"…","args":[]}}}} or {"NAME":{"grpc":"host:port"}}',
    cause,
  });
}
