import { builtins } from "./builtins.ts";
import { Checker, type Purpose } from "./check.ts";
import { parseModule } from "./parse.ts";
import { malformed, type Place } from "./place.ts";
import type { Program, Rule, RuleGroup, Term } from "./syntax.ts";
import { objectOf, setOf, type Budget, type Value } from "./values.ts";

const maxArity = 30;

const unlimited: Budget = { spend: () => undefined };

/**
 * Reads and checks a policy. What comes out of here can be evaluated without surprises: every name is known, every
 * variable has a value when it is needed, no rule uses itself. Throws `ERR_POLICY_MALFORMED`, with line and column.
 */
export function compileProgram(source: string, purpose: Purpose): Program {
  const groups = grouped(parseModule(source));
  const checker = new Checker(groups, purpose);
  const uses = new Map<string, Map<string, Place>>();
  for (const [name, group] of groups) {
    const used = new Map<string, Place>();
    for (const rule of group.rules) for (const [other, at] of checker.rule(rule)) used.set(other, at);
    uses.set(name, used);
  }
  refuseRecursion(uses);
  return groups;
}

function grouped(rules: readonly Rule[]): Program {
  const groups = new Map<string, { -readonly [Member in keyof RuleGroup]: RuleGroup[Member] }>();
  for (const rule of rules) {
    const { name, at } = rule;
    if (name === "input" || name === "data" || name === "set" || builtins.has(name)) throw malformed(at, `a rule cannot be named ${name}`);
    if (rule.args.length > maxArity) throw malformed(at, `a function has at most ${maxArity} parameters`);
    const kind = rule.kind === "default" ? "complete" : rule.kind;
    const group = groups.get(name) ?? { kind, arity: rule.args.length, rules: [], fallback: undefined, at };
    if (group.kind !== kind) throw malformed(at, `${name} is a ${group.kind} rule further up, and here a ${rule.kind} rule`);
    if (group.arity !== rule.args.length)
      throw malformed(at, `${name} takes ${group.arity} argument(s) further up, and here ${rule.args.length}`);
    if (rule.kind === "default") {
      if (group.fallback !== undefined) throw malformed(at, `${name} has two defaults`);
      for (const { value } of rule.clauses) group.fallback = constantValue(value);
    } else group.rules = [...group.rules, rule];
    groups.set(name, group);
  }
  return groups;
}

/** The value of a default: constants, and collections of them. */
function constantValue(term: Term, depth = 0): Value {
  if (depth > 40) throw malformed(term.at, "a default nests too deep");
  const inner = (part: Term): Value => constantValue(part, depth + 1);
  if (term.kind === "constant") return term.value;
  if (term.kind === "array") return term.items.map(inner);
  if (term.kind === "set") return setOf(term.items.map(inner), unlimited);
  if (term.kind !== "object") throw malformed(term.at, "a default is a constant");
  return objectOf(
    term.entries.map(([key, value]) => [inner(key), inner(value)] as const),
    unlimited,
  );
}

/** Rules that use rules; bounded, so that no evaluation exhausts the stack. */
const maxHeight = 20;

function refuseRecursion(uses: ReadonlyMap<string, ReadonlyMap<string, Place>>): void {
  const heights = new Map<string, number>();
  for (const start of uses.keys()) {
    const way = [{ name: start, rest: [...(uses.get(start) ?? [])] }];
    for (let step = way.at(-1); step !== undefined; step = way.at(-1)) {
      const next = step.rest.pop();
      if (next === undefined) {
        const used = [...(uses.get(step.name) ?? [])];
        heights.set(step.name, 1 + Math.max(0, ...used.map(([name]) => heights.get(name) ?? 0)));
        for (const [name, at] of used)
          if ((heights.get(name) ?? 0) >= maxHeight) throw malformed(at, `rules use each other over more than ${maxHeight} steps`);
        way.pop();
        continue;
      }
      const [name, at] = next;
      if (way.some((former) => former.name === name)) throw malformed(at, `${name} uses itself`);
      if (!heights.has(name)) way.push({ name, rest: [...(uses.get(name) ?? [])] });
    }
  }
}
