/**
 * Renders the documentation to a static site with Eleventy: `make docs`, or `node scripts/site.ts [FOLDER]`. Every page of docs, the
 * papers of the root folder, and a reference of the library that is made here. It needs no server and no other host.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { EleventyConfig, MarkdownLibrary } from "@11ty/eleventy";
import { libraryPages } from "./library-reference.ts";

export interface SitePage {
  /** In the repository, for links between pages: `docs/how-to/run-the-kbs.md`. */
  readonly source: string;
  /** In the site: `how-to/run-the-kbs.html`. */
  readonly path: string;
  readonly title: string;
  readonly group: string;
  readonly text: string;
}

const papers = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "PERFORMANCE.md"];

/** In this order; what a pattern names first keeps it. */
const groups: readonly (readonly [name: string, pattern: RegExp])[] = [
  ["Start", /^(README|docs\/getting-started)\.md$/],
  ["How to", /^docs\/how-to\//],
  ["Concepts", /^docs\/(concepts\/|threat-model|decisions)/],
  ["Checks", /^docs\/checks\//],
  ["Reference", /^docs\/reference\/(?!library\/)/],
  ["Library", /^docs\/(library\.md|reference\/library\/)/],
  ["Project", /^/],
];

/** What the site consists of. */
export function sitePages(root: string): readonly SitePage[] {
  const written = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => posix.join("docs", name.replaceAll("\\", "/")));
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    readonly exports: Readonly<Record<string, unknown>>;
  };
  const rooms = Object.keys(exports).flatMap((key) => (/^\.\/[a-z-]+$/.test(key) ? [key.slice(2)] : []));
  const sources = new Map<string, string>([
    ...[...papers, ...written].map((name) => [name, readFileSync(join(root, name), "utf8")] as const),
    ...libraryPages(root, rooms).map(({ room, text }) => [`docs/reference/library/${room}.md`, text] as const),
  ]);
  return [...sources].map(([source, text]) => ({
    source,
    text,
    path: pathOf(source),
    title: titleOf(text, source),
    group: groupOf(source),
  }));
}

function pathOf(source: string): string {
  if (source === "README.md") return "index.html";
  return source
    .replace(/^docs\//, "")
    .replace(/README\.md$/, "index.md")
    .replace(/\.md$/, ".html");
}

function titleOf(text: string, source: string): string {
  return /^# (.+)$/m.exec(text)?.[1]?.replaceAll("`", "") ?? source;
}

function groupOf(source: string): string {
  return groups.find(([, pattern]) => pattern.test(source))?.[0] ?? "Project";
}

/** Links between Markdown files become links between pages; links to other files of the repository are left as words. */
function followLinks(pages: readonly SitePage[]): (markdown: MarkdownLibrary) => void {
  const paths = new Map(pages.map(({ source, path }) => [source, path]));
  return (markdown) => {
    markdown.set({ html: false });
    markdown.core.ruler.push("pages", ({ tokens, env }) => {
      const from = pages.find(({ source }) => source === env.source);
      if (from === undefined) return;
      for (const token of tokens.flatMap(({ children }) => children ?? [])) {
        for (const name of ["href", "src"]) {
          const target = token.attrGet(name);
          if (target === null || /^([a-z]+:|#)/.test(target)) continue;
          const [file = "", fragment] = target.split("#");
          const source = posix.join(posix.dirname(from.source), file);
          const path = paths.get(source) ?? (source.endsWith(".svg") ? source.replace(/^docs\//, "") : undefined);
          if (path === undefined) continue;
          const link = posix.relative(posix.dirname(from.path), path);
          token.attrSet(name, fragment === undefined ? link : `${link}#${fragment}`);
        }
      }
    });
  };
}

/** What the search finds pages by; a script, for a page from a folder may read nothing else. */
function searchIndex(pages: readonly SitePage[]): string {
  const entries = pages.map(({ path, title, text }) => ({
    path,
    title,
    headings: [...text.matchAll(/^#+ (.+)$/gm)].map((match) => match[1]).join(" "),
    text: [...new Set(text.toLowerCase().match(/[\p{L}\p{N}][\p{L}\p{N}_.:/-]+/gu) ?? [])].join(" "),
  }));
  return `globalThis.ocisealPages = ${JSON.stringify(entries)};\n`;
}

/** Comments are for whoever edits a page; with HTML switched off they would be shown. Code keeps what looks like one. */
function withoutComments(text: string): string {
  return text.replaceAll(/^<!--[^\n]*-->\n/gm, "");
}

/** Renders the site into a folder. Resolves to its pages. */
export async function renderSite(root: string, output: string): Promise<readonly SitePage[]> {
  const { default: Eleventy, IdAttributePlugin } = await import("@11ty/eleventy");
  const pages = sitePages(root);
  const navigation = groups.map(([name]) => ({
    name,
    pages: pages.filter(({ group }) => group === name).map(({ path, title }) => ({ path, title })),
  }));
  const input = join(root, "docs/site");
  const eleventy = new Eleventy(relative(process.cwd(), input) || ".", output, {
    quietMode: true,
    configPath: false,
    config(config: EleventyConfig) {
      config.setIncludesDirectory(".");
      config.setUseGitIgnore(false);
      config.addPlugin(IdAttributePlugin);
      config.amendLibrary("md", followLinks(pages));
      config.setTemplateFormats(["md"]);
      config.addPassthroughCopy({ [join(input, "style.css")]: "style.css", [join(input, "search.js")]: "search.js" });
      for (const name of readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".svg")))
        config.addPassthroughCopy({ [join(root, "docs", name)]: name });
      for (const { source, path, title, text } of pages) {
        const up = "../".repeat(path.split("/").length - 1);
        const data = { layout: "page.liquid", permalink: path, templateEngineOverride: "md", title, source, path, up, navigation };
        config.addTemplate(`${path.replaceAll("/", "-").replace(/\.html$/, "")}.md`, withoutComments(text), data);
      }
      config.addTemplate("search-index.md", searchIndex(pages), { permalink: "search-index.js", templateEngineOverride: false });
    },
  });
  eleventy.disableLogger();
  await eleventy.write();
  if (!existsSync(join(output, "index.html"))) throw new Error(`no site was written to ${output}`);
  return pages;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = resolve(import.meta.dirname, "..");
  const output = resolve(process.argv[2] ?? join(root, "docs-site"));
  const pages = await renderSite(root, output);
  process.stderr.write(
    `${pages.length} pages in ${relative(process.cwd(), join(output, "index.html"))}, from ${relative(process.cwd(), dirname(join(root, "docs/site")))}\n`,
  );
}
