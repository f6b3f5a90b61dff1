import { malformed } from "./place.ts";
import { tokensOf, type Token } from "./tokens.ts";

/** What brackets may nest, so that no policy exhausts the stack. */
const maxNesting = 40;

/** Words that name nothing. Source: OPA, "Policy Reference", "Reserved Names", with those of Rego v1. */
const reserved = new Set([
  "as",
  "contains",
  "default",
  "else",
  "every",
  "false",
  "if",
  "import",
  "in",
  "not",
  "null",
  "package",
  "some",
  "true",
  "with",
]);

/** A policy's tokens, read from left to right. */
export class TokenReader {
  readonly #tokens: readonly Token[];
  readonly #end: Token;
  #position = 0;
  #nesting = 0;
  #wildcards = 0;

  constructor(source: string) {
    this.#tokens = tokensOf(source);
    this.#end = this.#tokens.at(-1) ?? { kind: "end", text: "", at: { line: 1, column: 1 }, before: "newline" };
  }

  peek(ahead = 0): Token {
    return this.#tokens[this.#position + ahead] ?? this.#end;
  }

  next(): Token {
    const token = this.peek();
    this.#position += 1;
    return token;
  }

  isAt(text: string, ahead = 0): boolean {
    const { kind, text: found } = this.peek(ahead);
    return (kind === "mark" || kind === "name") && found === text;
  }

  /** Takes the word or mark if it is the next one. */
  accept(text: string): Token | undefined {
    return this.isAt(text) ? this.next() : undefined;
  }

  expect(text: string, where: string): Token {
    const token = this.accept(text);
    if (token === undefined) throw this.unexpected(`${JSON.stringify(text)} ${where}`);
    return token;
  }

  /** A name that is no reserved word. */
  expectName(what: string): Token {
    const token = this.peek();
    if (token.kind !== "name" || reserved.has(token.text)) throw this.unexpected(what);
    return this.next();
  }

  /** A name of its own for each `_`. */
  wildcard(): string {
    this.#wildcards += 1;
    return `_#${this.#wildcards}`;
  }

  /** Runs `parse` one level of brackets deeper. */
  nested<T>(parse: () => T): T {
    if (this.#nesting >= maxNesting) throw malformed(this.peek().at, `brackets nest deeper than ${maxNesting}`);
    this.#nesting += 1;
    const result = parse();
    this.#nesting -= 1;
    return result;
  }

  unexpected(expected: string): Error {
    const { kind, text, at } = this.peek();
    if (kind === "name" && text === "with") return malformed(at, "`with` is not interpreted");
    return malformed(at, `expected ${expected}, got ${kind === "end" ? text : JSON.stringify(text.slice(0, 60))}`);
  }
}
