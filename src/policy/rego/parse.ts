import { args, bracedBody, literal, term } from "./expressions.ts";
import { malformed, type Place } from "./place.ts";
import { TokenReader } from "./reader.ts";
import type { Body, Clause, Rule, Term } from "./syntax.ts";

const maxRules = 2000;

/** `import rego.v1` demands `if` and `contains`; without it, rules as they were written before are read as well. */
type Dialect = "v1" | "either";

const imports: ReadonlySet<string> = new Set([
  "rego.v1",
  "future.keywords",
  "future.keywords.in",
  "future.keywords.if",
  "future.keywords.every",
  "future.keywords.contains",
]);

/**
 * Reads a module of the package `policy`. Throws `ERR_POLICY_NOT_UNDERSTOOD`, with line and column.
 * Source: OPA, "Policy Reference", "Grammar", of which this is a subset.
 */
export function parseModule(source: string): readonly Rule[] {
  const reader = new TokenReader(source);
  reader.expect("package", "at the beginning of a policy");
  const { text, at } = reader.expectName("the name of the package");
  if (text !== "policy" || reader.isAt("."))
    throw malformed(at, `the package is ${text}, but what is asked is data.policy`, 'write "package policy"');
  let dialect: Dialect = "either";
  while (reader.isAt("import")) if (importLine(reader) === "rego.v1") dialect = "v1";
  const rules: Rule[] = [];
  while (reader.peek().kind !== "end") {
    if (reader.isAt("import")) throw malformed(reader.peek().at, "imports stand before the rules");
    if (reader.peek().before !== "newline") throw reader.unexpected("a new line before a rule");
    if (rules.length >= maxRules) throw malformed(reader.peek().at, `a policy has at most ${maxRules} rules`);
    rules.push(rule(reader, dialect));
  }
  return rules;
}

function importLine(reader: TokenReader): string {
  reader.expect("import", "");
  const { at, text } = reader.expectName("what to import");
  const path = [text];
  while (reader.accept(".") !== undefined) path.push(reader.next().text);
  const name = path.join(".");
  if (!imports.has(name) || reader.isAt("as")) throw malformed(at, `the import ${name.slice(0, 60)} is not interpreted`);
  return name;
}

function rule(reader: TokenReader, dialect: Dialect): Rule {
  const { at } = reader.peek();
  if (reader.isAt("default")) return defaultRule(reader, at);
  const { text: name } = reader.expectName("a rule");
  if (name === "_") throw malformed(at, "a rule has a name");
  if (reader.isAt("(")) return { name, kind: "function", args: args(reader), clauses: valueAndBodies(reader, dialect), at };
  if (reader.accept("contains") !== undefined) return partialSet(reader, dialect, { name, key: term(reader), at });
  if (reader.isAt(".")) throw malformed(reader.peek().at, "a rule has one name; references as heads are not interpreted");
  if (reader.accept("[") === undefined) return { name, kind: "complete", args: [], clauses: valueAndBodies(reader, dialect), at };
  const key = reader.nested(() => term(reader));
  reader.expect("]", "after a key");
  if (reader.isAt("[") || reader.isAt(".")) throw malformed(reader.peek().at, "references as heads are not interpreted");
  if (reader.isAt(":=") || reader.isAt("=")) {
    const clauses = valueAndBodies(reader, dialect);
    if (clauses.length > 1) throw malformed(at, "`else` does not go with a partial rule");
    return { name, kind: "partial-object", args: [], key, clauses, at };
  }
  if (reader.isAt("if") || dialect === "v1") throw malformed(at, `write "${name} contains …" for a set, "${name}[…] := …" for an object`);
  return partialSet(reader, dialect, { name, key, at });
}

function partialSet(reader: TokenReader, dialect: Dialect, head: { readonly name: string; readonly key: Term; readonly at: Place }): Rule {
  const body = optionalBody(reader, dialect) ?? [];
  if (reader.isAt("else")) throw malformed(reader.peek().at, "`else` does not go with a partial rule");
  return { ...head, kind: "partial-set", args: [], clauses: [{ value: constantTrue(head.at), body }] };
}

function defaultRule(reader: TokenReader, at: Place): Rule {
  reader.expect("default", "");
  const { text: name } = reader.expectName("the name of a rule");
  if (reader.isAt("(")) throw malformed(reader.peek().at, "a default for a function is not interpreted");
  if (reader.accept(":=") === undefined) reader.expect("=", 'or ":=" after the name of a default');
  return { name, kind: "default", args: [], clauses: [{ value: term(reader), body: [] }], at };
}

/** `:= value if body else := value if body …` */
function valueAndBodies(reader: TokenReader, dialect: Dialect): readonly Clause[] {
  const { at } = reader.peek();
  const first = assigned(reader);
  const body = optionalBody(reader, dialect);
  if (first === undefined && body === undefined) throw reader.unexpected('":=" or "if" after the head of a rule');
  const clauses: Clause[] = [{ value: first ?? constantTrue(at), body: body ?? [] }];
  while (reader.isAt("else")) {
    const { at: place } = reader.next();
    const value = assigned(reader) ?? constantTrue(place);
    clauses.push({ value, body: optionalBody(reader, dialect) ?? [] });
  }
  return clauses;
}

function assigned(reader: TokenReader): Term | undefined {
  return (reader.accept(":=") ?? reader.accept("=")) === undefined ? undefined : term(reader);
}

function optionalBody(reader: TokenReader, dialect: Dialect): Body | undefined {
  if (reader.accept("if") !== undefined) return reader.isAt("{") ? bracedBody(reader) : [literal(reader)];
  if (!reader.isAt("{")) return undefined;
  if (dialect === "v1") throw malformed(reader.peek().at, 'with "import rego.v1" a body follows "if"');
  return bracedBody(reader);
}

function constantTrue(at: Place): Term {
  return { kind: "constant", value: true, at };
}
