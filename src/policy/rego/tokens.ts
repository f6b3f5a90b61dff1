import { malformed, type Place } from "./place.ts";
import { normal } from "./values.ts";

export interface Token {
  readonly kind: "name" | "number" | "string" | "mark" | "end";
  /** A name, a mark, or the text of a string. */
  readonly text: string;
  readonly number?: number | bigint | undefined;
  readonly at: Place;
  /** What stands between this token and the one before. */
  readonly before: "nothing" | "space" | "newline";
}

/** Far above any policy that people write. */
const maxTokens = 50_000;
/** A longer number is a mistake, or an attack on arithmetic. */
const maxDigits = 100;

/** What no longer mark begins with stands after it. */
const marks = [
  ":=",
  "==",
  "!=",
  "<=",
  ">=",
  "{",
  "}",
  "[",
  "]",
  "(",
  ")",
  ",",
  ";",
  ":",
  ".",
  "|",
  "&",
  "+",
  "-",
  "*",
  "/",
  "%",
  "=",
  "<",
  ">",
];

/** Sticky expressions remember where they are, so each reading has its own. */
function newPatterns() {
  return {
    space: /[ \t\r]+/y,
    comment: /#[^\n]*/y,
    name: /[A-Za-z_][A-Za-z0-9_]*/y,
    number: /(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?/y,
    string: /"(?:[^"\\\p{Cc}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy,
    raw: /`[^`]*`/y,
  } as const;
}

type Take = (kind: keyof ReturnType<typeof newPatterns>) => string | undefined;

/** Splits a policy into tokens, `end` last. Throws `ERR_POLICY_NOT_UNDERSTOOD`. Source: OPA, "Policy Reference", "Grammar". */
export function tokensOf(source: string): readonly Token[] {
  const tokens: Token[] = [];
  let offset = 0;
  let line = 1;
  let lineStart = 0;
  let before: Token["before"] = "newline";

  const patterns = newPatterns();
  const take: Take = (kind) => {
    patterns[kind].lastIndex = offset;
    return patterns[kind].exec(source)?.[0];
  };

  while (offset < source.length) {
    const at = { line, column: offset - lineStart + 1 };
    if (source[offset] === "\n") {
      offset += 1;
      line += 1;
      lineStart = offset;
      before = "newline";
      continue;
    }
    const blank = take("space") ?? take("comment");
    if (blank !== undefined) {
      offset += blank.length;
      if (before === "nothing") before = "space";
      continue;
    }
    if (tokens.length >= maxTokens) throw malformed(at, `a policy has at most ${maxTokens} words and marks`);
    const { length, ...token } = tokenAt(source, offset, at, take);
    tokens.push({ ...token, at, before });
    before = "nothing";
    const text = source.slice(offset, offset + length);
    const lastNewline = text.lastIndexOf("\n");
    if (lastNewline >= 0) {
      line += text.split("\n").length - 1;
      lineStart = offset + lastNewline + 1;
    }
    offset += length;
  }
  tokens.push({ kind: "end", text: "the end of the policy", at: { line, column: offset - lineStart + 1 }, before });
  return tokens;
}

type Taken = Pick<Token, "kind" | "text" | "number"> & { readonly length: number };

function tokenAt(source: string, offset: number, at: Place, take: Take): Taken {
  const name = take("name");
  if (name !== undefined) return { kind: "name", text: name, length: name.length };
  const number = take("number");
  if (number !== undefined) return { kind: "number", text: number, number: numberOf(number, at), length: number.length };
  const raw = take("raw");
  if (raw !== undefined) return { kind: "string", text: raw.slice(1, -1).toWellFormed(), length: raw.length };
  const quoted = take("string");
  if (quoted !== undefined) return { kind: "string", text: String(JSON.parse(quoted)).toWellFormed(), length: quoted.length };
  const mark = marks.find((candidate) => source.startsWith(candidate, offset));
  if (mark !== undefined) return { kind: "mark", text: mark, length: mark.length };
  const character = String.fromCodePoint(source.codePointAt(offset) ?? 0);
  if (character === '"' || character === "`") throw malformed(at, "a string that does not end, or has an unknown escape");
  throw malformed(at, `${JSON.stringify(character)} is not part of Rego`);
}

function numberOf(text: string, at: Place): number | bigint {
  if (text.length > maxDigits) throw malformed(at, `a number has at most ${maxDigits} digits`);
  if (/^[0-9]+$/.test(text)) return normal(BigInt(text));
  const value = Number(text);
  if (!Number.isFinite(value)) throw malformed(at, `${text} is too large`);
  return normal(value);
}
