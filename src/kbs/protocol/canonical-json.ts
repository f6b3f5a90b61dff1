import { InternalError } from "../../errors/index.ts";

/**
 * The canonical form of a JSON value: members sorted by UTF-16 code units, no white space.
 *
 * ECMAScript's own number and string serialisation is the one that the scheme demands. Source: RFC 8785 sections 3.2.2
 * and 3.2.3.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([left], [right]) => (left < right ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(",")}}`;
  }
  const text = JSON.stringify(value);
  if (text === undefined || (typeof value === "number" && !Number.isFinite(value))) {
    throw new InternalError({ message: `a value of type ${typeof value} has no JSON form` });
  }
  return text;
}
