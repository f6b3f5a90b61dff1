import { decodeBase64Url, parseJson } from "../bytes/index.ts";
import { malformedPacket } from "./errors.ts";

/** Bounds on a wrapped key. A JWE for a thousand recipients is larger than a manifest may be. */
export const jweLimits = { maxBytes: 1 << 20, maxRecipients: 1000 } as const;

/** One way into a JWE. */
export interface JweRecipient {
  /** The per-recipient unprotected header, as it came. */
  readonly header: Readonly<Record<string, unknown>> | undefined;
  readonly encryptedKey: string | undefined;
  /** Protected, shared and per-recipient header together. Unverified until the tag was checked. */
  readonly joined: Readonly<Record<string, unknown>>;
}

/** A JWE of any serialisation, taken apart. Source: RFC 7516 section 7. */
export interface JweForm {
  readonly protected: string | undefined;
  readonly unprotected: Readonly<Record<string, unknown>> | undefined;
  readonly aad: string | undefined;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
  readonly recipients: readonly JweRecipient[];
}

/**
 * Reads compact, flattened or general serialisation. go-jose's general form repeats the first recipient's
 * `encrypted_key` at the top, against RFC 7516 section 7.2.1: it is ignored where `recipients` stands.
 * Throws `ERR_KEYWRAP_PACKET_MALFORMED`.
 */
export function parseJwe(bytes: Uint8Array): JweForm {
  if (bytes.length > jweLimits.maxBytes)
    throw malformedPacket(`a wrapped key of ${bytes.length} bytes is too large (limit ${jweLimits.maxBytes})`);
  return bytes[0] === 0x7b || bytes[0] === 0x20 || bytes[0] === 0x0a ? parseJsonForm(bytes) : parseCompact(bytes);
}

function parseCompact(bytes: Uint8Array): JweForm {
  const [head, encryptedKey, iv, ciphertext, tag, ...more] = Buffer.from(bytes).toString("latin1").trim().split(".", 6);
  if (
    head === undefined ||
    encryptedKey === undefined ||
    iv === undefined ||
    ciphertext === undefined ||
    tag === undefined ||
    more.length > 0
  ) {
    throw malformedPacket("a wrapped key in the jwe annotation is neither JSON nor compact JWE");
  }
  const joined = parseHeader(head);
  return {
    protected: head,
    unprotected: undefined,
    aad: undefined,
    iv,
    ciphertext,
    tag,
    recipients: [{ header: undefined, encryptedKey, joined }],
  };
}

function parseJsonForm(bytes: Uint8Array): JweForm {
  const value = object(parse(bytes, "JWE"), "JWE");
  const head = text(value["protected"], "protected");
  const unprotected = value["unprotected"] === undefined ? undefined : object(value["unprotected"], "unprotected");
  const shared = { ...unprotected, ...(head === undefined ? {} : parseHeader(head)) };
  const list: unknown = value["recipients"];
  if (list !== undefined && !Array.isArray(list)) throw malformedPacket("JWE member recipients is not a list");
  if (list !== undefined && list.length > jweLimits.maxRecipients)
    throw malformedPacket(`a JWE has ${list.length} recipients, more than the limit of ${jweLimits.maxRecipients}`);
  const recipients = (list ?? [value]).map((item: unknown): JweRecipient => {
    const recipient = object(item, "JWE recipient");
    const header = recipient["header"] === undefined ? undefined : object(recipient["header"], "header");
    for (const name of Object.keys(header ?? {})) {
      // Source: RFC 7516 section 7.2.1: the three headers must not share a name, or readers disagree about its value.
      if (Object.hasOwn(shared, name)) throw malformedPacket("a JWE has the same header parameter in two places");
    }
    return { header, encryptedKey: text(recipient["encrypted_key"], "encrypted_key"), joined: { ...shared, ...header } };
  });
  return {
    protected: head,
    unprotected,
    aad: text(value["aad"], "aad"),
    iv: required(value["iv"], "iv"),
    ciphertext: required(value["ciphertext"], "ciphertext"),
    tag: required(value["tag"], "tag"),
    recipients,
  };
}

function parseHeader(encoded: string): Readonly<Record<string, unknown>> {
  let bytes: Uint8Array;
  try {
    bytes = decodeBase64Url(encoded, "JWE protected header");
  } catch (cause) {
    throw malformedPacket("the protected header of a JWE is not base64url", cause);
  }
  return object(parse(bytes, "JWE protected header"), "JWE protected header");
}

function parse(bytes: Uint8Array, subject: string): unknown {
  try {
    return parseJson(bytes, { maxBytes: jweLimits.maxBytes, maxDepth: 8, subject });
  } catch (cause) {
    throw malformedPacket(`a wrapped key holds a malformed ${subject}`, cause);
  }
}

function object(value: unknown, subject: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformedPacket(`${subject} is not an object`);
  return value as Record<string, unknown>;
}

function text(value: unknown, name: string): string | undefined {
  if (value === undefined || typeof value === "string") return value;
  throw malformedPacket(`JWE member ${name} is not text`);
}

function required(value: unknown, name: string): string {
  const found = text(value, name);
  if (found === undefined) throw malformedPacket(`JWE member ${name} is missing`);
  return found;
}

/** A header parameter that is text. */
export function headerText(header: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = header[name];
  return typeof value === "string" ? value : undefined;
}
