import { bind, bindingOf, type Bindings } from "./bindings.ts";
import { child } from "./builtins.ts";
import { operate } from "./operators.ts";
import { failed, type Place } from "./place.ts";
import { patternNames } from "./scope.ts";
import type { Body, Literal, Program, Term } from "./syntax.ts";
import { isEqual, keyOf, objectOf, RegoObject, RegoSet, setOf, typeOf, type Budget, type Value } from "./values.ts";

/** What a search needs to know of the program around it. */
export interface Surroundings {
  readonly program: Program;
  readonly budget: Budget;
  readonly input: Value;
  /** Members of `data`, but for the package itself. */
  readonly data: ReadonlyMap<string, Value>;
  /** The value of a rule that is no function. */
  rule(name: string): Value | undefined;
  /** The value of a function, ours or the policy's. */
  call(name: string, args: readonly Value[], at: Place): Value | undefined;
}

export interface Found {
  readonly value: Value;
  readonly bindings: Bindings | undefined;
}

/**
 * Finds the values of terms and the ways in which bodies hold: depth first, conditions in the order in which they are
 * written. How deep it goes is bounded by the checker, how long by the budget.
 */
export class Search {
  readonly #around: Surroundings;

  constructor(around: Surroundings) {
    this.#around = around;
  }

  /** Every way to make all conditions of a body hold. */
  *body(body: Body, bindings: Bindings | undefined, onDeadEnd?: (at: Place) => void): Generator<Bindings | undefined> {
    const first = body[0];
    if (first === undefined) {
      yield bindings;
      return;
    }
    let furthest = 0;
    const searches = [this.#literal(first, bindings)];
    for (let search = searches.at(-1); search !== undefined; search = searches.at(-1)) {
      this.#around.budget.spend(1);
      const step = search.next();
      const next = body[searches.length];
      if (step.done === true) searches.pop();
      else if (next === undefined) {
        furthest = body.length;
        yield step.value;
      } else {
        furthest = Math.max(furthest, searches.length);
        searches.push(this.#literal(next, step.value));
      }
    }
    const end = body[furthest];
    if (end !== undefined) onDeadEnd?.(end.at);
  }

  *#literal(literal: Literal, bindings: Bindings | undefined): Generator<Bindings | undefined> {
    switch (literal.kind) {
      case "holds":
        for (const found of this.term(literal.term, bindings)) if (found.value !== false) yield found.bindings;
        return;
      case "not":
        if (this.#literal(literal.literal, bindings).next().done === true) yield bindings;
        return;
      case "assign":
        for (const found of this.term(literal.value, bindings))
          yield* this.#match(literal.target, found.value, declare([literal.target], found.bindings));
        return;
      case "unify": {
        const [value, pattern] = this.#isKnown(literal.left, bindings) ? [literal.left, literal.right] : [literal.right, literal.left];
        for (const found of this.term(value, bindings)) yield* this.#match(pattern, found.value, found.bindings);
        return;
      }
      case "some":
        yield literal.names.reduce<Bindings | undefined>((rest, name) => bind(name, undefined, rest), bindings);
        return;
      case "some-in":
        yield* this.#someIn(literal, bindings);
        return;
      case "every":
        for (const found of this.term(literal.collection, bindings)) if (this.#every(literal, found)) yield found.bindings;
    }
  }

  *#someIn(
    { key, value, collection }: Extract<Literal, { readonly kind: "some-in" }>,
    bindings: Bindings | undefined,
  ): Generator<Bindings | undefined> {
    for (const found of this.term(collection, bindings)) {
      const declared = declare(key === undefined ? [value] : [key, value], found.bindings);
      for (const [memberKey, member] of this.#entries(found.value) ?? []) {
        if (key === undefined) yield* this.#match(value, member, declared);
        else for (const matched of this.#match(key, memberKey, declared)) yield* this.#match(value, member, matched);
      }
    }
  }

  #every({ key, value, body, at }: Extract<Literal, { readonly kind: "every" }>, { value: collection, bindings }: Found): boolean {
    const entries = this.#entries(collection);
    if (entries === undefined) throw failed(at, `every goes through a collection, got ${typeOf(collection)}`);
    return entries.every(([memberKey, member]) => {
      const keyed = key === undefined ? bindings : bind(key, memberKey, bindings);
      return this.body(body, bind(value, member, keyed)).next().done !== true;
    });
  }

  /** Every value that a term has, with the variables that got one on the way. */
  *term(term: Term, bindings: Bindings | undefined): Generator<Found> {
    this.#around.budget.spend(1);
    switch (term.kind) {
      case "constant":
        yield { value: term.value, bindings };
        return;
      case "name": {
        const value = this.#name(term.name, bindings);
        if (value !== undefined) yield { value, bindings };
        return;
      }
      case "reference":
        yield* this.#reference(term, bindings);
        return;
      case "call":
        for (const { values, bindings: after } of this.#terms(term.args, bindings)) {
          const value = this.#around.call(term.name, values, term.at);
          if (value !== undefined) yield { value, bindings: after };
        }
        return;
      case "array":
        for (const { values, bindings: after } of this.#terms(term.items, bindings)) yield { value: values, bindings: after };
        return;
      case "set":
        for (const { values, bindings: after } of this.#terms(term.items, bindings))
          yield { value: setOf(values, this.#around.budget), bindings: after };
        return;
      case "object":
        for (const { values, bindings: after } of this.#terms(term.entries.flat(), bindings))
          yield { value: this.objectOf(pairs(values), term.at), bindings: after };
        return;
      case "operation":
        for (const { value: left, bindings: middle } of this.term(term.left, bindings))
          for (const { value: right, bindings: after } of this.term(term.right, middle)) {
            const value = operate(term.operator, left, right, this.#around.budget, (message) => failed(term.at, message));
            if (value !== undefined) yield { value, bindings: after };
          }
        return;
      case "array-comprehension":
      case "set-comprehension":
      case "object-comprehension":
        yield { value: this.#comprehension(term, bindings), bindings };
    }
  }

  #comprehension(
    term: Extract<Term, { readonly kind: "array-comprehension" | "set-comprehension" | "object-comprehension" }>,
    around: Bindings | undefined,
  ): Value {
    const parts = term.kind === "object-comprehension" ? [term.key, term.head] : [term.head];
    const rows: (readonly Value[])[] = [];
    for (const bindings of this.body(term.body, around)) for (const { values } of this.#terms(parts, bindings)) rows.push(values);
    if (term.kind === "array-comprehension") return rows.flat();
    if (term.kind === "set-comprehension") return setOf(rows.flat(), this.#around.budget);
    return this.objectOf(pairs(rows.flat()), term.at);
  }

  /** Every combination of values of several terms. */
  *#terms(
    terms: readonly Term[],
    bindings: Bindings | undefined,
  ): Generator<{ readonly values: readonly Value[]; readonly bindings: Bindings | undefined }> {
    const first = terms[0];
    if (first === undefined) {
      yield { values: [], bindings };
      return;
    }
    const values: Value[] = [];
    const searches = [this.term(first, bindings)];
    for (let search = searches.at(-1); search !== undefined; search = searches.at(-1)) {
      const step = search.next();
      if (step.done === true) {
        searches.pop();
        continue;
      }
      values.length = searches.length - 1;
      values.push(step.value.value);
      const next = terms[searches.length];
      this.#around.budget.spend(values.length >> 3);
      if (next === undefined) yield { values: [...values], bindings: step.value.bindings };
      else searches.push(this.term(next, step.value.bindings));
    }
  }

  #name(name: string, bindings: Bindings | undefined): Value | undefined {
    const variable = bindingOf(bindings, name);
    if (variable !== undefined) return variable.value;
    return name === "input" ? this.#around.input : this.#around.rule(name);
  }

  *#reference({ head, path }: Extract<Term, { readonly kind: "reference" }>, bindings: Bindings | undefined): Generator<Found> {
    if (head.kind !== "name" || head.name !== "data") {
      for (const found of this.term(head, bindings)) yield* this.#walk(found.value, path, found.bindings);
      return;
    }
    const [first, second] = path.map((part) => (part.kind === "constant" && typeof part.value === "string" ? part.value : ""));
    const value = first === "policy" ? this.#around.rule(second ?? "") : this.#around.data.get(first ?? "");
    if (value !== undefined) yield* this.#walk(value, path.slice(first === "policy" ? 2 : 1), bindings);
  }

  *#walk(value: Value, path: readonly Term[], bindings: Bindings | undefined): Generator<Found> {
    const key = path[0];
    if (key === undefined) {
      yield { value, bindings };
      return;
    }
    const rest = path.slice(1);
    if (this.#isKnown(key, bindings)) {
      for (const found of this.term(key, bindings)) {
        const member = child(value, found.value, this.#around.budget);
        if (member !== undefined) yield* this.#walk(member, rest, found.bindings);
      }
      return;
    }
    for (const [memberKey, member] of this.#entries(value) ?? [])
      for (const matched of this.#match(key, memberKey, bindings)) yield* this.#walk(member, rest, matched);
  }

  /** Whether a pattern holds no variable without a value; as the checker sees it. */
  #isKnown(pattern: Term, bindings: Bindings | undefined): boolean {
    if (pattern.kind === "name") return !this.#isFree(pattern.name, bindings);
    if (pattern.kind === "array") return pattern.items.every((item) => this.#isKnown(item, bindings));
    return pattern.kind !== "object" || pattern.entries.every(([, value]) => this.#isKnown(value, bindings));
  }

  #isFree(name: string, bindings: Bindings | undefined): boolean {
    const variable = bindingOf(bindings, name);
    return variable === undefined ? name !== "input" && !this.#around.program.has(name) : variable.value === undefined;
  }

  /** Gives the free variables of a pattern their values. */
  *#match(pattern: Term, value: Value, bindings: Bindings | undefined): Generator<Bindings | undefined> {
    this.#around.budget.spend(1);
    if (pattern.kind === "name" && this.#isFree(pattern.name, bindings)) yield bind(pattern.name, value, bindings);
    else if (this.#isKnown(pattern, bindings)) {
      for (const found of this.term(pattern, bindings)) if (isEqual(found.value, value, this.#around.budget)) yield found.bindings;
    } else if (pattern.kind === "array") {
      if (Array.isArray(value) && value.length === pattern.items.length)
        yield* this.matchAll(pattern.items, value as readonly Value[], bindings);
    } else if (pattern.kind === "object") {
      if (!(value instanceof RegoObject)) return;
      for (const { values: keys, bindings: keyed } of this.#terms(
        pattern.entries.map(([key]) => key),
        bindings,
      )) {
        const members = keys.map((key) => value.lookUp(key, this.#around.budget));
        const there = members.filter((member) => member !== undefined);
        if (there.length !== value.size || members.length !== value.size) continue;
        yield* this.matchAll(
          pattern.entries.map(([, item]) => item),
          there,
          keyed,
        );
      }
    }
  }

  /** Matches several patterns with as many values. */
  *matchAll(patterns: readonly Term[], values: readonly Value[], bindings: Bindings | undefined): Generator<Bindings | undefined> {
    const [pattern, ...otherPatterns] = patterns;
    const [value, ...others] = values;
    if (pattern === undefined || value === undefined) yield bindings;
    else for (const matched of this.#match(pattern, value, bindings)) yield* this.matchAll(otherPatterns, others, matched);
  }

  /** Members with their keys, in order; `undefined` for what is no collection. */
  #entries(value: Value): readonly (readonly [Value, Value])[] | undefined {
    const { budget } = this.#around;
    budget.spend((value instanceof RegoSet || value instanceof RegoObject ? value.size : Array.isArray(value) ? value.length : 0) >> 3);
    if (value instanceof RegoObject) return value.sorted(budget);
    if (value instanceof RegoSet) return value.sorted(budget).map((member) => [member, member] as const);
    return Array.isArray(value) ? (value as readonly Value[]).map((member, i) => [i, member] as const) : undefined;
  }

  /** An object in which no key has two values. */
  objectOf(entries: readonly (readonly [Value, Value])[], at: Place): RegoObject {
    const { budget } = this.#around;
    const seen = new Map<string, Value>();
    for (const [key, value] of entries) {
      const former = seen.get(keyOf(key, budget));
      if (former !== undefined && !isEqual(former, value, budget)) throw failed(at, "a key of an object has two different values");
      seen.set(keyOf(key, budget), value);
    }
    return objectOf(entries, budget);
  }
}

/** Declares all variables of some patterns, without values. */
export function declare(patterns: readonly Term[], bindings: Bindings | undefined): Bindings | undefined {
  return patterns.flatMap(patternNames).reduce<Bindings | undefined>((rest, { name }) => bind(name, undefined, rest), bindings);
}

function pairs(values: readonly Value[]): readonly (readonly [Value, Value])[] {
  const result: (readonly [Value, Value])[] = [];
  for (let i = 0; i + 1 < values.length; i += 2) result.push([values[i] ?? null, values[i + 1] ?? null]);
  return result;
}
