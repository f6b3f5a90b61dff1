import { parse, type TomlTable } from "smol-toml";
import { describeCause } from "../errors/index.ts";
import { RegistryError } from "./errors.ts";
import { canonicalHost, hub } from "./scheme.ts";

/** Which references a mirror may answer. Source: containers-registries.conf(5), "pull-from-mirror". */
export type MirrorUse = "all" | "digest-only" | "tag-only";

/** A place that holds the images of a prefix. */
export interface RegistryLocation {
  /** `host[:port][/path]`; empty means the prefix itself. */
  readonly location: string;
  readonly insecure: boolean;
}

/** One `[[registry]]` table. */
export interface RegistryRule extends RegistryLocation {
  /** `host[:port][/path]` or `*.domain`. */
  readonly prefix: string;
  readonly blocked: boolean;
  readonly mirrors: readonly (RegistryLocation & { readonly use: MirrorUse })[];
}

/** registries.conf with its drop-ins, parsed. */
export interface RegistriesConf {
  readonly rules: readonly RegistryRule[];
}

/** A repository as it is really to be spoken to. */
export interface Endpoint {
  readonly host: string;
  readonly repository: string;
  readonly insecure: boolean;
}

/** Where to read a repository: the mirrors in order, then its own place, which alone is written to. */
export interface Route {
  readonly mirrors: readonly (Endpoint & { readonly use: MirrorUse })[];
  readonly primary: Endpoint;
}

/**
 * Parses registries.conf (version 2) and its drop-ins, in the order given; a later table replaces an earlier one of
 * the same prefix. Throws `ERR_REGISTRY_CONFIG_MALFORMED`, naming the file.
 *
 * Short names and search registries are not used: a security tool does not guess where an image comes from.
 */
export function parseRegistriesConf(files: readonly { readonly path: string; readonly text: string }[]): RegistriesConf {
  const rules = new Map<string, RegistryRule>();
  for (const { path, text } of files) {
    for (const rule of parseFile(text, path)) rules.set(rule.prefix, rule);
  }
  return { rules: [...rules.values()] };
}

/**
 * The route to a repository. The longest matching prefix decides; `blocked` ends with `ERR_REGISTRY_BLOCKED`.
 * Without configuration, or without a matching table, it is the repository itself.
 */
export function routeTo(conf: RegistriesConf | undefined, host: string, repository: string): Route {
  const name = `${nameOf(host)}/${repository}`;
  const self = { host, repository, insecure: false };
  const rule = conf?.rules.filter(({ prefix }) => covers(prefix, name)).sort((left, right) => right.prefix.length - left.prefix.length)[0];
  if (rule === undefined) return { mirrors: [], primary: self };
  if (rule.blocked) {
    throw new RegistryError("ERR_REGISTRY_BLOCKED", {
      message: `${name} is blocked by registries.conf (prefix ${JSON.stringify(rule.prefix)})`,
      hint: "remove blocked = true there if you may",
    });
  }
  const at = (place: RegistryLocation): Endpoint => ({
    ...splitName(rewrite(rule.prefix, place.location, name)),
    insecure: place.insecure,
  });
  return { mirrors: rule.mirrors.map((mirror) => ({ ...at(mirror), use: mirror.use })), primary: at(rule) };
}

/** Hosts compare as in references: the Hub under one name. */
function nameOf(host: string): string {
  const canonical = canonicalHost(host);
  return canonical === hub.host ? "docker.io" : canonical;
}

function covers(prefix: string, name: string): boolean {
  if (prefix.startsWith("*.")) {
    const [host = ""] = name.split("/");
    return host.replace(/:\d+$/, "").endsWith(prefix.slice(1));
  }
  return name === prefix || name.startsWith(`${prefix}/`);
}

function rewrite(prefix: string, location: string, name: string): string {
  return location === "" || prefix.startsWith("*.") ? name : `${location}${name.slice(prefix.length)}`;
}

function splitName(name: string): { readonly host: string; readonly repository: string } {
  const slash = name.indexOf("/");
  return { host: name.slice(0, slash), repository: name.slice(slash + 1) };
}

function parseFile(text: string, path: string): readonly RegistryRule[] {
  let root: TomlTable;
  try {
    root = parse(text);
  } catch (cause) {
    throw malformed(path, describeCause(cause).split("\n")[0] ?? "not TOML", cause);
  }
  const version1 = root["registries"];
  if (version1 !== undefined)
    throw malformed(path, "version 1 of the format ([registries.…]) is no longer read; write [[registry]] tables");
  return tables(root["registry"], "registry", path).map((table) => parseRule(table, path));
}

function parseRule(table: TomlTable, path: string): RegistryRule {
  const location = text(table, "location", path);
  const prefix = text(table, "prefix", path) || location;
  if (prefix === "") throw malformed(path, "a [[registry]] has neither prefix nor location");
  if (!/^(\*\.)?[a-z0-9[][^\s]*$/.test(prefix))
    throw malformed(path, `the prefix ${JSON.stringify(prefix.slice(0, 100))} is neither HOST[/PATH] nor *.DOMAIN`);
  if (prefix.startsWith("*.") && location !== "") throw malformed(path, `the prefix ${prefix} has a wildcard and can have no location`);
  const digestOnly = flag(table, "mirror-by-digest-only", path);
  const mirrors = tables(table["mirror"], "registry.mirror", path).map((mirror) => {
    const place = text(mirror, "location", path);
    if (place === "") throw malformed(path, `a mirror of ${prefix} has no location`);
    return { location: place, insecure: flag(mirror, "insecure", path), use: digestOnly ? "digest-only" : useOf(mirror, path) } as const;
  });
  return { prefix, location, insecure: flag(table, "insecure", path), blocked: flag(table, "blocked", path), mirrors };
}

function useOf(mirror: TomlTable, path: string): MirrorUse {
  const use = text(mirror, "pull-from-mirror", path);
  if (use === "" || use === "all") return "all";
  if (use === "digest-only" || use === "tag-only") return use;
  throw malformed(path, `pull-from-mirror = ${JSON.stringify(use.slice(0, 40))} is none of all, digest-only, tag-only`);
}

function tables(value: unknown, name: string, path: string): readonly TomlTable[] {
  if (value === undefined) return [];
  const isTable = (item: unknown): item is TomlTable =>
    typeof item === "object" && item !== null && !Array.isArray(item) && !(item instanceof Date);
  if (!Array.isArray(value) || !value.every(isTable)) throw malformed(path, `${name} is not a list of tables ([[${name}]])`);
  return value;
}

function text(table: TomlTable, name: string, path: string): string {
  const value = table[name] ?? "";
  if (typeof value !== "string") throw malformed(path, `${name} is not text`);
  return value.replace(/\/+$/, "");
}

function flag(table: TomlTable, name: string, path: string): boolean {
  const value = table[name] ?? false;
  if (typeof value !== "boolean") throw malformed(path, `${name} is neither true nor false`);
  return value;
}

function malformed(path: string, what: string, cause?: unknown): RegistryError {
  return new RegistryError("ERR_REGISTRY_CONFIG_MALFORMED", {
    message: `${path}: ${what}`,
    hint: "see containers-registries.conf(5)",
    cause,
  });
}
