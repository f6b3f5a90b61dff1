import { PolicyError } from "../errors.ts";
import { isNumber, objectOf, RegoObject, RegoSet, normal, type Budget, type Value } from "./values.ts";

/** Claims nest far less; what nests deeper was not written by a verifier. */
const maxDepth = 100;

/** A JSON value as Rego sees it. Throws `ERR_POLICY_FAILED` for what is not JSON, or nests deeper than 100. */
export function fromJson(json: unknown, budget: Budget, depth = 0): Value {
  budget.spend(1);
  if (depth > maxDepth) throw notJson(`it nests deeper than ${maxDepth}`);
  if (json === null || typeof json === "boolean") return json;
  // Half a surrogate pair has no bytes; as in Go, it becomes U+FFFD, so that equality means one thing.
  if (typeof json === "string") return json.toWellFormed();
  if (typeof json === "number" && Number.isFinite(json)) return normal(json);
  if (Array.isArray(json)) return json.map((item: unknown) => fromJson(item, budget, depth + 1));
  if (typeof json !== "object") throw notJson(`it holds a ${typeof json}`);
  const entries = Object.entries(json).filter(([, value]) => value !== undefined);
  return objectOf(
    entries.map(([key, value]) => [key.toWellFormed(), fromJson(value, budget, depth + 1)] as const),
    budget,
  );
}

/** Sets become sorted arrays; an object's keys that are no strings become their text, as OPA writes them. */
export function toJson(value: Value, budget: Budget): unknown {
  budget.spend(1);
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "string") budget.spend(value.length >> 2);
  if (value === null || typeof value !== "object") return value;
  if (value instanceof RegoSet) return value.sorted(budget).map((member) => toJson(member, budget));
  if (value instanceof RegoObject) {
    const entries = value.sorted(budget);
    return Object.fromEntries(entries.map(([key, item]) => [typeof key === "string" ? key : toText(key, budget), toJson(item, budget)]));
  }
  return value.map((item) => toJson(item, budget));
}

/** How OPA prints a value. */
export function toText(value: Value, budget: Budget): string {
  budget.spend(1);
  if (value === null || typeof value === "boolean" || isNumber(value)) return String(value);
  if (typeof value === "string") {
    budget.spend(value.length >> 4);
    return JSON.stringify(value);
  }
  if (value instanceof RegoSet) {
    const members = value.sorted(budget).map((member) => toText(member, budget));
    return members.length === 0 ? "set()" : `{${members.join(", ")}}`;
  }
  if (value instanceof RegoObject)
    return `{${value
      .sorted(budget)
      .map(([key, item]) => `${toText(key, budget)}: ${toText(item, budget)}`)
      .join(", ")}}`;
  return `[${value.map((item) => toText(item, budget)).join(", ")}]`;
}

function notJson(why: string): PolicyError {
  return new PolicyError("ERR_POLICY_FAILED", { message: `what the policy was asked about is not readable: ${why}` });
}
