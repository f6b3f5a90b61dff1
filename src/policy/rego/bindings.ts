import type { Value } from "./values.ts";

/** Variables and their values, the latest first; never changed, so that a search can go back to any point. */
export interface Bindings {
  readonly name: string;
  /** `undefined` for a variable that is declared only. */
  readonly value: Value | undefined;
  readonly rest: Bindings | undefined;
}

/** What is known of a name, if it is a variable here. */
export function bindingOf(bindings: Bindings | undefined, name: string): Bindings | undefined {
  let at = bindings;
  while (at !== undefined && at.name !== name) at = at.rest;
  return at;
}

export function bind(name: string, value: Value | undefined, rest: Bindings | undefined): Bindings {
  return { name, value, rest };
}
