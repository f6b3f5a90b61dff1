import { InternalError } from "../../errors/index.ts";

const grammar = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*(?:\/[a-zA-Z0-9_-][a-zA-Z0-9_.-]*)*$/;

/** Checks a record's key before it becomes a path or a query. A bad one is our own defect: requests are checked earlier. */
export function assertRecordKey(key: string): void {
  if (key.length > 1024 || !grammar.test(key))
    throw new InternalError({ message: `not a record key: ${JSON.stringify(key.slice(0, 200))}` });
}

/** Whether a key lies below a prefix of whole segments; the empty prefix holds everything. */
export function isBelow(key: string, prefix: string): boolean {
  return prefix === "" || key === prefix || key.startsWith(`${prefix}/`);
}

/** Sorts by code units and cuts one page. */
export function pageOf(
  keys: readonly string[],
  after: string | undefined,
  limit: number,
): { keys: readonly string[]; next: string | undefined } {
  const sorted = keys.filter((key) => after === undefined || key > after).sort();
  const page = sorted.slice(0, limit);
  return { keys: page, next: sorted.length > page.length ? page.at(-1) : undefined };
}
