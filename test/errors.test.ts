import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { errorCatalogue } from "../cli/error-catalogue.ts";
import { categories } from "../src/errors/index.ts";

const root = resolve(import.meta.dirname, "..");
const sources = ["src", "cli"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => ({ name: join(folder, name), text: readFileSync(join(root, folder, name), "utf8") })),
);
const catalogue = errorCatalogue();
const codes = new Set(catalogue.map(({ code }) => code));

describe("the error catalogue", () => {
  it("has many codes, each once, with a known category and a sentence", () => {
    expect(catalogue.length).toBeGreaterThan(60);
    expect(codes.size).toBe(catalogue.length);
    for (const { code, category, summary } of catalogue) {
      expect(Object.hasOwn(categories, category), code).toBe(true);
      expect(summary, code).toMatch(/^[A-Za-z].*\.$/);
    }
  });

  it("holds every code that the sources name", () => {
    const named = new Set(
      sources.flatMap(({ text }) => [...text.matchAll(/new \w+Error\(\s*"(ERR_[A-Z0-9_]+)"/g)].map((match) => match[1] ?? "")),
    );
    const unknown = [...named].filter((code) => !codes.has(code));
    expect(unknown).toEqual([]);
  });

  it("holds no code that nothing throws", () => {
    const elsewhere = catalogue.filter(
      ({ code }) => !sources.some(({ name, text }) => !name.endsWith("/errors.ts") && text.includes(code)),
    );
    const unused = elsewhere.filter(
      ({ code }) => !sources.some(({ name, text }) => name.endsWith("/errors.ts") && text.split(code).length > 2),
    );
    expect(unused.map(({ code }) => code)).toEqual([]);
  });

  it("is the one that the documentation shows", () => {
    const page = readFileSync(join(root, "docs/reference/errors.md"), "utf8");
    const shown = [...page.matchAll(/^\| `(ERR_[A-Z0-9_]+)`/gm)].map((match) => match[1]);
    expect(shown).toEqual(catalogue.map(({ code }) => code));
  });
});
