import { isObject } from "../protocol/shape.ts";

/** One thing that is wrong with a configuration. */
export interface ConfigProblem {
  /** Where, as dotted path: `store.kind`. */
  readonly path: string;
  readonly message: string;
}

/**
 * Reads a table of a configuration member by member, collecting everything that is wrong, so that one check shows all
 * of it. A member that nobody asked for is a problem too: a misspelled limit must not be silently absent.
 */
export class ConfigReader {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #path: string;
  readonly #problems: ConfigProblem[];
  readonly #known = new Set<string>();

  constructor(value: unknown, path: string, problems: ConfigProblem[]) {
    this.#problems = problems;
    this.#path = path;
    if (value !== undefined && !isObject(value)) this.#problems.push({ path, message: "must be a table" });
    this.#value = isObject(value) ? value : {};
  }

  /** Asking for a member makes it known, also where it is absent. */
  has(name: string): boolean {
    this.#known.add(name);
    return Object.hasOwn(this.#value, name);
  }

  text(name: string): string {
    return this.optionalText(name) ?? this.#missing(name, "a text");
  }

  optionalText(name: string): string | undefined {
    const value = this.#take(name);
    if (value === undefined || typeof value === "string") return value;
    this.problem(name, "must be a text");
    return undefined;
  }

  /** An integer within bounds, or `undefined`. */
  optionalInteger(name: string, min: number, max: number): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    this.problem(name, `must be a whole number from ${min} to ${max}`);
    return undefined;
  }

  /** One of some words; the first of them when the member is left out and `required` is not asked. */
  word<const Word extends string>(name: string, words: readonly [Word, ...Word[]], presence: "required" | "first-by-default"): Word {
    const value = this.#take(name);
    if (value === undefined && presence === "first-by-default") return words[0];
    const found = words.find((word) => word === value);
    if (found === undefined) this.problem(name, `must be ${words.map((word) => JSON.stringify(word)).join(" or ")}`);
    return found ?? words[0];
  }

  texts(name: string): readonly string[] {
    const value = this.#take(name) ?? [];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    this.problem(name, "must be a list of texts");
    return [];
  }

  section(name: string): ConfigReader {
    return new ConfigReader(this.#take(name), this.#at(name), this.#problems);
  }

  optionalSection(name: string): ConfigReader | undefined {
    return this.has(name) ? this.section(name) : undefined;
  }

  sections(name: string): readonly ConfigReader[] {
    const value = this.#take(name) ?? [];
    if (Array.isArray(value)) return value.map((item, index) => new ConfigReader(item, `${this.#at(name)}[${index}]`, this.#problems));
    this.problem(name, "must be a list of tables");
    return [];
  }

  /** The tables of a table, by name. */
  namedSections(name: string): readonly (readonly [string, ConfigReader])[] {
    const value = this.#take(name);
    if (value === undefined) return [];
    if (isObject(value))
      return Object.entries(value).map(([key, item]) => [key, new ConfigReader(item, `${this.#at(name)}.${key}`, this.#problems)]);
    this.problem(name, "must be a table");
    return [];
  }

  /** A table of texts. */
  textMap(name: string): Readonly<Record<string, string>> {
    const value = this.#take(name) ?? {};
    if (isObject(value) && Object.values(value).every((item) => typeof item === "string")) return value as Readonly<Record<string, string>>;
    this.problem(name, "must be a table of texts");
    return {};
  }

  problem(name: string, message: string): void {
    this.#problems.push({ path: this.#at(name), message });
  }

  /** Reports members that nobody asked for. Call when everything was read. */
  finish(): void {
    for (const name of Object.keys(this.#value)) {
      if (!this.#known.has(name)) this.problem(name, `is not known (known here: ${[...this.#known].sort().join(", ")})`);
    }
  }

  #take(name: string): unknown {
    this.#known.add(name);
    return Object.hasOwn(this.#value, name) ? this.#value[name] : undefined;
  }

  #missing(name: string, what: string): string {
    if (!this.has(name)) this.problem(name, `is missing (${what})`);
    return "";
  }

  #at(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }
}
