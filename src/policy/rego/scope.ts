import { malformed, type Place } from "./place.ts";
import type { Term } from "./syntax.ts";

/**
 * Which names stand for variables at one point of a body, and which of them have a value there.
 *
 * Conditions are taken in the order in which they are written; OPA would reorder them. Wherever that could make a
 * difference, the policy is refused.
 */
export class Scope {
  /** Variables that have a value. */
  readonly #bound: Set<string>;
  /** Variables that `some` has declared, without a value so far. */
  readonly #declared: Set<string>;
  /** Names that this body, or one around it, declares further down. */
  readonly #later: Set<string>;
  /** Names that this body itself has declared. */
  readonly #own = new Set<string>();
  /** Names that were bound inside a comprehension or `every`, unknown outside. */
  readonly #inner = new Set<string>();
  /** Names bound here without a declaration. */
  readonly #implicit = new Set<string>();

  constructor(around?: Scope) {
    this.#bound = new Set(around === undefined ? [] : around.#bound);
    this.#declared = new Set(around === undefined ? [] : around.#declared);
    this.#later = new Set(around === undefined ? [] : around.#later);
  }

  /** Says at the beginning of a body what it declares. */
  announce(names: Iterable<string>): void {
    for (const name of names) this.#later.add(name);
  }

  isBound(name: string): boolean {
    return this.#bound.has(name);
  }

  /** Whether a name is a variable here, with or without a value. */
  isVariable(name: string): boolean {
    return this.#bound.has(name) || this.#declared.has(name);
  }

  /** Refuses a name that gets another meaning further down. */
  checkUse(name: string, at: Place): void {
    if (this.#later.has(name)) throw malformed(at, `${name} is used before it is declared in the same body`);
  }

  /** `:=`, `some` and parameters. */
  declare(name: string, at: Place, value: "bound" | "unbound"): void {
    if (name === "input" || name === "data") throw malformed(at, `${name} is no name for a variable`);
    if (this.#own.has(name)) throw malformed(at, `${name} is declared twice in the same body`);
    if (this.#implicit.has(name) || this.#inner.has(name)) throw malformed(at, `${name} is used before it is declared in the same body`);
    this.#own.add(name);
    this.#later.delete(name);
    this.#bound.delete(name);
    this.#declared.delete(name);
    (value === "bound" ? this.#bound : this.#declared).add(name);
  }

  /** A variable gets its value by being matched. */
  bind(name: string, at: Place): void {
    this.checkUse(name, at);
    // OPA would first look for a value in the body around this one.
    if (this.#declared.has(name) && !this.#own.has(name))
      throw malformed(at, `${name} is declared in a body further out, and has no value yet`);
    if (!this.#declared.delete(name)) {
      if (this.#inner.has(name)) throw malformed(at, `${name} means something else in a body further up; use another name`);
      this.#implicit.add(name);
    }
    this.#bound.add(name);
  }

  /** Ends a body inside this one. */
  close(inner: Scope): void {
    for (const name of [...inner.#implicit, ...inner.#inner]) this.#inner.add(name);
  }
}

/** The variables of a pattern: what `:=`, `some … in` and parameters declare. Refuses what is no pattern. */
export function patternNames(pattern: Term): readonly { readonly name: string; readonly at: Place }[] {
  checkWidth(pattern);
  if (pattern.kind === "constant") return [];
  if (pattern.kind === "name") return [{ name: pattern.name, at: pattern.at }];
  if (pattern.kind === "array") return pattern.items.flatMap(patternNames);
  if (pattern.kind !== "object")
    throw malformed(pattern.at, "this cannot be assigned to; a variable, or an array or object of variables can");
  for (const [key] of pattern.entries) if (key.kind !== "constant") throw malformed(key.at, "a key of a pattern is a constant");
  return pattern.entries.flatMap(([, value]) => patternNames(value));
}

const maxWidth = 50;

/** Parts of a pattern are matched one inside the other. */
export function checkWidth(pattern: Term): void {
  const size = pattern.kind === "array" ? pattern.items.length : pattern.kind === "object" ? pattern.entries.length : 0;
  if (size > maxWidth) throw malformed(pattern.at, `a pattern has at most ${maxWidth} parts`);
}
