import { describeCause } from "../../errors/index.ts";
import { SigningError } from "../errors.ts";

/** A part of the policy with its place, so that every complaint can name the field. */
export interface Place {
  readonly source: string;
  /** `transports.docker["example.com"][0].keyPath`. */
  readonly path: string;
}

export function at(place: Place, member: string): Place {
  const step = /^[A-Za-z][A-Za-z0-9]*$/.test(member)
    ? `${place.path === "" ? "" : "."}${member}`
    : `[${JSON.stringify(member.slice(0, 120))}]`;
  return { ...place, path: `${place.path}${step}` };
}

export function atIndex(place: Place, index: number): Place {
  return { ...place, path: `${place.path}[${index}]` };
}

/** The policy is refused as a whole. */
export function invalidPolicy({ source, path }: Place, complaint: string, cause?: unknown): SigningError {
  return new SigningError("ERR_POLICY_MALFORMED", {
    message: `${source} is not a valid policy: ${path === "" ? "the document" : path} ${complaint}${cause === undefined ? "" : ` (${describeCause(cause)})`}`,
    hint: "see containers-policy.json(5); ociseal policy check says how each tool reads the file",
    cause,
  });
}

export type Members = Readonly<Record<string, unknown>>;

export function objectAt(value: unknown, place: Place): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalidPolicy(place, "is not an object");
  return value as Members;
}

/** An object of these members only; a misspelt restriction must not pass as no restriction. */
export function membersAt(value: unknown, place: Place, known: readonly string[]): Members {
  const object = objectAt(value, place);
  const unknown = Object.keys(object).find((name) => !known.includes(name));
  if (unknown !== undefined) throw invalidPolicy(at(place, unknown), `is not known (expected one of ${known.join(", ")})`);
  return object;
}

export function textAt(members: Members, name: string, place: Place): string {
  const value = members[name];
  if (typeof value !== "string" || value === "")
    throw invalidPolicy(at(place, name), value === undefined ? "is missing" : "is not a text, or empty");
  return value;
}

export function optionalTextAt(members: Members, name: string, place: Place): string | undefined {
  return Object.hasOwn(members, name) ? textAt(members, name, place) : undefined;
}

export function textsAt(members: Members, name: string, place: Place): readonly string[] {
  const value = members[name];
  if (!Array.isArray(value) || value.length === 0) throw invalidPolicy(at(place, name), "is not a list, or empty");
  return value.map((item: unknown, i): string => {
    if (typeof item !== "string" || item === "") throw invalidPolicy(atIndex(at(place, name), i), "is not a text, or empty");
    return item;
  });
}

/** Of several alternatives those that are present. */
export function presentOf(members: Members, names: readonly string[]): readonly string[] {
  return names.filter((name) => Object.hasOwn(members, name));
}
