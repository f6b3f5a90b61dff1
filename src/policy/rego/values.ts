/**
 * Values of Rego. Source: OPA, "Policy Language", "Composite Values"; order and equality as OPA's `ast.Compare`.
 *
 * An integer beyond 2^53 is a `bigint` (nanoseconds are), every other number a `number`; {@link normal} keeps that so.
 */
export type Value = null | boolean | number | bigint | string | readonly Value[] | RegoObject | RegoSet;

/** Pays for work whose size the policy's input decides. Throws when there was too much. */
export interface Budget {
  spend(amount: number): void;
}

/** Keys may be any value; iteration is by order of keys. */
export class RegoObject {
  readonly #entries: ReadonlyMap<string, readonly [Value, Value]>;
  #sorted: readonly (readonly [Value, Value])[] | undefined;

  /** `entries` by {@link keyOf} of the key. */
  constructor(entries: ReadonlyMap<string, readonly [Value, Value]>) {
    this.#entries = entries;
  }

  get size(): number {
    return this.#entries.size;
  }

  lookUp(key: Value, budget: Budget): Value | undefined {
    return this.#entries.get(keyOf(key, budget))?.[1];
  }

  sorted(budget: Budget): readonly (readonly [Value, Value])[] {
    this.#sorted ??= [...this.#entries.values()].sort(([left], [right]) => compare(left, right, budget));
    return this.#sorted;
  }
}

/** Iteration is by order of members. */
export class RegoSet {
  readonly #members: ReadonlyMap<string, Value>;
  #sorted: readonly Value[] | undefined;

  /** `members` by {@link keyOf}. */
  constructor(members: ReadonlyMap<string, Value>) {
    this.#members = members;
  }

  get size(): number {
    return this.#members.size;
  }

  has(member: Value, budget: Budget): boolean {
    return this.#members.has(keyOf(member, budget));
  }

  sorted(budget: Budget): readonly Value[] {
    this.#sorted ??= [...this.#members.values()].sort((left, right) => compare(left, right, budget));
    return this.#sorted;
  }
}

export function setOf(members: Iterable<Value>, budget: Budget): RegoSet {
  const map = new Map<string, Value>();
  for (const member of members) map.set(keyOf(member, budget), member);
  return new RegoSet(map);
}

/** A later entry replaces an earlier one. */
export function objectOf(entries: Iterable<readonly [Value, Value]>, budget: Budget): RegoObject {
  const map = new Map<string, readonly [Value, Value]>();
  for (const entry of entries) map.set(keyOf(entry[0], budget), entry);
  return new RegoObject(map);
}

export function isNumber(value: Value): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

/** The one form of a number. */
export function normal(value: number | bigint): number | bigint {
  if (typeof value === "bigint")
    return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) return BigInt(value);
  return value === 0 ? 0 : value;
}

const ranks = { null: 0, boolean: 1, number: 2, string: 3, array: 4, object: 5, set: 6 } as const;

/** The name of a value's type, as messages say it. */
export function typeOf(value: Value): keyof typeof ranks {
  if (value === null) return "null";
  if (typeof value === "boolean") return "boolean";
  if (typeof value === "string") return "string";
  if (isNumber(value)) return "number";
  if (value instanceof RegoObject) return "object";
  return value instanceof RegoSet ? "set" : "array";
}

/** The total order of all values: negative, zero or positive. Strings by code points. */
export function compare(left: Value, right: Value, budget: Budget): number {
  budget.spend(1);
  if (left === right) return 0;
  if (typeof left === "string" && typeof right === "string") return compareText(left, right, budget);
  if (isNumber(left) && isNumber(right)) return left < right ? -1 : left > right ? 1 : 0;
  const byType = ranks[typeOf(left)] - ranks[typeOf(right)];
  if (byType !== 0) return byType;
  if (typeof left === "boolean") return left ? 1 : -1;
  if (left instanceof RegoObject && right instanceof RegoObject)
    return compareLists(partsInOrder(left, budget), partsInOrder(right, budget), budget);
  if (left instanceof RegoSet && right instanceof RegoSet) return compareLists(left.sorted(budget), right.sorted(budget), budget);
  return Array.isArray(left) && Array.isArray(right) ? compareLists(left, right, budget) : 0;
}

export function isEqual(left: Value, right: Value, budget: Budget): boolean {
  return compare(left, right, budget) === 0;
}

function compareLists(left: readonly Value[], right: readonly Value[], budget: Budget): number {
  for (const [i, item] of left.entries()) {
    const other = right[i];
    if (other === undefined) return 1;
    const order = compare(item, other, budget);
    if (order !== 0) return order;
  }
  return left.length - right.length;
}

/** Each key, and its value behind it. */
function partsInOrder(object: RegoObject, budget: Budget): readonly Value[] {
  return object.sorted(budget).flatMap(([key, value]) => [key, value]);
}

function compareText(left: string, right: string, budget: Budget): number {
  budget.spend(Math.min(left.length, right.length) >> 6);
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

/** Equal for equal values, and for no others. Parts are prefixed with their length, so nothing needs escaping. */
export function keyOf(value: Value, budget: Budget): string {
  budget.spend(1);
  if (typeof value === "string") {
    budget.spend(value.length >> 6);
    return `s${value}`;
  }
  if (value === null || typeof value === "boolean" || isNumber(value)) return `c${String(value)}`;
  const [mark, parts] = partsOf(value, budget);
  let key: string = mark;
  for (const part of parts) key += `${part.length}:${part}`;
  budget.spend(key.length >> 6);
  return key;
}

function partsOf(value: readonly Value[] | RegoObject | RegoSet, budget: Budget): readonly ["o" | "t" | "a", readonly string[]] {
  if (value instanceof RegoSet) return ["t", value.sorted(budget).map((member) => keyOf(member, budget))];
  if (value instanceof RegoObject) return ["o", value.sorted(budget).flatMap(([key, item]) => [keyOf(key, budget), keyOf(item, budget)])];
  return ["a", value.map((item) => keyOf(item, budget))];
}

/** The characters of a text as Rego counts them: code points. */
export function charactersOf(text: string, budget: Budget): readonly string[] {
  budget.spend(text.length >> 1);
  return Array.from(text);
}
