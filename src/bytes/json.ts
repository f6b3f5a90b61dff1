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
    text = typeof bytes === "string" ? bytes : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
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

/** One pass over the tokens before the real parser: depth and repeated members. Syntax errors are left to JSON.parse. */
function scan(text: string, maxDepth: number, subject: string): void {
  const stack: (Set<string> | undefined)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i += 1) {
    switch (text.charAt(i)) {
      case "{":
      case "[": {
        const isObject = text[i] === "{";
        stack.push(isObject ? new Set() : undefined);
        if (stack.length > maxDepth) throw malformed(`${subject} is nested deeper than ${maxDepth}`);
        expectKey = isObject;
        break;
      }
      case "}":
      case "]":
        stack.pop();
        expectKey = false;
        break;
      case ",":
        expectKey = stack.at(-1) !== undefined;
        break;
      case '"': {
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
    key = JSON.parse(literal);
  } catch {
    throw malformed(`${subject} is not valid JSON`);
  }
  if (typeof key !== "string" || keys === undefined) return;
  if (keys.has(key)) throw malformed(`${subject} repeats the member ${JSON.stringify(key.slice(0, 80))}`);
  keys.add(key);
}

function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === '"') return i;
  }
  return text.length;
}

function malformed(message: string, cause?: unknown): BytesError {
  return new BytesError("ERR_JSON_MALFORMED", { message, cause });
}
