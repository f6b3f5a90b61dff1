import { parseJson } from "../../bytes/index.ts";
import { AttestationError } from "../errors.ts";

/** The exact bytes of one member's value in a JSON object, and the signature beside it. */
export interface SignedBody {
  readonly value: Buffer;
  readonly signature: Buffer;
}

const maxBodySize = 1 << 20;

/**
 * Takes `{"<member>":{…},"signature":"<hex>"}` apart without re-serialising: the vendor signed the bytes as served.
 * Throws `ERR_COLLATERAL_MALFORMED`. A missing signature gives an empty one, for verification to refuse.
 */
export function splitSignedBody(body: Uint8Array, member: "tcbInfo" | "enclaveIdentity"): SignedBody {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8");
  const parsed = parseJson(body, { maxBytes: maxBodySize, subject: "collateral" });
  if (typeof parsed !== "object" || parsed === null || !(member in parsed)) throw malformed(`the collateral has no member ${member}`);
  const signature = "signature" in parsed ? parsed.signature : "";
  const range = memberRange(text, member);
  if (range === undefined || typeof signature !== "string")
    throw malformed(`the collateral has no member ${member}, or its signature is no text`);
  return { value: Buffer.from(text.slice(range.start, range.end), "utf8"), signature: hexOrNothing(signature) };
}

/** The body that such an answer would have had, from its parts. */
export function joinSignedBody(member: "tcbInfo" | "enclaveIdentity", value: string, signature: string): Buffer {
  return Buffer.from(`{"${member}":${value},"signature":${JSON.stringify(signature)}}`, "utf8");
}

function hexOrNothing(text: string): Buffer {
  return /^(?:[0-9a-fA-F]{2})*$/.test(text) ? Buffer.from(text, "hex") : Buffer.alloc(0);
}

/** Where a top-level member's value stands in a JSON text that has been parsed successfully (so syntax needs no checks). */
function memberRange(text: string, member: string): { readonly start: number; readonly end: number } | undefined {
  let at = text.indexOf("{") + 1;
  while (at > 0 && at < text.length) {
    const keyStart = text.indexOf('"', at);
    if (keyStart < 0) return undefined;
    const keyEnd = endOfString(text, keyStart);
    const start = skipSpace(text, text.indexOf(":", keyEnd) + 1);
    const end = endOfValue(text, start);
    if (JSON.parse(text.slice(keyStart, keyEnd)) === member) return { start, end };
    at = skipSpace(text, end) + 1;
  }
  return undefined;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (" \t\r\n".includes(text.charAt(at)) && at < text.length) at += 1;
  return at;
}

function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function endOfValue(text: string, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const character = text.charAt(at);
    if (character === '"') {
      at = endOfString(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (character === "{" || character === "[") depth += 1;
    if (character === "}" || character === "]") {
      depth -= 1;
      if (depth < 0) return at;
      if (depth === 0) return at + 1;
    }
    if (depth === 0 && ", \t\r\n".includes(character)) return at;
    at += 1;
  }
  return at;
}

function malformed(message: string): AttestationError {
  return new AttestationError("ERR_COLLATERAL_MALFORMED", {
    message,
    hint: "give the vendor's answer byte for byte, or one of the formats that `attest collateral import` reads",
  });
}
