import { malformed, type Place } from "./place.ts";
import type { TokenReader } from "./reader.ts";
import type { Body, Literal, Operator, Term } from "./syntax.ts";

/** Binary operators by how loosely they bind. Source: OPA, "Policy Reference", "Grammar". */
const levels: readonly (readonly Operator[])[] = [["in"], ["==", "!=", "<", "<=", ">", ">="], ["|"], ["&"], ["+", "-"], ["*", "/", "%"]];

const maxPath = 50;

/** Where a `|` begins the body of a comprehension, it is no operator. */
type Pipe = "operator" | "comprehension";

const constants: ReadonlyMap<string, null | boolean> = new Map([
  ["null", null],
  ["true", true],
  ["false", false],
]);

/** A term with its operators. */
export function term(reader: TokenReader, pipe: Pipe = "operator", level = 0): Term {
  const operators = levels[level];
  if (operators === undefined) return operand(reader);
  let left = term(reader, pipe, level + 1);
  for (;;) {
    const operator = operators.find((candidate) => reader.isAt(candidate));
    if (operator === undefined || (operator === "|" && pipe === "comprehension")) return left;
    const { at } = reader.next();
    left = { kind: "operation", operator, left, right: term(reader, pipe, level + 1), at };
  }
}

function operand(reader: TokenReader): Term {
  const start = reader.peek();
  if (start.kind === "string") return follow(reader, { kind: "constant", value: reader.next().text, at: start.at });
  if (start.kind === "number" && start.number !== undefined) {
    reader.next();
    return { kind: "constant", value: start.number, at: start.at };
  }
  if (reader.isAt("-") && reader.peek(1).kind === "number" && reader.peek(1).before === "nothing") {
    reader.next();
    const { number = 0 } = reader.next();
    return { kind: "constant", value: -number, at: start.at };
  }
  const constant = start.kind === "name" ? constants.get(start.text) : undefined;
  if (constant !== undefined) {
    reader.next();
    return { kind: "constant", value: constant, at: start.at };
  }
  if (reader.isAt("["))
    return follow(
      reader,
      reader.nested(() => arrayTerm(reader)),
    );
  if (reader.isAt("{"))
    return follow(
      reader,
      reader.nested(() => bracedTerm(reader)),
    );
  if (reader.accept("(") !== undefined) {
    const inner = reader.nested(() => term(reader));
    reader.expect(")", "after a term in parentheses");
    return inner;
  }
  // `contains` is a word of rule heads and a function as well.
  const isContains = reader.isAt("contains") && reader.isAt("(", 1);
  const { text } = isContains ? reader.next() : reader.expectName("a term");
  const name = text === "_" ? reader.wildcard() : text;
  return follow(reader, { kind: "name", name, at: start.at });
}

/** `.name`, `[term]` and `(arguments)`, each right behind what it follows. */
function follow(reader: TokenReader, head: Term): Term {
  let result = head;
  let path: Term[] = [];
  const { at } = head;
  const whole = (): Term => (path.length === 0 ? result : { kind: "reference", head: result, path, at });
  while (reader.peek().before === "nothing") {
    if (path.length >= maxPath) throw malformed(reader.peek().at, `a reference has at most ${maxPath} steps`);
    if (reader.accept(".") !== undefined) {
      const { kind, text, at: place, before } = reader.next();
      if (kind !== "name" || before !== "nothing") throw malformed(place, "expected a name right after the dot");
      path.push({ kind: "constant", value: text, at: place });
    } else if (reader.accept("[") !== undefined) {
      path.push(reader.nested(() => term(reader)));
      reader.expect("]", "after a key");
    } else if (reader.isAt("(")) {
      const name = functionName(whole());
      if (name === undefined) throw malformed(reader.peek().at, "only functions can be called");
      result = { kind: "call", name, args: reader.nested(() => args(reader)), at };
      path = [];
    } else break;
  }
  return whole();
}

/** `regex.match`, `data.policy.f`: names joined with dots. */
function functionName(callee: Term): string | undefined {
  if (callee.kind === "name") return callee.name;
  if (callee.kind !== "reference" || callee.head.kind !== "name") return undefined;
  const parts = callee.path.map((part) => (part.kind === "constant" && typeof part.value === "string" ? part.value : undefined));
  return parts.includes(undefined) ? undefined : [callee.head.name, ...parts].join(".").replace(/^data\.policy\./, "");
}

/** Terms in parentheses, with commas between them. */
export function args(reader: TokenReader): readonly Term[] {
  reader.expect("(", "before arguments");
  return list(reader, ")");
}

function list(reader: TokenReader, end: ")" | "]" | "}", first: readonly Term[] = []): readonly Term[] {
  const items = [...first];
  while (reader.accept(end) === undefined) {
    if (items.length > 0) reader.expect(",", `or ${JSON.stringify(end)} after a term`);
    if (items.length > 0 && reader.accept(end) !== undefined) break;
    items.push(term(reader));
  }
  return items;
}

function arrayTerm(reader: TokenReader): Term {
  const { at } = reader.expect("[", "before an array");
  if (reader.accept("]") !== undefined) return { kind: "array", items: [], at };
  const head = term(reader, "comprehension");
  if (reader.accept("|") !== undefined) return { kind: "array-comprehension", head, body: bodyUntil(reader, "]"), at };
  return { kind: "array", items: list(reader, "]", [head]), at };
}

function bracedTerm(reader: TokenReader): Term {
  const { at } = reader.expect("{", "before an object or a set");
  if (reader.accept("}") !== undefined) return { kind: "object", entries: [], at };
  const head = term(reader, "comprehension");
  if (reader.accept(":") !== undefined) return objectTerm(reader, head, at);
  if (reader.accept("|") !== undefined) return { kind: "set-comprehension", head, body: bodyUntil(reader, "}"), at };
  return { kind: "set", items: list(reader, "}", [head]), at };
}

function objectTerm(reader: TokenReader, key: Term, at: Place): Term {
  const head = term(reader, "comprehension");
  if (reader.accept("|") !== undefined) return { kind: "object-comprehension", key, head, body: bodyUntil(reader, "}"), at };
  const entries: (readonly [Term, Term])[] = [[key, head]];
  while (reader.accept("}") === undefined) {
    reader.expect(",", 'or "}" after a member');
    if (reader.accept("}") !== undefined) break;
    const next = term(reader);
    reader.expect(":", "after a key");
    entries.push([next, term(reader)]);
  }
  return { kind: "object", entries, at };
}

const maxLiterals = 500;

/** What stands in braces after `if`. */
export function bracedBody(reader: TokenReader): Body {
  reader.expect("{", "before a body");
  return reader.nested(() => bodyUntil(reader, "}"));
}

/** Conditions, each on a line of its own or after a semicolon, and the bracket that ends them. */
export function bodyUntil(reader: TokenReader, end: "}" | "]"): Body {
  const body: Literal[] = [];
  for (;;) {
    while (reader.accept(";") !== undefined);
    const closing = reader.accept(end);
    if (closing !== undefined) {
      if (body.length === 0) throw malformed(closing.at, "a body has at least one condition");
      return body;
    }
    if (body.length > 0 && reader.peek().before !== "newline" && !reader.isAt(";", -1))
      throw reader.unexpected(`a new line, ";" or ${JSON.stringify(end)} after a condition`);
    if (body.length >= maxLiterals) throw malformed(reader.peek().at, `a body has at most ${maxLiterals} conditions`);
    body.push(literal(reader));
  }
}

/** One condition. */
export function literal(reader: TokenReader): Literal {
  const { at } = reader.peek();
  if (reader.accept("not") !== undefined) {
    const negated = reader.nested(() => literal(reader));
    if (negated.kind !== "holds" && negated.kind !== "unify") throw malformed(negated.at, "only a plain condition can be negated");
    return { kind: "not", literal: negated, at };
  }
  if (reader.isAt("some")) return someLiteral(reader);
  if (reader.isAt("every")) return everyLiteral(reader);
  const left = term(reader);
  if (reader.accept(":=") !== undefined) return { kind: "assign", target: left, value: term(reader), at };
  if (reader.accept("=") !== undefined) return { kind: "unify", left, right: term(reader), at };
  if (reader.isAt("with")) throw reader.unexpected("");
  return { kind: "holds", term: left, at };
}

/** `some x, y` declares; `some x in xs` and `some k, v in xs` go through a collection. */
function someLiteral(reader: TokenReader): Literal {
  const { at } = reader.expect("some", "");
  const patterns: Term[] = [];
  do patterns.push(term(reader));
  while (reader.accept(",") !== undefined);
  const last = patterns.at(-1);
  // The collection has been read as the right side of `in`, which binds loosest.
  if (last?.kind === "operation" && last.operator === "in") {
    if (patterns.length > 2) throw malformed(at, "`some` takes a key and a value of a collection");
    return { kind: "some-in", key: patterns.length === 2 ? patterns[0] : undefined, value: last.left, collection: last.right, at };
  }
  const names = patterns.map((pattern) => {
    if (pattern.kind !== "name" || pattern.name.includes("#")) throw malformed(pattern.at, "expected the name of a variable");
    return pattern.name;
  });
  return { kind: "some", names, at };
}

function everyLiteral(reader: TokenReader): Literal {
  const { at } = reader.expect("every", "");
  const first = variable(reader);
  const second = reader.accept(",") === undefined ? undefined : variable(reader);
  reader.expect("in", "after the variables of `every`");
  const collection = term(reader);
  const body = bracedBody(reader);
  return second === undefined
    ? { kind: "every", key: undefined, value: first, collection, body, at }
    : { kind: "every", key: first, value: second, collection, body, at };
}

function variable(reader: TokenReader): string {
  const { text } = reader.expectName("the name of a variable");
  return text === "_" ? reader.wildcard() : text;
}
