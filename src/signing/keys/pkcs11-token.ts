import { readFile } from "node:fs/promises";
import type { CallOptions } from "../../store/index.ts";
import { keyServiceError } from "./checked-signer.ts";
import { runKeyProgram, type ProgramResult } from "./key-program.ts";
import { loadPublicKey, type PublicKey } from "./public-key.ts";

/** What a PKCS#11 URI does not say. */
export interface Pkcs11Access {
  /** The module when the URI has no `module-path`; the command line reads `COSIGN_PKCS11_MODULE_PATH`. */
  readonly modulePath?: string | undefined;
  /** The user's PIN when the URI has neither `pin-value` nor `pin-source`; the command line reads `COSIGN_PKCS11_PIN`. */
  readonly pin?: string | undefined;
  /** What the module finds in its environment: `SOFTHSM2_CONF`, `PATH`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `pkcs11-tool` on PATH unless told. */
  readonly program?: string | undefined;
}

/** A key pair in a token: its public half, and the program that uses the private one. */
export interface TokenKey {
  /** The URI without query, which may hold the PIN. */
  readonly name: string;
  /** SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  readonly publicKey: PublicKey;
  /** Logs in and runs one operation with the private key: flags of `pkcs11-tool`, what it reads on stdin. */
  use(operation: readonly string[], input: Uint8Array, options?: CallOptions): Promise<ProgramResult>;
}

/**
 * Finds a key pair by its URI: `pkcs11:token=…;object=…?module-path=…` (RFC 7512).
 *
 * OpenSC's `pkcs11-tool` talks to the module. A binding would load the vendor's library, and run its code, in our own
 * process; and every npm binding compiles at install, which this package does not do. Throws `ERR_KEY_SERVICE`.
 */
export async function openTokenKey(reference: string, access: Pkcs11Access, options: CallOptions = {}): Promise<TokenKey> {
  const token = await parsePkcs11Uri(reference, access);
  const listed = outputOf(token, await runTool(token, ["--list-objects", "--type", "pubkey"], Buffer.alloc(0), options));
  const object = chooseObject(parseObjects(listed.toString("utf8")), token);
  // The tool finds a private key by its ID only, whatever label it is given (measured with OpenSC 0.23).
  const byId = ["--id", object.id];
  const read = ["--read-object", "--type", "pubkey", ...byId];
  const spki = object.spki ?? outputOf(token, await runTool(token, read, Buffer.alloc(0), options));
  const login = ["--login", "--pin", `env:${pinVariable}`];
  return {
    name: token.name,
    spki,
    publicKey: loadPublicKey({ bytes: spki, source: token.name }),
    use: (operation, input, useOptions = {}) => runTool(token, [...login, ...operation, ...byId], input, useOptions),
  };
}

/** What the program wrote. Throws `ERR_KEY_SERVICE` when it failed or wrote nothing. */
export function outputOf({ name }: { readonly name: string }, { code, stdout, stderr }: ProgramResult): Buffer {
  if (code === 0 && stdout.length > 0) return stdout;
  throw keyServiceError(
    `${name}: the token's program ended with ${code} (${stderr})`,
    "check token, object and PIN (pkcs11-tool --list-objects --login)",
  );
}

/** A public key as `pkcs11-tool --list-objects` shows it. */
interface TokenObject {
  readonly label: string | undefined;
  /** Hex. */
  readonly id: string;
  /** Of EC keys: the tool reads P-256 only as such (OpenSC 0.23), but lists point and curve of all. */
  readonly spki: Buffer | undefined;
}

/**
 * Reads the listing. OpenSC 0.27 writes short IDs as `10 (0x0a)`, longer ones with colons, and long values on several lines;
 * 0.23 to 0.26 write plain hex, and the names of the members in capitals (measured).
 */
function parseObjects(text: string): readonly TokenObject[] {
  return text.split(/^(?=Public Key Object)/m).flatMap((block) => {
    const id = hexOf(block, "ID");
    if (id === undefined) return [];
    const point = hexOf(block, "EC[_ ]POINT");
    const curve = hexOf(block, "EC[_ ]PARAMS");
    const label = /^\s+label:\s+(\S.*?)\s*$/m.exec(block)?.[1];
    return [{ label, id, spki: point === undefined || curve === undefined ? undefined : ecSpki(point, curve) }];
  });
}

function hexOf(block: string, name: string): string | undefined {
  const found = new RegExp(`^[ \\t]+${name}:[ \\t]+(?:\\d+ \\(0x)?([0-9a-f:]+(?:\\n {14}[0-9a-f:]+)*)`, "im").exec(block)?.[1];
  const hex = found?.replace(/[:\s]/g, "").toLowerCase() ?? "";
  return /^(?:[0-9a-f]{2})+$/.test(hex) ? hex : undefined;
}

/** SubjectPublicKeyInfo from CKA_EC_POINT (an OCTET STRING) and CKA_EC_PARAMS (the curve's OID). RFC 5480 section 2. */
function ecSpki(point: string, curve: string): Buffer {
  const octets = Buffer.from(point, "hex");
  // Tag and length come off: one byte of length below 128, two up to 255 (P-521).
  const content = octets.subarray((octets[1] ?? 0) < 0x80 ? 2 : 3);
  const ecPublicKey = Buffer.from("06072a8648ce3d0201", "hex");
  return der(0x30, der(0x30, ecPublicKey, Buffer.from(curve, "hex")), der(0x03, Buffer.of(0), content));
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(tag, ...(content.length < 0x80 ? [content.length] : [0x81, content.length])), content]);
}

function chooseObject(objects: readonly TokenObject[], { name, label, id }: Token): TokenObject {
  const found = objects.filter((object) => (label === undefined || object.label === label) && (id === undefined || object.id === id));
  const [object, ...more] = found;
  if (object !== undefined && more.length === 0) return object;
  throw keyServiceError(
    `${name} names ${found.length} public keys with an ID (expected exactly one)`,
    "say more (token, object, id); the key pair needs an ID, and its public key must be in the token",
  );
}

interface Token {
  /** The URI without query, which may hold the PIN. */
  readonly name: string;
  readonly program: string;
  readonly module: readonly string[];
  readonly label: string | undefined;
  /** Hex. */
  readonly id: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The PIN travels in the environment of the program: arguments are everybody's to read. */
const pinVariable = "OCISEAL_PKCS11_PIN";

async function parsePkcs11Uri(reference: string, { modulePath, pin, env, program = "pkcs11-tool" }: Pkcs11Access): Promise<Token> {
  const [path = "", query = ""] = reference.replace(/^pkcs11:/, "").split("?", 2);
  const attributes = attributesOf(path, ";");
  const more = attributesOf(query, "&");
  const module = more.get("module-path") ?? modulePath;
  const label = attributes.get("object");
  const id = attributes.get("id");
  const name = `pkcs11:${path.slice(0, 200)}`;
  if (!reference.startsWith("pkcs11:") || module === undefined || (label === undefined && id === undefined)) {
    throw keyServiceError(
      `${name} does not say which key of which module`,
      "write pkcs11:token=LABEL;object=LABEL?module-path=FILE, or set COSIGN_PKCS11_MODULE_PATH",
    );
  }
  const tokenLabel = attributes.get("token");
  const slot = attributes.get("slot-id");
  return {
    name,
    program,
    module: [
      "--module",
      module,
      ...(tokenLabel === undefined ? [] : ["--token-label", tokenLabel]),
      ...(slot === undefined ? [] : ["--slot", slot]),
    ],
    label,
    id: id === undefined ? undefined : Buffer.from(id, "latin1").toString("hex"),
    env: { ...env, [pinVariable]: more.get("pin-value") ?? (await readPin(more.get("pin-source"), name)) ?? pin ?? "" },
  };
}

function attributesOf(text: string, separator: string): ReadonlyMap<string, string> {
  const pairs = text.split(separator).filter((part) => part !== "");
  return new Map(
    pairs.map((part) => {
      const at = part.indexOf("=");
      return [part.slice(0, Math.max(at, 0)), percentDecode(part.slice(at + 1))];
    }),
  );
}

/** Each escaped byte becomes one character: `id` is bytes. Source: RFC 7512 section 2.3. */
function percentDecode(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** The PIN in a file. Source: RFC 7512 section 2.4, `pin-source`; its other form runs a program, which is not wanted here. */
async function readPin(source: string | undefined, name: string): Promise<string | undefined> {
  if (source === undefined) return undefined;
  const path = source.replace(/^file:(?:\/\/)?/, "");
  try {
    if (path.startsWith("/")) return (await readFile(path, "utf8")).replace(/\r?\n$/, "");
  } catch (cause) {
    throw keyServiceError(`${name}: the file of its pin-source cannot be read`, "check the path and who may read it", cause);
  }
  throw keyServiceError(`${name} has a pin-source that is no absolute path`, "write pin-source=file:/path/of/the/pin");
}

function runTool(
  { program, module, env, name }: Token,
  args: readonly string[],
  input: Uint8Array,
  { signal }: CallOptions,
): Promise<ProgramResult> {
  return runKeyProgram({ program, args: [...module, ...args], env, input, subject: name, ...(signal === undefined ? {} : { signal }) });
}
