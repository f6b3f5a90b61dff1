import { BytesError } from "./errors.ts";

/** Bounds on a JSON document that somebody else wrote. */
export interface JsonLimits {
  readonly maxBytes: number;
  /** Nesting of arrays and objects; 64 unless told. */
  readonly maxDepth?: number;
  /** What the document is, for the message. */
  readonly subject?: string;
}

const defaultMaxDepth = 64;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Parses a JSON document of foreign origin: UTF-8 without replacement, bounded in size and depth, no member twice.
 *
 * A repeated member is refused because readers disagree which one counts (RFC 8259 section 4), and a verifier must not
 * see another document than the consumer. Throws `ERR_JSON_MALFORMED` and never repeats the content.
 */
export function parseJson(bytes: Uint8Array | string, limits: JsonLimits): unknown {
  const subject = limits.subject ?? "JSON document";
  const size = typeof bytes === "string" ? Buffer.byteLength(bytes) : bytes.length;
  if (size > limits.maxBytes) throw malformed(`${subject} has ${size} bytes, more than the limit of ${limits.maxBytes}`);
  let text: string;
  try {
    text = typeof bytes === "string" ? bytes : utf8.decode(bytes);
  } catch (cause) {
    throw malformed(`${subject} is not UTF-8`, cause);
  }
  scan(text, limits.maxDepth ?? defaultMaxDepth, subject);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // The engine's message quotes the text around the error, which may be secret.
    throw malformed(`${subject} is not valid JSON`);
  }
}

const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const comma = 0x2c;
const quote = 0x22;
const backslash = 0x5c;

/** One pass over the tokens before the real parser: depth and repeated members. Syntax errors are left to JSON.parse. */
function scan(text: string, maxDepth: number, subject: string): void {
  const stack: (Set<string> | undefined)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i += 1) {
    switch (text.charCodeAt(i)) {
      case openBrace:
      case openBracket: {
        const isObject = text.charCodeAt(i) === openBrace;
        stack.push(isObject ? new Set() : undefined);
        if (stack.length > maxDepth) throw malformed(`${subject} is nested deeper than ${maxDepth}`);
        expectKey = isObject;
        break;
      }
      case closeBrace:
      case closeBracket:
        stack.pop();
        expectKey = false;
        break;
      case comma:
        expectKey = stack.at(-1) !== undefined;
        break;
      case quote: {
        const end = endOfString(text, i);
        if (expectKey) {
          recordKey(text.slice(i, end + 1), stack.at(-1), subject);
          expectKey = false;
        }
        i = end;
        break;
      }
    }
  }
}

function recordKey(literal: string, keys: Set<string> | undefined, subject: string): void {
  let key: unknown;
  try {
    // Without an escape the name is what stands between the quotes; whether it may stand there is left to JSON.parse.
    key = literal.includes("\\") ? JSON.parse(literal) : literal.slice(1, -1);
  } catch {
    throw malformed(`${subject} is not valid JSON`);
  }
  if (typeof key !== "string" || keys === undefined) return;
  if (keys.has(key)) throw malformed(`${subject} repeats the member ${JSON.stringify(key.slice(0, 80))}`);
  keys.add(key);
}

function endOfString(text: string, start: number): number {
  for (let from = start + 1; ;) {
    const end = text.indexOf('"', from);
    if (end < 0) return text.length;
    // A quote after an odd number of backslashes is part of the string.
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === backslash) backslashes += 1;
    if (backslashes % 2 === 0) return end;
    from = end + 1;
  }
}

function malformed(message: string, cause?: unknown): BytesError {
  return new BytesError("ERR_JSON_MALFORMED", { message, cause });
}
