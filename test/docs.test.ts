import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { CommanderError } from "commander";
import { describe, expect, it } from "vitest";
import { parse as parseToml } from "smol-toml";
import { parseAllDocuments } from "yaml";
import { makeProgram } from "../cli/program.ts";
import { checkKbsConfig } from "../src/kbs/index.ts";
import { compileJsonPolicy } from "../src/policy/index.ts";
import { commandLines, pageBlocks, type Block } from "./docs/command-lines.ts";

const root = resolve(import.meta.dirname, "..");

/** Every page that people read; docs/reference is made from the code. */
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "CHANGELOG.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md") && !name.startsWith("reference"))
    .map((name) => join("docs", name)),
  ...readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith("README.md"))
    .map((name) => join("src", name)),
].map((name) => ({ name, text: readFileSync(join(root, name), "utf8") }));

/** Parses a command line as the program would, without running it; `undefined` when it is one that the program takes. */
function complaint(words: readonly string[]): string | undefined {
  try {
    makeProgram({ launch: () => async () => undefined }, { json: false, width: 100 }).parse([...words], { from: "user" });
    return undefined;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? undefined : error.message;
    throw error;
  }
}

function isReadable({ language, text }: Block): boolean {
  try {
    if (language === "json") JSON.parse(text);
    if (language === "toml") parseToml(text);
    return language !== "yaml" || parseAllDocuments(text).every(({ errors }) => errors.length === 0);
  } catch {
    return false;
  }
}

describe("the documentation", () => {
  it("shows only command lines that the program takes", () => {
    const shown = pages.flatMap(({ name, text }) => commandLines(text).map((line) => ({ name, ...line })));
    expect(shown.length).toBeGreaterThan(60);
    const wrong = shown
      .map(({ name, source, words }) => ({ name, source, complaint: complaint(words) }))
      .filter((line) => line.complaint !== undefined);
    expect(wrong).toEqual([]);
  });

  it("would notice a command, a flag or an argument that there is not", () => {
    const wrong = ["encript a b", "encrypt --recepient x a b", "pull image", "kbs resource put kbs:///a/b/c", "copy a b c"];
    for (const line of wrong) expect(complaint(line.split(" ")), line).toBeTypeOf("string");
    const [first, second, ...rest] = commandLines(
      "```sh\nA=1 ociseal copy a \\\n  'b c' > out &\nx | ociseal key public k && ociseal doctor\n```\nand `ociseal lint oci:i` too",
    );
    expect(first?.words).toEqual(["copy", "a", "b c"]);
    expect(second?.words).toEqual(["key", "public", "k"]);
    expect(rest.map(({ words }) => words)).toEqual([["doctor"], ["lint", "oci:i"]]);
  });

  it("links only to files that there are", () => {
    const links = pages.flatMap(({ name, text }) =>
      [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map((match) => ({ name, target: match[1] ?? "" })),
    );
    expect(links.length).toBeGreaterThan(10);
    expect(links.filter(({ name, target }) => !existsSync(join(root, dirname(name), target)))).toEqual([]);
  });

  it("names only files of deploy/ and src/ that there are", () => {
    const named = pages.flatMap(({ name, text }) =>
      [...text.matchAll(/`((?:deploy|src|scripts|test)\/[A-Za-z0-9_./-]+)`/g)].map((match) => ({ name, target: match[1] ?? "" })),
    );
    expect(named.length).toBeGreaterThan(8);
    expect(named.filter(({ target }) => !existsSync(join(root, target)))).toEqual([]);
  });

  it("shows JSON, YAML and TOML that can be read", () => {
    const blocks = pages.flatMap(({ name, text }) => pageBlocks(text).map((block) => ({ name, ...block })));
    const count = (language: string): number => blocks.filter((block) => block.language === language).length;
    expect([count("json"), count("yaml"), count("toml")].every((n) => n > 0)).toBe(true);
    const broken = blocks.filter((block) => !isReadable(block));
    expect(broken).toEqual([]);
    expect(isReadable({ language: "json", text: "{" }) || isReadable({ language: "toml", text: "=" })).toBe(false);
  });

  it("shows configurations and policies that the service takes", () => {
    const blocks = pages.flatMap(({ name, text }) => pageBlocks(text).map((block) => ({ name, ...block })));
    const configurations = blocks.filter(({ language }) => language === "toml");
    expect(configurations.length).toBeGreaterThan(2);
    for (const { name, text } of configurations) expect(checkKbsConfig(`[store]\nkind = "memory"\n${text}`), name).toEqual([]);
    const policies = blocks.filter(({ language, text }) => language === "json" && text.includes("allowed_measurements"));
    expect(policies.length).toBeGreaterThan(0);
    for (const { name, text } of policies) expect(compileJsonPolicy(text, "page"), name).toBeTruthy();
  });

  it.each(["threat-model", "architecture", "data-path"])("has a picture that every browser draws: %s", (name) => {
    const svg = readFileSync(join(root, `docs/${name}.svg`), "utf8");
    expect(pages.some(({ text }) => text.includes(`${name}.svg)`))).toBe(true);
    expect(svg).toContain('xmlns="http://www.w3.org/2000/svg"');
    expect(svg).not.toMatch(/<script|javascript:|href="http/);
    const open = [...svg.matchAll(/<([a-z]+)(?:\s[^>]*)?(?<!\/)>/g)].map((match) => match[1]);
    const closed = [...svg.matchAll(/<\/([a-z]+)>/g)].map((match) => match[1]);
    const count = (names: readonly (string | undefined)[], name: string | undefined): number => names.filter((one) => one === name).length;
    for (const name of new Set([...open, ...closed])) expect(count(open, name), name).toBe(count(closed, name));
  });
});
