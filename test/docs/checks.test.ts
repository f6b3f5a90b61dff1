import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { errorCatalogue } from "../../cli/error-catalogue.ts";

const root = resolve(import.meta.dirname, "../..");
const folder = join(root, "docs/checks");

interface Row {
  readonly page: string;
  readonly check: string;
  readonly codes: readonly string[];
  readonly tests: readonly { readonly file: string; readonly name: string }[];
}

/** The rows of a page: three cells, of which the last names a test as `file`: name, several apart by `<br>`. */
function rowsOf(page: string, text: string): readonly Row[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("|") && !/^\|\s*(?:-|Check\b)/.test(line))
    .map((line) => {
      const cells = line.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll(String.raw`\|`, "|"));
      expect(cells.length, `${page}: ${line}`).toBe(5);
      const [, check = "", codes = "", tests = ""] = cells;
      return {
        page,
        check,
        codes: [...codes.matchAll(/`([^`]*)`/g)].map((match) => match[1] ?? ""),
        tests: tests.split("<br>").map((test) => {
          const match = /^`(test\/[\w./-]+)`: (.+)$/.exec(test.trim());
          expect(match, `${page}: ${test}`).not.toBeNull();
          return { file: match?.[1] ?? "", name: match?.[2] ?? "" };
        }),
      };
    });
}

const pages = readdirSync(folder).filter((name) => name.endsWith(".md") && name !== "README.md");
const rows = pages.flatMap((page) => rowsOf(page, readFileSync(join(folder, page), "utf8")));
const catalogue = new Map(errorCatalogue().map((entry) => [entry.code, entry]));

const sources = new Map<string, string>();
function sourceOf(file: string): string {
  const known = sources.get(file);
  if (known !== undefined) return known;
  const text = existsSync(join(root, file)) ? readFileSync(join(root, file), "utf8") : "";
  sources.set(file, text);
  return text;
}

/** Whether a test file has a test, or a row of one, of this name. */
function hasTest(file: string, name: string): boolean {
  const text = sourceOf(file);
  return [`"${name}"`, `\`${name}\``, JSON.stringify(name), `'${name}'`].some((quoted) => text.includes(quoted));
}

describe("the tables of checks", () => {
  it("name only tests that there are", () => {
    expect(rows.length).toBeGreaterThan(120);
    const missing = rows.flatMap(({ page, tests }) =>
      tests.filter(({ file, name }) => !hasTest(file, name)).map(({ file, name }) => `${page}: ${file}: ${name}`),
    );
    expect(missing).toEqual([]);
    expect(hasTest("test/docs/checks.test.ts", ["no test", "has this name"].join(" "))).toBe(false);
  });

  it("name only codes of the catalogue", () => {
    const unknown = rows.flatMap(({ page, codes }) => codes.filter((code) => !catalogue.has(code)).map((code) => `${page}: ${code}`));
    expect(unknown).toEqual([]);
  });

  it("have a row for every code of a refusal", () => {
    const named = new Set(rows.flatMap(({ codes }) => codes));
    const refusals = [...catalogue.values()].filter(({ category }) => ["integrity", "denied", "attestation"].includes(category));
    expect(refusals.length).toBeGreaterThan(80);
    expect(refusals.filter(({ code }) => !named.has(code)).map(({ code, room }) => `${room}: ${code}`)).toEqual([]);
  });

  it("are all in the list of pages", () => {
    const list = readFileSync(join(folder, "README.md"), "utf8");
    expect(pages.length).toBeGreaterThan(10);
    for (const page of pages) expect(list, page).toContain(`](${page})`);
  });
});
