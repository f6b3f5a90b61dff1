/**
 * The page on the service's configuration, found by asking the parser: of every table which members it knows, and of every
 * member what it must be. What the parser takes and what the page says cannot drift apart.
 */
import { stringify } from "smol-toml";
import { checkKbsConfig } from "../src/kbs/index.ts";
import { configMeanings } from "./config-meanings.ts";

/** A member as the page shows it. */
export interface ConfigMember {
  /** `store.kind`, `roles.*.grants.actions`. */
  readonly path: string;
  readonly type: string;
  /** With which `kind` the member is known; empty when with all. */
  readonly kinds: ReadonlySet<string>;
}

type Table = Record<string, unknown>;

/** A way from the root to a table: how its content is put into a document. */
interface Place {
  readonly path: string;
  readonly shown: string;
  readonly document: (content: Table) => Table;
}

const nonsense = "no_such_member";

function problemAt(document: Table, path: string): string | undefined {
  return checkKbsConfig(stringify(document)).find((problem) => problem.path === path)?.message;
}

function knownMembers(place: Place, kind: Table): readonly string[] {
  const path = place.path === "" ? nonsense : `${place.path}.${nonsense}`;
  const said = /known here: (.*)\)$/.exec(problemAt(place.document({ ...kind, [nonsense]: 1 }), path) ?? "")?.[1];
  return said === undefined || said === "" ? [] : said.split(", ");
}

function kindsOf(place: Place): readonly string[] {
  const path = place.path === "" ? "kind" : `${place.path}.kind`;
  const said = /^must be (.*)$/.exec(problemAt(place.document({ kind: nonsense }), path) ?? "")?.[1];
  return said === undefined ? [] : said.split(" or ").map((word) => JSON.parse(word) as string);
}

/** What a member must be, by what the parser says about something that nothing can be. */
function typeOf(place: Place, kind: Table, name: string): { readonly type: string; readonly inner?: Place } {
  const path = place.path === "" ? name : `${place.path}.${name}`;
  const shown = place.shown === "" ? name : `${place.shown}.${name}`;
  const put = (value: unknown): Table => place.document({ ...kind, [name]: value });
  const said = problemAt(put([[1]]), path);
  if (said === "must be a table") {
    const named = problemAt(put({ [nonsense]: 1 }), `${path}.${nonsense}`) === "must be a table";
    const inner = named
      ? { path: `${path}.x`, shown: `${shown}.*`, document: (content: Table) => put({ x: content }) }
      : { path, shown, document: put };
    return { type: named ? "tables by name" : "table", inner };
  }
  if (said === undefined || said === "must be a list of tables") {
    return { type: "list of tables", inner: { path: `${path}[0]`, shown, document: (content) => put([content]) } };
  }
  return { type: said.replace(/^must be (?:an? )?/, "") };
}

function explore(place: Place, found: Map<string, { type: string; kinds: Set<string> }>): void {
  const kinds = kindsOf(place);
  for (const kind of kinds.length === 0 ? [undefined] : kinds) {
    const chosen: Table = kind === undefined ? {} : { kind };
    for (const name of knownMembers(place, chosen)) {
      const { type, inner } = typeOf(place, name === "kind" ? {} : chosen, name);
      const shown = place.shown === "" ? name : `${place.shown}.${name}`;
      const entry = found.get(shown) ?? { type, kinds: new Set<string>() };
      const first = !found.has(shown);
      found.set(shown, entry);
      if (kind !== undefined) entry.kinds.add(kind);
      if (first && inner !== undefined) explore(inner, found);
    }
    for (const [shown, entry] of found)
      if (kinds.length > 0 && entry.kinds.size === kinds.length && shown.startsWith(place.shown)) entry.kinds.add("*");
  }
}

/** Every member that the parser knows, in its order. */
export function configMembers(): readonly ConfigMember[] {
  const found = new Map<string, { type: string; kinds: Set<string> }>();
  explore({ path: "", shown: "", document: (content) => content }, found);
  return [...found].map(([path, { type, kinds }]) => ({ path, type, kinds: kinds.has("*") ? new Set<string>() : kinds }));
}

export function meaningOf(path: string): string | undefined {
  return configMeanings[path] ?? configMeanings[path.replace(/^.*\blogin\./, "login.")];
}

export function configurationPage(made: string): string {
  const rows = configMembers().map(({ path, type, kinds }) => {
    const only = kinds.size === 0 ? "" : ` (${[...kinds].join(", ")})`;
    return `| \`${path}\` | ${type}${only} | ${meaningOf(path) ?? ""} |`;
  });
  return `# Configuration of the Key Broker Service\n\n${made}
A TOML file for \`ociseal kbs serve --config\`. Members that are not here are refused. Check a file with \`ociseal kbs config check FILE\`, which
names everything that is wrong at once. Examples: \`deploy/systemd/kbs.toml\`, \`deploy/kubernetes/kbs.toml\`.

A word in brackets after the type names the \`kind\` of the table with which the member is known.

| member | type | meaning |
|---|---|---|
${rows.join("\n")}
`;
}
