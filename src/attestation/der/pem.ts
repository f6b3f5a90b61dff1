import { refuse } from "../refuse.ts";

/** Longest chain that is looked at. */
const maxCertificates = 8;
const maxSize = 64 * 1024;

const block = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\r\n]*)-----END ([A-Z0-9 ]+)-----/y;

/**
 * The DER of every certificate in a PEM text, in order. Between the blocks there may be white space and, at the end, one
 * NUL (Intel's quoting library writes it); anything else is refused. At most 8 certificates in 64 KiB.
 */
export function parsePemChain(bytes: Uint8Array | string, path: string): readonly Buffer[] {
  const text = typeof bytes === "string" ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  return parsePemBlocks(text.replace(/\0$/, ""), "CERTIFICATE", path);
}

/** The DER of one PEM block of another label, such as `X509 CRL`. */
export function parsePemBlocks(text: string, label: string, path: string): readonly Buffer[] {
  if (text.length > maxSize) throw refuse("PEM_MALFORMED", { path, message: `a PEM text has more than ${maxSize} characters` });
  const found: Buffer[] = [];
  let at = skipSpace(text, 0);
  while (at < text.length) {
    block.lastIndex = at;
    const match = block.exec(text);
    const [, begin, body = "", end] = match ?? [];
    if (match === null || begin !== label || end !== label)
      throw refuse("PEM_MALFORMED", { path, message: `a PEM text holds something else than ${label} blocks` });
    const base64 = body.replaceAll(/[\r\n]/g, "");
    const der = Buffer.from(base64, "base64");
    if (der.length === 0 || der.toString("base64") !== base64)
      throw refuse("PEM_MALFORMED", { path, message: "a PEM block is not base64" });
    found.push(der);
    if (found.length > maxCertificates)
      throw refuse("PEM_MALFORMED", { path, message: `a PEM text holds more than ${maxCertificates} blocks` });
    at = skipSpace(text, block.lastIndex);
  }
  if (found.length === 0) throw refuse("PEM_MALFORMED", { path, message: `a PEM text holds no ${label}` });
  return found;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && " \t\r\n".includes(text.charAt(at))) at += 1;
  return at;
}

/** Certificates given as PEM or DER, the way users hold them in files. */
export function derOf(bytes: Uint8Array, path: string): readonly Buffer[] {
  return isPem(bytes) ? parsePemChain(bytes, path) : [Buffer.from(bytes)];
}

/** A revocation list given as PEM or DER. */
export function crlDerOf(bytes: Uint8Array, path: string): Buffer {
  if (!isPem(bytes)) return Buffer.from(bytes);
  const [der, more] = parsePemBlocks(Buffer.from(bytes).toString("latin1"), "X509 CRL", path);
  if (der === undefined || more !== undefined)
    throw refuse("PEM_MALFORMED", { path, message: "a PEM text holds more than one revocation list" });
  return der;
}

function isPem(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 64)).toString("latin1").trimStart().startsWith("-----BEGIN");
}
