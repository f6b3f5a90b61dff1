import { isMember } from "./builtins.ts";
import type { Operator } from "./syntax.ts";
import { compare, isNumber, RegoSet, normal, setOf, typeOf, type Budget, type Value } from "./values.ts";

/** Larger integers are attacks on arithmetic. */
const maxInteger = 1n << 1024n;

/**
 * The value of an operation, or `undefined`.
 *
 * Values of different types have an order in Rego, with `null` below everything: `4 >= null` holds in OPA. A missing
 * reference value is `null`, so a minimum that nobody has registered would be met by everything. Here that is an error;
 * the one place where this interpreter is stricter than OPA on purpose.
 */
export function operate(
  operator: Operator,
  left: Value,
  right: Value,
  budget: Budget,
  fail: (message: string) => Error,
): Value | undefined {
  switch (operator) {
    case "==":
      return compare(left, right, budget) === 0;
    case "!=":
      return compare(left, right, budget) !== 0;
    case "<":
    case "<=":
    case ">":
    case ">=":
      return isOrdered(operator, left, right, budget, fail);
    case "in":
      return isMember(left, right, budget);
    case "|":
    case "&":
      return combine(operator, asSet(operator, left, fail), asSet(operator, right, fail), budget);
    case "-":
      if (left instanceof RegoSet && right instanceof RegoSet)
        return setOf(
          left.sorted(budget).filter((member) => !right.has(member, budget)),
          budget,
        );
      return calculate(operator, left, right, fail);
    case "+":
    case "*":
    case "/":
    case "%":
      return calculate(operator, left, right, fail);
  }
}

function isOrdered(
  operator: "<" | "<=" | ">" | ">=",
  left: Value,
  right: Value,
  budget: Budget,
  fail: (message: string) => Error,
): boolean {
  if (left === null || right === null)
    throw fail(`null has no order (${typeOf(left)} ${operator} ${typeOf(right)}); is a reference value missing?`);
  const order = compare(left, right, budget);
  if (operator === "<") return order < 0;
  if (operator === "<=") return order <= 0;
  return operator === ">" ? order > 0 : order >= 0;
}

function combine(operator: "|" | "&", left: RegoSet, right: RegoSet, budget: Budget): RegoSet {
  if (operator === "|") return setOf([...left.sorted(budget), ...right.sorted(budget)], budget);
  return setOf(
    left.sorted(budget).filter((member) => right.has(member, budget)),
    budget,
  );
}

function asSet(operator: Operator, value: Value, fail: (message: string) => Error): RegoSet {
  if (!(value instanceof RegoSet)) throw fail(`${operator} takes sets, got ${typeOf(value)}`);
  return value;
}

function calculate(operator: "+" | "-" | "*" | "/" | "%", left: Value, right: Value, fail: (message: string) => Error): Value {
  if (!isNumber(left) || !isNumber(right)) throw fail(`${operator} takes numbers, got ${typeOf(left)} and ${typeOf(right)}`);
  if ((operator === "/" || operator === "%") && Number(right) === 0) throw fail("division by zero");
  const result =
    isInteger(left) && isInteger(right) ? exact(operator, BigInt(left), BigInt(right)) : inexact(operator, Number(left), Number(right));
  if (result === undefined) throw fail("% takes integers");
  if (typeof result === "bigint" ? result > maxInteger || result < -maxInteger : !Number.isFinite(result))
    throw fail("a number that is too large");
  return normal(result);
}

function isInteger(value: number | bigint): boolean {
  return typeof value === "bigint" || Number.isInteger(value);
}

function exact(operator: "+" | "-" | "*" | "/" | "%", left: bigint, right: bigint): number | bigint {
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "/":
      return left % right === 0n ? left / right : Number(left) / Number(right);
    case "%":
      return left % right;
  }
}

function inexact(operator: "+" | "-" | "*" | "/" | "%", left: number, right: number): number | undefined {
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "/":
      return left / right;
    case "%":
      return undefined;
  }
}
