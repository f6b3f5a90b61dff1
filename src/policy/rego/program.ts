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
 * variable has a value when it is needed, no rule uses itself. Throws `ERR_POLICY_NOT_UNDERSTOOD`, with line and column.
 */
export function compileProgram(source: string, purpose: Purpose): Program {
  const groups = grouped(parseModule(source));
  const checker = new Checker(groups, purpose);
  const uses = new Map<string, Uses>();
  for (const [name, { rules }] of groups) {
    const checked = rules.map((rule) => checker.rule(rule));
    const depth = Math.max(0, ...checked.map((rule) => rule.depth));
    uses.set(name, { depth, rules: new Map(checked.flatMap((rule) => [...rule.uses])) });
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

/** How deep the rules of one name nest, and what they use. */
interface Uses {
  readonly depth: number;
  readonly rules: ReadonlyMap<string, Place>;
}

/** What rules nest that use each other, all together: less than half of what the stack takes. */
const maxTotalDepth = 300;

function refuseRecursion(uses: ReadonlyMap<string, Uses>): void {
  const totals = new Map<string, number>();
  const usesOf = (name: string): readonly (readonly [string, Place])[] => [...(uses.get(name)?.rules ?? [])];
  for (const start of uses.keys()) {
    const way = [{ name: start, rest: [...usesOf(start)] }];
    for (let step = way.at(-1); step !== undefined; step = way.at(-1)) {
      const next = step.rest.pop();
      if (next === undefined) {
        totals.set(step.name, totalDepth(uses.get(step.name), totals));
        way.pop();
        continue;
      }
      const [name, at] = next;
      if (way.some((former) => former.name === name)) throw malformed(at, `${name} uses itself`);
      if (!totals.has(name)) way.push({ name, rest: [...usesOf(name)] });
    }
  }
}

function totalDepth(uses: Uses | undefined, totals: ReadonlyMap<string, number>): number {
  const { depth, rules } = uses ?? { depth: 0, rules: new Map<string, Place>() };
  // A rule by itself costs a few calls, too.
  let total = depth + 2;
  for (const [name, at] of rules) {
    total = Math.max(total, depth + 2 + (totals.get(name) ?? 0));
    if (total > maxTotalDepth) throw malformed(at, "rules that use each other nest too deep");
  }
  return total;
}
