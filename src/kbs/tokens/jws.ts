import { sign, verify } from "node:crypto";
import { decodeBase64Url, derOfP256Signature, encodeBase64Url, parseJson, rawOfP256Signature } from "../../bytes/index.ts";
import { parseOwnJson } from "../protocol/own-json.ts";
import { isObject } from "../protocol/shape.ts";
import type { SigningKey } from "./signing-key.ts";

const maxTokenLength = 1 << 20;

/** Headers that somebody uses again, each with one key. */
const encodedHeaders = new WeakMap<object, string>();

/**
 * A compact JWS over JSON. Signed in place, not on the thread pool: it takes less time than the hand-over. A header object
 * belongs to one key. Source: RFC 7515 section 7.1.
 */
export function signCompact(
  header: Readonly<Record<string, unknown>>,
  payload: Readonly<Record<string, unknown>>,
  key: SigningKey,
): string {
  const encode = (value: unknown) => encodeBase64Url(Buffer.from(JSON.stringify(value), "utf8"));
  const head = encodedHeaders.get(header) ?? encode({ ...header, alg: key.algorithm });
  encodedHeaders.set(header, head);
  const input = `${head}.${encode(payload)}`;
  const bytes = Buffer.from(input, "ascii");
  const signature =
    key.algorithm === "ES256" ? rawOfP256Signature(sign("sha256", bytes, key.privateKey)) : sign(null, bytes, key.privateKey);
  return `${input}.${encodeBase64Url(signature)}`;
}

/** The header and payload of a compact JWS whose signature was not looked at, and what verifies it. */
export interface UnverifiedJws {
  /** `undefined` when the header names none. */
  readonly kid: string | undefined;
  /** The payload when the signature is the key's, by the key's own algorithm; `undefined` when it is not. */
  verify(key: Pick<SigningKey, "algorithm" | "publicKey">): Readonly<Record<string, unknown>> | undefined;
  /** The payload of a token that the caller knows, bit for bit, to have been signed in this process. */
  payloadSignedHere(): Readonly<Record<string, unknown>> | undefined;
}

/**
 * Takes a compact JWS apart; `undefined` when it is none. For tokens that we signed ourselves: verifying one is most of
 * what a release costs, and here it takes a third of the time that it takes through WebCrypto and its thread pool.
 *
 * The algorithm is the key's; a header that names another one does not verify, nor one with critical extensions.
 * Source: RFC 7515 sections 4.1.11 and 5.2.
 */
export function openCompact(token: string): UnverifiedJws | undefined {
  if (token.length > maxTokenLength) return undefined;
  const [head, body, signature, ...rest] = token.split(".");
  if (head === undefined || body === undefined || signature === undefined || rest.length > 0) return undefined;
  const header = headerIn(head);
  if (header === undefined || "crit" in header || "b64" in header) return undefined;
  const { alg, kid } = header;
  return {
    kid: typeof kid === "string" ? kid : undefined,
    verify: (key) => {
      if (alg !== key.algorithm) return undefined;
      const bytes = Buffer.from(`${head}.${body}`, "ascii");
      const signed = bytesIn(signature);
      // Both algorithms have signatures of 64 bytes. Source: RFC 7518 section 3.4, RFC 8032 section 5.1.6.
      if (signed?.length !== 64) return undefined;
      const good =
        key.algorithm === "ES256"
          ? verify("sha256", bytes, key.publicKey, derOfP256Signature(signed))
          : verify(null, bytes, key.publicKey, signed);
      return good ? ownPayload(body) : undefined;
    },
    payloadSignedHere: () => ownPayload(body),
  };
}

/** The signature is ours, hence the text too. */
function ownPayload(body: string): Readonly<Record<string, unknown>> | undefined {
  const value = parseOwnJson(Buffer.from(body, "base64url"));
  return isObject(value) ? value : undefined;
}

function bytesIn(text: string): Buffer | undefined {
  try {
    return decodeBase64Url(text);
  } catch {
    // Another spelling of the same bytes is another token: not ours.
    return undefined;
  }
}

/** Every token of one key has the same header, certificates included: those last seen are not parsed again. */
const headers = new Map<string, Readonly<Record<string, unknown>>>();
const maxHeaders = 16;
const maxKeptHeader = 8 << 10;

function headerIn(text: string): Readonly<Record<string, unknown>> | undefined {
  const known = headers.get(text);
  if (known !== undefined) return known;
  const header = objectIn(text);
  if (header === undefined || text.length > maxKeptHeader) return header;
  if (headers.size >= maxHeaders) headers.clear();
  headers.set(text, header);
  return header;
}

function objectIn(text: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = bytesIn(text);
  if (bytes === undefined) return undefined;
  try {
    const value = parseJson(bytes, { maxBytes: maxTokenLength });
    return isObject(value) ? value : undefined;
  } catch {
    // Whatever does not parse is no token.
    return undefined;
  }
}
