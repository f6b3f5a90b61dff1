import { KeywrapError } from "./errors.ts";

/** Where a key in a token is. Source: ocicrypt `crypto/pkcs11/pkcs11_config` and `docs/pkcs11.md`. */
export interface Pkcs11Config {
  /** RFC 7512: `pkcs11:token=…;object=…?module-path=…&pin-source=…`. */
  readonly uri: string;
  /** What the module finds in its environment, for example `SOFTHSM2_CONF`. */
  readonly env: Readonly<Record<string, string>>;
}

const maxConfig = 64 * 1024;
const maxVariables = 100;

/** Whether a file for `pkcs11:` names a key in a token; else it is a public key. Source: ocicrypt tells them apart by parsing. */
export function isPkcs11Config(bytes: Uint8Array): boolean {
  return /^\s*pkcs11\s*:/m.test(Buffer.from(bytes.subarray(0, maxConfig)).toString("utf8"));
}

/**
 * Reads ocicrypt's YAML: `pkcs11: {uri: …}`, `module: {env: {NAME: VALUE}}`. Never repeats its content, which may hold a
 * PIN. Throws `ERR_KEYWRAP_KEY_MALFORMED`.
 */
export async function parsePkcs11Config(bytes: Uint8Array, name: string): Promise<Pkcs11Config> {
  if (bytes.length > maxConfig) throw malformed(name, `it has more than ${maxConfig} bytes`);
  // Only whoever names a token pays for the parser.
  const { parse } = await import("yaml");
  let document: unknown;
  try {
    document = parse(Buffer.from(bytes).toString("utf8"), { maxAliasCount: 0, stringKeys: true, logLevel: "error" });
  } catch {
    // The parser's own words quote the line, and the line may hold a PIN.
    throw malformed(name, "it is not YAML");
  }
  const uri = member(member(document, "pkcs11"), "uri");
  if (typeof uri !== "string" || !uri.startsWith("pkcs11:")) throw malformed(name, "it has no pkcs11.uri that begins with pkcs11:");
  const variables = member(member(document, "module"), "env") ?? {};
  if (typeof variables !== "object" || Array.isArray(variables)) throw malformed(name, "its module.env is not a map");
  const env = Object.entries(variables).map(([key, value]: readonly [string, unknown]) => {
    if (typeof value !== "string" || /[\0=]/.test(key) || value.includes("\0"))
      throw malformed(name, "its module.env holds something else than text");
    return [key, value] as const;
  });
  if (env.length > maxVariables) throw malformed(name, `its module.env has more than ${maxVariables} names`);
  return { uri, env: Object.fromEntries(env) };
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (Reflect.get(value, name) as unknown) : undefined;
}

function malformed(name: string, what: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KEY_MALFORMED", {
    message: `${name} does not name a key in a token: ${what}`,
    hint: 'write pkcs11: { uri: "pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=file:FILE" }',
  });
}
