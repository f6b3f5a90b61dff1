import { PolicyError } from "../errors.ts";
import type { Bindings } from "./bindings.ts";
import { builtins } from "./builtins.ts";
import { failed, type Place } from "./place.ts";
import { declare, Search } from "./search.ts";
import type { Clause, Program, Rule, RuleGroup } from "./syntax.ts";
import { isEqual, setOf, type Budget, type Value } from "./values.ts";

/** Steps of one evaluation; a policy of Trustee takes a few hundred. */
const maxSteps = 500_000;

/** What a policy is evaluated against. */
export interface World {
  readonly input: Value;
  /** Members of `data`, but for the package itself. */
  readonly data: ReadonlyMap<string, Value>;
  readonly now: Date;
  readonly budget: Budget;
  /** `null` when there is none. */
  referenceValue(name: string): Value;
}

/** A budget for one evaluation. Throws `ERR_POLICY_FAILED` when it is used up. */
export function newBudget(): Budget {
  let left = maxSteps;
  return {
    spend: (amount) => {
      left -= amount;
      if (left < 0) throw new PolicyError("ERR_POLICY_FAILED", { message: `the policy takes more than ${maxSteps} steps` });
    },
  };
}

/**
 * One evaluation of a checked program. Terms and bodies are searched depth first, conditions in the order in which they
 * are written; rules are evaluated when they are first asked for, and once.
 *
 * Everything it throws is `ERR_POLICY_FAILED`.
 */
export class Evaluation {
  readonly #program: Program;
  readonly #world: World;
  readonly #search: Search;
  readonly #rules = new Map<string, Value | undefined>();
  /** Where the search for a value of a clause came to its end. */
  readonly #deadEnds = new Map<Clause, Place>();

  constructor(program: Program, world: World) {
    const { budget, input, data } = world;
    this.#program = program;
    this.#world = world;
    this.#search = new Search({
      program,
      budget,
      input,
      data,
      rule: (name) => this.rule(name),
      call: (name, args, at) => this.#call(name, args, at),
    });
  }

  /** The value of a rule; `undefined` when no body holds and there is no default. */
  rule(name: string): Value | undefined {
    if (!this.#rules.has(name)) {
      const group = this.#program.get(name);
      this.#rules.set(name, group === undefined ? undefined : this.#group(group));
    }
    return this.#rules.get(name);
  }

  /** For each clause of a complete rule that did not hold, the condition beyond which none of its searches came. */
  deadEnds(name: string): readonly Place[] {
    const clauses = this.#program.get(name)?.rules.flatMap(({ clauses }) => clauses) ?? [];
    return clauses.flatMap((clause) => this.#deadEnds.get(clause) ?? []);
  }

  #group(group: RuleGroup): Value | undefined {
    switch (group.kind) {
      case "complete":
      case "function": {
        const value = this.#agreed(group, (rule) => this.#clauses(rule.clauses, undefined));
        return value === undefined ? group.fallback : value;
      }
      case "partial-set":
        return setOf(
          group.rules.flatMap((rule) => this.#members(rule).map(([key]) => key)),
          this.#world.budget,
        );
      case "partial-object":
        return this.#search.objectOf(
          group.rules.flatMap((rule) => this.#members(rule)),
          group.at,
        );
    }
  }

  /** The one value of all rules. Two different ones contradict each other. */
  #agreed({ rules, at }: RuleGroup, valuesOf: (rule: Rule) => readonly Value[]): Value | undefined {
    let result: Value | undefined;
    for (const rule of rules) {
      for (const value of valuesOf(rule)) {
        if (result !== undefined && !isEqual(result, value, this.#world.budget)) throw failed(at, `${rule.name} has two different values`);
        result = value;
      }
    }
    return result;
  }

  /** The values of the first clause whose body holds. */
  #clauses(clauses: readonly Clause[], parameters: Bindings | undefined): readonly Value[] {
    for (const clause of clauses) {
      const values: Value[] = [];
      for (const bindings of this.#search.body(clause.body, parameters, (at) => this.#deadEnds.set(clause, at))) {
        for (const { value } of this.#search.term(clause.value, bindings)) values.push(value);
        // A constant cannot become another one by looking further.
        if (clause.value.kind === "constant") break;
      }
      if (values.length > 0) return values;
    }
    return [];
  }

  #members({ key, clauses }: Rule): readonly (readonly [Value, Value])[] {
    const members: (readonly [Value, Value])[] = [];
    for (const { body, value: head } of clauses)
      for (const bindings of this.#search.body(body, undefined))
        for (const found of key === undefined ? [] : this.#search.term(key, bindings))
          for (const { value } of this.#search.term(head, found.bindings)) members.push([found.value, value]);
    return members;
  }

  #call(name: string, args: readonly Value[], at: Place): Value | undefined {
    if (name === "set") return setOf([], this.#world.budget);
    const group = this.#program.get(name);
    if (group !== undefined) return this.#function(group, args);
    const { budget, now } = this.#world;
    return builtins.get(name)?.evaluate(args, {
      budget,
      now,
      referenceValue: (reference) => this.#world.referenceValue(reference),
      fail: (message) => failed(at, `${name}: ${message}`),
    });
  }

  #function(group: RuleGroup, args: readonly Value[]): Value | undefined {
    return this.#agreed(group, (rule) => {
      const values: Value[] = [];
      const parameters = declare(rule.args, undefined);
      for (const bindings of this.#search.matchAll(rule.args, args, parameters)) values.push(...this.#clauses(rule.clauses, bindings));
      return values;
    });
  }
}
