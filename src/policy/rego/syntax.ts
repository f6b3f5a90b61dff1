import type { Place } from "./place.ts";
import type { Value } from "./values.ts";

/** The operators of terms. */
export type Operator = "==" | "!=" | "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "/" | "%" | "|" | "&" | "in";

/** What has a value, or several, or none. */
export type Term =
  | { readonly kind: "constant"; readonly value: Value; readonly at: Place }
  /** `_` has been given a name of its own, with a `#` in it. */
  | { readonly kind: "name"; readonly name: string; readonly at: Place }
  | { readonly kind: "reference"; readonly head: Term; readonly path: readonly Term[]; readonly at: Place }
  | { readonly kind: "call"; readonly name: string; readonly args: readonly Term[]; readonly at: Place }
  | { readonly kind: "array"; readonly items: readonly Term[]; readonly at: Place }
  | { readonly kind: "set"; readonly items: readonly Term[]; readonly at: Place }
  | { readonly kind: "object"; readonly entries: readonly (readonly [Term, Term])[]; readonly at: Place }
  | { readonly kind: "array-comprehension"; readonly head: Term; readonly body: Body; readonly at: Place }
  | { readonly kind: "set-comprehension"; readonly head: Term; readonly body: Body; readonly at: Place }
  | { readonly kind: "object-comprehension"; readonly key: Term; readonly head: Term; readonly body: Body; readonly at: Place }
  | { readonly kind: "operation"; readonly operator: Operator; readonly left: Term; readonly right: Term; readonly at: Place };

/** One line of a body. */
export type Literal =
  | { readonly kind: "holds"; readonly term: Term; readonly at: Place }
  | { readonly kind: "not"; readonly literal: Literal; readonly at: Place }
  | { readonly kind: "assign"; readonly target: Term; readonly value: Term; readonly at: Place }
  | { readonly kind: "unify"; readonly left: Term; readonly right: Term; readonly at: Place }
  | { readonly kind: "some"; readonly names: readonly string[]; readonly at: Place }
  | { readonly kind: "some-in"; readonly key: Term | undefined; readonly value: Term; readonly collection: Term; readonly at: Place }
  | {
      readonly kind: "every";
      readonly key: string | undefined;
      readonly value: string;
      readonly collection: Term;
      readonly body: Body;
      readonly at: Place;
    };

export type Body = readonly Literal[];

/** What follows a head: its value where the body holds. `else` adds further clauses, tried in order. */
export interface Clause {
  readonly value: Term;
  readonly body: Body;
}

export interface Rule {
  readonly name: string;
  readonly kind: "complete" | "function" | "partial-set" | "partial-object" | "default";
  /** Parameters of a function. */
  readonly args: readonly Term[];
  /** Member of a partial set, key of a partial object. */
  readonly key?: Term | undefined;
  readonly clauses: readonly Clause[];
  readonly at: Place;
}

/** All rules of one name; they are of one kind, but for the default. */
export interface RuleGroup {
  readonly kind: Exclude<Rule["kind"], "default">;
  readonly arity: number;
  readonly rules: readonly Rule[];
  readonly fallback: Value | undefined;
  readonly at: Place;
}

export type Program = ReadonlyMap<string, RuleGroup>;
