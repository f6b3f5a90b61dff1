import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { describeCause } from "../errors/index.ts";
import { RegistryError } from "./errors.ts";

type Pem = string | Uint8Array;

/** Certificates for one host. */
export interface TlsMaterial {
  readonly ca: readonly Pem[];
  readonly client: readonly { readonly cert: Pem; readonly key: Pem }[];
}

/**
 * Reads `certs.d/<host[:port]>` from the first of the folders that has one: `*.crt` are CAs, `*.cert` with `*.key` of
 * the same base name are client pairs; one without its partner is an error (`ERR_REGISTRY_CONFIG_MALFORMED`).
 * Source: containers-certs.d(5).
 *
 * @param origin - of a checked host: its name becomes a path component. The usual port may stand in the folder's name, as
 *   in the images' names, or not.
 */
export function readCertsDir(folders: readonly string[], origin: Pick<URL, "hostname" | "port">): TlsMaterial {
  const { hostname, port } = origin;
  const spellings = port === "" ? [hostname, `${hostname}:443`] : [`${hostname}:${port}`];
  for (const path of folders.flatMap((folder) => spellings.map((name) => join(folder, name)))) {
    const names = listFolder(path);
    if (names !== undefined) return readMaterial(path, names);
  }
  return { ca: [], client: [] };
}

function readMaterial(folder: string, names: readonly string[]): TlsMaterial {
  const read = (name: string): Buffer => {
    try {
      return readFileSync(join(folder, name));
    } catch (cause) {
      throw malformed(`${join(folder, name)} cannot be read (${describeCause(cause)})`, cause);
    }
  };
  const present = new Set(names);
  const client = names
    .filter((name) => name.endsWith(".cert"))
    .map((name) => {
      const key = `${name.slice(0, -".cert".length)}.key`;
      if (!present.has(key)) throw malformed(`${join(folder, name)} has no ${key} beside it`);
      return { cert: read(name), key: read(key) };
    });
  for (const name of names) {
    if (name.endsWith(".key") && !present.has(`${name.slice(0, -".key".length)}.cert`)) {
      throw malformed(`${join(folder, name)} has no ${name.slice(0, -".key".length)}.cert beside it; CA certificates end in .crt`);
    }
  }
  return { ca: names.filter((name) => name.endsWith(".crt")).map(read), client };
}

function listFolder(path: string): readonly string[] | undefined {
  try {
    return readdirSync(path).sort();
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw malformed(`${path} cannot be read (${describeCause(cause)})`, cause);
  }
}

/** Whose CAs are trusted besides the given ones: Node's own (with NODE_EXTRA_CA_CERTS), or the system's too. */
export type Roots = "default" | "default-and-system";

/**
 * A TLS context. One is made per host, not per connection: parsing a few hundred root certificates takes a tenth of a
 * second. Without other CAs than Node's own they are not parsed here at all.
 * Throws `ERR_REGISTRY_CONFIG_MALFORMED` for what OpenSSL cannot read.
 */
export function secureContext(material: TlsMaterial, roots: Roots): SecureContext {
  const [first] = material.client;
  const own = material.ca.map(toText);
  const ca = own.length === 0 && roots === "default" ? {} : { ca: [...new Set([...rootsOf(roots), ...own])] };
  try {
    return createSecureContext({
      minVersion: "TLSv1.2",
      ...ca,
      ...(first === undefined ? {} : { cert: toText(first.cert), key: toText(first.key) }),
    });
  } catch (cause) {
    throw malformed(`a CA or client certificate cannot be used (${describeCause(cause)})`, cause);
  }
}

function rootsOf(roots: Roots): readonly string[] {
  const own = getCACertificates("default");
  return roots === "default" ? own : [...own, ...getCACertificates("system")];
}

function toText(pem: Pem): string {
  return typeof pem === "string" ? pem : Buffer.from(pem).toString("latin1");
}

function malformed(message: string, cause?: unknown): RegistryError {
  return new RegistryError("ERR_REGISTRY_CONFIG_MALFORMED", { message, cause, hint: "see containers-certs.d(5) for the layout" });
}
