import { builtins } from "./builtins.ts";
import { malformed, type Place } from "./place.ts";
import { checkWidth, patternNames, Scope } from "./scope.ts";
import type { Body, Literal, Rule, RuleGroup, Term } from "./syntax.ts";

/** What terms and bodies of one rule nest. */
const maxDepth = 60;

/** What a policy is for; reference values are known to appraisals only. */
export type Purpose = "release" | "appraisal";

/** May a variable without a value get one here? Under `not` it may not. */
type Binding = "may-bind" | "may-not-bind";

/** Checks the rules of one policy: names, variables, functions. Everything throws `ERR_POLICY_NOT_UNDERSTOOD`. */
export class Checker {
  readonly #groups: ReadonlyMap<string, RuleGroup>;
  readonly #purpose: Purpose;
  #uses: Map<string, Place> = new Map();
  #depth = 0;
  #deepest = 0;

  constructor(groups: ReadonlyMap<string, RuleGroup>, purpose: Purpose) {
    this.#groups = groups;
    this.#purpose = purpose;
  }

  /** The rules that a rule uses, each with one place, and how deep it nests. */
  rule(rule: Rule): { readonly uses: ReadonlyMap<string, Place>; readonly depth: number } {
    this.#uses = new Map();
    this.#deepest = 0;
    const parameters = new Scope();
    const names = rule.args.flatMap(patternNames);
    for (const { name, at } of names) if (!parameters.isBound(name)) parameters.declare(name, at, "bound");
    for (const { value, body } of rule.clauses) {
      const scope = this.#body(
        body,
        parameters,
        names.map(({ name }) => name),
      );
      if (rule.key !== undefined) this.#value(rule.key, scope, "may-bind");
      this.#value(value, scope, "may-bind");
    }
    return { uses: this.#uses, depth: this.#deepest };
  }

  #body(body: Body, around: Scope, parameters: readonly string[] = []): Scope {
    const scope = new Scope(around);
    const declared = body.flatMap((literal) => declaredBy(literal));
    for (const { name, at } of declared) if (parameters.includes(name)) throw malformed(at, `${name} is a parameter already`);
    scope.announce(declared.map(({ name }) => name));
    for (const literal of body) this.#literal(literal, scope, "may-bind");
    return scope;
  }

  #literal(literal: Literal, scope: Scope, binding: Binding): void {
    switch (literal.kind) {
      case "holds":
        return this.#value(literal.term, scope, binding);
      case "not":
        return this.#literal(literal.literal, scope, "may-not-bind");
      case "unify":
        return this.#unify(literal.left, literal.right, scope, binding);
      case "assign":
        this.#value(literal.value, scope, binding);
        break;
      case "some-in":
        this.#value(literal.collection, scope, binding);
        break;
      case "some":
        break;
      case "every":
        return this.#every(literal, scope, binding);
    }
    const value = literal.kind === "some" ? "unbound" : "bound";
    const seen = new Set<string>();
    for (const { name, at } of declaredBy(literal)) {
      if (!seen.has(name)) scope.declare(name, at, value);
      seen.add(name);
    }
  }

  #every(literal: Extract<Literal, { readonly kind: "every" }>, scope: Scope, binding: Binding): void {
    this.#value(literal.collection, scope, binding);
    const variables = new Scope(scope);
    if (literal.key !== undefined) variables.declare(literal.key, literal.at, "bound");
    variables.declare(literal.value, literal.at, "bound");
    this.#deeper(literal.at, () => scope.close(this.#body(literal.body, variables)));
  }

  #unify(left: Term, right: Term, scope: Scope, binding: Binding): void {
    const [value, pattern] = this.#isKnown(left, scope) ? [left, right] : [right, left];
    this.#value(value, scope, binding);
    this.#pattern(pattern, scope, binding);
  }

  /** Whether a pattern holds no variable without a value. */
  #isKnown(pattern: Term, scope: Scope): boolean {
    if (pattern.kind === "name") return !this.#isFree(pattern.name, scope);
    if (pattern.kind === "array") return pattern.items.every((item) => this.#isKnown(item, scope));
    return pattern.kind !== "object" || pattern.entries.every(([, value]) => this.#isKnown(value, scope));
  }

  #isFree(name: string, scope: Scope): boolean {
    if (scope.isVariable(name)) return !scope.isBound(name);
    return name !== "input" && name !== "data" && !this.#groups.has(name);
  }

  #pattern(pattern: Term, scope: Scope, binding: Binding): void {
    if (this.#isKnown(pattern, scope)) return this.#value(pattern, scope, binding);
    checkWidth(pattern);
    if (pattern.kind === "name") {
      if (binding === "may-not-bind")
        throw malformed(pattern.at, `${spelled(pattern.name)} has no value here, and under "not" it gets none`);
      scope.bind(pattern.name, pattern.at);
    } else if (pattern.kind === "array")
      this.#deeper(pattern.at, () => pattern.items.forEach((item) => this.#pattern(item, scope, binding)));
    else if (pattern.kind === "object") {
      this.#deeper(pattern.at, () => {
        for (const [key, value] of pattern.entries) {
          this.#value(key, scope, binding);
          this.#pattern(value, scope, binding);
        }
      });
    }
  }

  #value(term: Term, scope: Scope, binding: Binding): void {
    this.#deeper(term.at, () => this.#valueInside(term, scope, binding));
  }

  #deeper(at: Place, check: () => void): void {
    if (this.#depth >= maxDepth) throw malformed(at, `terms nest deeper than ${maxDepth}`);
    this.#depth += 1;
    this.#deepest = Math.max(this.#deepest, this.#depth);
    check();
    this.#depth -= 1;
  }

  #valueInside(term: Term, scope: Scope, binding: Binding): void {
    switch (term.kind) {
      case "constant":
        return;
      case "name":
        return this.#name(term.name, term.at, scope);
      case "reference":
        return this.#reference(term, scope, binding);
      case "call":
        return this.#call(term, scope, binding);
      case "array":
      case "set":
        for (const item of term.items) this.#value(item, scope, binding);
        return;
      case "object":
        for (const [key, value] of term.entries) {
          this.#value(key, scope, binding);
          this.#value(value, scope, binding);
        }
        return;
      case "operation":
        this.#value(term.left, scope, binding);
        this.#value(term.right, scope, binding);
        return;
      case "array-comprehension":
      case "set-comprehension":
      case "object-comprehension": {
        const inner = this.#body(term.body, scope);
        if (term.kind === "object-comprehension") this.#value(term.key, inner, "may-bind");
        this.#value(term.head, inner, "may-bind");
        scope.close(inner);
      }
    }
  }

  #name(name: string, at: Place, scope: Scope): void {
    scope.checkUse(name, at);
    if (scope.isBound(name) || (name === "input" && !scope.isVariable(name))) return;
    if (scope.isVariable(name)) throw malformed(at, `${name} has no value here; put the condition that gives it one further up`);
    if (name === "data") throw malformed(at, "data is asked for one member at a time");
    const group = this.#groups.get(name);
    if (group === undefined) throw malformed(at, `${spelled(name)} is no rule, and no variable with a value here`);
    if (group.kind === "function") throw malformed(at, `${name} is a function`);
    this.#uses.set(name, at);
  }

  #reference({ head, path }: Extract<Term, { readonly kind: "reference" }>, scope: Scope, binding: Binding): void {
    let rest = path;
    if (head.kind === "name" && head.name === "data") {
      const [first, second] = path.map((part) => (part.kind === "constant" && typeof part.value === "string" ? part.value : undefined));
      if (first === undefined) throw malformed(head.at, "what follows data is a constant name");
      rest = path.slice(1);
      if (first === "policy") {
        if (second === undefined) throw malformed(head.at, "the package is asked for one rule at a time");
        this.#name(second, head.at, new Scope());
        rest = path.slice(2);
      }
    } else this.#value(head, scope, binding);
    for (const key of rest) {
      if (this.#isKnown(key, scope)) this.#value(key, scope, binding);
      else this.#pattern(key, scope, binding);
    }
  }

  #call({ name, args, at }: Extract<Term, { readonly kind: "call" }>, scope: Scope, binding: Binding): void {
    if (name === "set" && args.length === 0) return;
    const group = this.#groups.get(name);
    const builtin = builtins.get(name);
    if (scope.isVariable(name) || (group === undefined && builtin === undefined))
      throw malformed(at, `the function ${name.slice(0, 60)} is not known`, `known are ${[...builtins.keys()].join(", ")}`);
    if (group !== undefined && group.kind !== "function") throw malformed(at, `${name} is not a function`);
    if (group === undefined && name === "query_reference_value" && this.#purpose === "release")
      throw malformed(at, "reference values are for attestation policies", "look at ear.status of the token's submods");
    const arity = group?.arity ?? builtin?.arity;
    if (args.length !== arity) throw malformed(at, `${name} takes ${arity} argument(s), got ${args.length}`);
    if (group === undefined)
      builtin?.check?.(
        args.map((arg) => (arg.kind === "constant" ? arg.value : undefined)),
        (message) => malformed(at, message),
      );
    else this.#uses.set(name, at);
    for (const arg of args) this.#value(arg, scope, binding);
  }
}

function declaredBy(literal: Literal): readonly { readonly name: string; readonly at: Place }[] {
  switch (literal.kind) {
    case "assign":
      return patternNames(literal.target);
    case "some":
      return literal.names.map((name) => ({ name, at: literal.at }));
    case "some-in":
      return [...(literal.key === undefined ? [] : patternNames(literal.key)), ...patternNames(literal.value)];
    case "holds":
    case "not":
    case "unify":
    case "every":
      return [];
  }
}

function spelled(name: string): string {
  return name.includes("#") ? "_" : name;
}
