import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { renderSite, type SitePage } from "../../scripts/site.ts";
import { missingChromium, startChromium } from "../browser.ts";

const root = resolve(import.meta.dirname, "../..");
let folder: string;
let pages: readonly SitePage[];
let files: readonly { readonly name: string; readonly html: string }[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ociseal-site-"));
  pages = await renderSite(root, folder);
  files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".html"))
    .map((name) => ({ name, html: readFileSync(join(folder, name), "utf8") }));
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function attributes(html: string, name: string): readonly string[] {
  return [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map((match) => (match[1] ?? "").replaceAll("&amp;", "&"));
}

describe("the site", () => {
  it("has every page of docs, and one for each subpath of the package", () => {
    expect(files.length).toBe(pages.length);
    expect(pages.filter(({ group }) => group === "Library").length).toBeGreaterThan(15);
    for (const { path, title } of pages) {
      const html = files.find(({ name }) => name === path)?.html ?? "";
      expect(html.length, path).toBeGreaterThan(1000);
      expect(title.length, path).toBeGreaterThan(2);
    }
  });

  it("links only to what is there, places inside pages too", () => {
    const broken: string[] = [];
    let seen = 0;
    for (const { name, html } of files) {
      for (const target of [...attributes(html, "href"), ...attributes(html, "src")].filter((link) => !/^(https?|mailto):/.test(link))) {
        const [path = "", fragment] = target.split("#");
        const file = path === "" ? join(folder, name) : join(folder, dirname(name), path);
        seen += 1;
        if (relative(folder, file).startsWith("..") || !existsSync(file)) broken.push(`${name}: ${target}`);
        else if (fragment !== undefined && !attributes(readFileSync(file, "utf8"), "id").includes(decodeURIComponent(fragment)))
          broken.push(`${name}: no place ${target}`);
      }
    }
    expect(seen).toBeGreaterThan(1000);
    expect([...new Set(broken)]).toEqual([]);
  });

  it("needs no other host: scripts, styles and pictures are its own", () => {
    for (const { name, html } of files) {
      const loaded = [...attributes(html, "src"), ...[...html.matchAll(/<link [^>]*href="([^"]*)"/g)].map((match) => match[1] ?? "")];
      expect(
        loaded.filter((link) => /^(https?:)?\/\//.test(link)),
        name,
      ).toEqual([]);
    }
    for (const name of ["style.css", "search.js"])
      expect(readFileSync(join(folder, name), "utf8")).not.toMatch(/https?:\/\/|@import|url\(/);
  });

  it("shows no comment that is for whoever edits a page", () => {
    for (const { name, html } of files) expect(html.replaceAll(/<pre>[^]*?<\/pre>/g, ""), name).not.toMatch(/(&lt;|<)!--/);
  });

  it.skipIf(missingChromium())(
    "begins with the text on a telephone, and is no wider; names stay whole",
    async () => {
      const browser = await startChromium();
      try {
        const phone = await browser.newPage({ viewport: { width: 390, height: 844 } });
        for (const path of ["getting-started.html", "reference/errors.html", "how-to/seal-in-ci.html"]) {
          await phone.goto(pathToFileURL(join(folder, path)).href);
          expect((await phone.locator("h1").boundingBox())?.y ?? Infinity, path).toBeLessThan(400);
          expect(await phone.evaluate("document.documentElement.scrollWidth"), path).toBeLessThanOrEqual(390);
        }
        await phone.locator("summary").click();
        expect(await phone.getByRole("link", { name: "Getting started" }).isVisible()).toBe(true);
        const desk = await browser.newPage({ viewport: { width: 1200, height: 900 } });
        await desk.goto(pathToFileURL(join(folder, "reference/errors.html")).href);
        expect(await desk.getByRole("link", { name: "Getting started" }).isVisible()).toBe(true);
        // One line of 14 pixels, not three.
        expect((await desk.getByText("ERR_ATTESTATION_POLICY_MALFORMED", { exact: true }).boundingBox())?.height).toBeLessThan(30);
      } finally {
        await browser.close();
      }
    },
    60_000,
  );

  it("finds pages by what they say", () => {
    const context: { ocisealPages?: readonly { readonly path: string; readonly text: string }[] } = {};
    runInNewContext(readFileSync(join(folder, "search-index.js"), "utf8"), context);
    expect(context.ocisealPages?.length).toBe(pages.length);
    const found = context.ocisealPages?.filter(({ text }) => text.includes("err_cipher_chunk_damaged")).map(({ path }) => path);
    expect(found).toContain("reference/errors.html");
  });
});
