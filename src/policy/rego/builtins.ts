import { toText } from "./json.ts";
import { parseRfc3339Ns } from "./moments.ts";
import { compileRegex } from "./regex.ts";
import { charactersOf, compare, isNumber, objectOf, RegoObject, RegoSet, normal, typeOf, type Budget, type Value } from "./values.ts";

/** What built-in functions may see of the world. */
export interface BuiltinWorld {
  readonly budget: Budget;
  readonly now: Date;
  /** `null` when there is none. */
  referenceValue(name: string): Value;
  /** Makes the error for a value that a function does not take. */
  fail(message: string): Error;
}

interface Builtin {
  readonly arity: number;
  /** `undefined` where the result is. */
  evaluate(args: readonly Value[], world: BuiltinWorld): Value | undefined;
  /** Looks at constant arguments at upload. */
  readonly check?: (args: readonly (Value | undefined)[], refuse: (message: string) => Error) => void;
}

const maxTextLength = 65_536;

/**
 * Every function that a policy can call. A value of the wrong type is an error, as in the engine that Trustee uses, and
 * not "undefined", as in OPA: under `not`, undefined would be true.
 */
export const builtins: ReadonlyMap<string, Builtin> = new Map<string, Builtin>([
  ["count", { arity: 1, evaluate: ([value = null], world) => sizeOf(value, world) }],
  ["startswith", texts((text, prefix) => text.startsWith(prefix))],
  ["endswith", texts((text, suffix) => text.endsWith(suffix))],
  ["contains", texts((text, part) => text.includes(part))],
  ["lower", mapping((character) => character.toLowerCase())],
  ["upper", mapping((character) => character.toUpperCase())],
  ["split", { arity: 2, evaluate: ([text = null, by = null], world) => splitText(asText(text, world), asText(by, world), world) }],
  ["concat", { arity: 2, evaluate: ([by = null, parts = null], world) => joinTexts(asText(by, world), parts, world) }],
  [
    "regex.match",
    {
      arity: 2,
      evaluate: ([pattern = null, text = null], world) => {
        const regex = compileRegex(asText(pattern, world), (message) => world.fail(message));
        world.budget.spend(100 + regex.size);
        return regex.matches(asText(text, world), world.budget);
      },
      check: ([pattern], refuse) => {
        if (typeof pattern === "string") compileRegex(pattern, refuse);
      },
    },
  ],
  [
    "sprintf",
    {
      arity: 2,
      evaluate: ([format = null, values = null], world) => printed(asText(format, world), values, world),
      check: ([format], refuse) => {
        if (typeof format === "string") formatParts(format, refuse);
      },
    },
  ],
  [
    "object.get",
    {
      arity: 3,
      evaluate: ([object = null, key = null, otherwise = null], world) => {
        const member = memberOf(object, key, world);
        return member === undefined ? otherwise : member;
      },
    },
  ],
  [
    "object.union",
    { arity: 2, evaluate: ([left = null, right = null], world) => union(asObject(left, world), asObject(right, world), world) },
  ],
  ["object.union_n", { arity: 1, evaluate: ([objects = null], world) => unionOf(objects, world) }],
  ["time.now_ns", { arity: 0, evaluate: (_args, { now }) => normal(BigInt(now.getTime()) * 1_000_000n) }],
  ["time.parse_rfc3339_ns", { arity: 1, evaluate: ([text = null], world) => momentOf(asText(text, world), world) }],
  ["query_reference_value", { arity: 1, evaluate: ([name = null], world) => world.referenceValue(asText(name, world)) }],
]);

/** The value below `key`, or `undefined`. Only collections hold values. */
export function child(value: Value, key: Value, budget: Budget): Value | undefined {
  if (value instanceof RegoObject) return value.lookUp(key, budget);
  if (value instanceof RegoSet) return value.has(key, budget) ? key : undefined;
  return Array.isArray(value) && typeof key === "number" && Number.isInteger(key) ? (value as readonly Value[])[key] : undefined;
}

function texts(holds: (text: string, part: string) => boolean): Builtin {
  return {
    arity: 2,
    evaluate: ([text = null, part = null], world) => {
      const [whole, piece] = [asText(text, world), asText(part, world)];
      // A search may compare every piece of the text with the part, and a guest may have chosen both.
      world.budget.spend((whole.length * piece.length) / 1024);
      return holds(whole, piece);
    },
  };
}

/** One character becomes one character, as Go has it; JavaScript alone would make "SS" of "ß". */
function mapping(map: (character: string) => string): Builtin {
  const one = (character: string): string => {
    const mapped = map(character);
    return mapped.length === character.length ? mapped : character;
  };
  return { arity: 1, evaluate: ([text = null], world) => charactersOf(asText(text, world), world.budget).map(one).join("") };
}

/** Characters of a text are code points. */
function sizeOf(value: Value, world: BuiltinWorld): number {
  if (typeof value === "string") return charactersOf(asText(value, world), world.budget).length;
  if (value instanceof RegoObject || value instanceof RegoSet) return value.size;
  if (Array.isArray(value)) return value.length;
  throw world.fail(`count takes a collection or a string, got ${typeOf(value)}`);
}

function splitText(text: string, by: string, { budget }: BuiltinWorld): readonly Value[] {
  budget.spend((text.length * by.length) / 1024);
  const parts = by === "" ? charactersOf(text, budget) : text.split(by);
  budget.spend(parts.length);
  return parts;
}

function joinTexts(by: string, parts: Value, world: BuiltinWorld): string {
  const list = parts instanceof RegoSet ? parts.sorted(world.budget) : parts;
  if (!Array.isArray(list)) throw world.fail(`concat takes an array or a set, got ${typeOf(parts)}`);
  const strings = (list as readonly Value[]).map((part) => asText(part, world));
  return bounded(
    strings.reduce((size, part) => size + part.length + by.length, 0),
    world,
    () => strings.join(by),
  );
}

function bounded(size: number, world: BuiltinWorld, make: () => string): string {
  if (size > maxTextLength) throw world.fail(`a text of more than ${maxTextLength} characters`);
  world.budget.spend(size >> 4);
  return make();
}

function memberOf(object: Value, key: Value, world: BuiltinWorld): Value | undefined {
  const start = asObject(object, world);
  if (!Array.isArray(key)) return start.lookUp(key, world.budget);
  let value: Value | undefined = start;
  for (const part of key as readonly Value[]) {
    if (value === undefined) return undefined;
    value = child(value, part, world.budget);
  }
  return value;
}

/** What both have as objects is united too; else the right one counts. Values nest as deep as JSON and terms may. */
function union(left: RegoObject, right: RegoObject, world: BuiltinWorld): RegoObject {
  const { budget } = world;
  const entries: (readonly [Value, Value])[] = [...left.sorted(budget)];
  for (const [key, value] of right.sorted(budget)) {
    const former = left.lookUp(key, budget);
    const both = former instanceof RegoObject && value instanceof RegoObject;
    entries.push([key, both ? union(former, value, world) : value]);
  }
  return objectOf(entries, budget);
}

function unionOf(objects: Value, world: BuiltinWorld): RegoObject {
  if (!Array.isArray(objects)) throw world.fail(`object.union_n takes an array, got ${typeOf(objects)}`);
  let result = objectOf([], world.budget);
  for (const object of objects as readonly Value[]) result = union(result, asObject(object, world), world);
  return result;
}

function momentOf(text: string, world: BuiltinWorld): Value {
  const moment = parseRfc3339Ns(text);
  if (moment === undefined) throw world.fail(`${JSON.stringify(text.slice(0, 60))} is not a moment as RFC 3339 writes it`);
  return normal(moment);
}

type Part = { readonly kind: "text"; readonly text: string } | { readonly kind: "verb"; readonly verb: "s" | "d" | "v" };

function formatParts(format: string, refuse: (message: string) => Error): readonly Part[] {
  return (format.match(/%[^]?|[^%]+/g) ?? []).map((piece): Part => {
    if (!piece.startsWith("%")) return { kind: "text", text: piece };
    if (piece === "%%") return { kind: "text", text: "%" };
    const verb = piece.slice(1);
    if (verb !== "s" && verb !== "d" && verb !== "v") throw refuse("sprintf knows %s, %d, %v and %%");
    return { kind: "verb", verb };
  });
}

function printed(format: string, values: Value, world: BuiltinWorld): string {
  if (!Array.isArray(values)) throw world.fail(`sprintf takes an array of values, got ${typeOf(values)}`);
  const parts = formatParts(format, (message) => world.fail(message));
  const list = [...(values as readonly Value[])];
  const verbs = parts.filter(({ kind }) => kind === "verb").length;
  if (verbs !== list.length) throw world.fail(`sprintf got ${list.length} values for ${verbs} verbs`);
  const pieces = parts.map((part) => (part.kind === "text" ? part.text : printedValue(part.verb, list.shift() ?? null, world)));
  return bounded(
    pieces.reduce((size, piece) => size + piece.length, 0),
    world,
    () => pieces.join(""),
  );
}

function printedValue(verb: "s" | "d" | "v", value: Value, world: BuiltinWorld): string {
  const fits =
    verb === "v" ||
    (verb === "s" && typeof value === "string") ||
    (verb === "d" && isNumber(value) && (typeof value === "bigint" || Number.isInteger(value)));
  if (!fits) throw world.fail(`sprintf got ${typeOf(value)} for %${verb}`);
  return typeof value === "string" ? value : toText(value, world.budget);
}

function asText(value: Value, world: BuiltinWorld): string {
  if (typeof value !== "string") throw world.fail(`expected a string, got ${typeOf(value)}`);
  world.budget.spend(value.length >> 4);
  return value;
}

function asObject(value: Value, world: BuiltinWorld): RegoObject {
  if (!(value instanceof RegoObject)) throw world.fail(`expected an object, got ${typeOf(value)}`);
  return value;
}

/** `x in collection`; a collection that is none holds nothing, and says nothing: undefined. */
export function isMember(member: Value, collection: Value, budget: Budget): boolean | undefined {
  if (collection instanceof RegoSet) return collection.has(member, budget);
  if (collection instanceof RegoObject) return collection.sorted(budget).some(([, value]) => compare(value, member, budget) === 0);
  return Array.isArray(collection) ? (collection as readonly Value[]).some((value) => compare(value, member, budget) === 0) : undefined;
}
