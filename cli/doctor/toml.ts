import { parse } from "smol-toml";
import { textOf } from "./files.ts";
import { reasonOf, type Add } from "./finding.ts";

type Table = Readonly<Record<string, unknown>>;

/** A TOML file; `undefined` when there is none, or when it does not read, which is then a finding. */
export async function readToml(add: Add, path: string): Promise<Table | undefined> {
  try {
    const text = await textOf(path);
    return text === undefined ? undefined : tableOf(parse(text));
  } catch (error) {
    add("fail", "configuration", `${path}: ${(reasonOf(error).split("\n")[0] ?? "").slice(0, 200)}`, "correct the file");
    return undefined;
  }
}

export function tableOf(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}

export function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
