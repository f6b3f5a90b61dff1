/** `make docs`: writes docs/man and the parts of docs/reference that are made from code. With --check: only says what is out of date. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { commandPages } from "../cli/command-reference.ts";
import { errorCatalogue } from "../cli/error-catalogue.ts";
import { manPages } from "../cli/man-page.ts";
import { makeProgram } from "../cli/program.ts";
import { readVersion } from "../cli/version.ts";
import { categories } from "../src/errors/index.ts";
import { configurationPage } from "./config-reference.ts";
import { libraryPage } from "./library-examples.ts";
import { licencesPage } from "./package-gates.ts";
import { pictures } from "./pictures.ts";

const root = resolve(import.meta.dirname, "..");
const made = "<!-- Made by make docs from the code; do not edit. -->\n";

function escape(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replaceAll("\n", " ");
}

function errorsPage(): string {
  const rows = errorCatalogue().map(
    ({ code, room, category, summary }) => `| \`${code}\` | ${room} | ${categories[category]} ${category} | ${escape(summary)} |`,
  );
  const exits = Object.entries(categories).map(([name, code]) => `| ${code} | ${name} |`);
  return `# Errors and exit codes\n\n${made}\nEvery error has a stable code and belongs to a category, which decides the exit code. 0 means done.\n\n| exit code | category |\n|---|---|\n${exits.join("\n")}\n\n| code | room | exit | what it means |\n|---|---|---|---|\n${rows.join("\n")}\n`;
}

const commands = commandPages(makeProgram({ launch: () => async () => undefined }, { json: false, width: 100 }));

function commandsPage(): string {
  const sections = commands.map(({ name, usage, description, options, kind }) => {
    const rows = options.map(
      ({ flags, description: text, defaultValue }) =>
        `| \`${escape(flags).replaceAll("&lt;", "<")}\` | ${escape(text)}${defaultValue === undefined ? "" : ` (default: ${escape(defaultValue)})`} |`,
    );
    const table = rows.length === 0 || kind === "group" ? "" : `\n| flag | meaning |\n|---|---|\n${rows.join("\n")}\n`;
    return `## ${name}\n\n${description}\n\n\`\`\`text\n${usage}\n\`\`\`\n${table}`;
  });
  return `# Commands\n\n${made}\n${sections.join("\n")}`;
}

const pages: Readonly<Record<string, () => string>> = {
  "docs/reference/errors.md": errorsPage,
  "docs/reference/commands.md": commandsPage,
  "docs/library.md": () => libraryPage(root, made),
  "docs/reference/licences.md": () => licencesPage(root, made),
  "docs/reference/configuration.md": () => configurationPage(made),
  ...Object.fromEntries(Object.entries(pictures()).map(([file, text]) => [file, () => text])),
  ...Object.fromEntries(manPages(commands, readVersion()).map(({ file, text }) => [`docs/man/${file}`, () => text])),
};

const stale: string[] = [];
for (const [path, make] of Object.entries(pages)) {
  const file = join(root, path);
  const text = make();
  if (process.argv.includes("--check")) {
    if (!existsSync(file) || readFileSync(file, "utf8") !== text) stale.push(path);
  } else {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}
if (stale.length > 0) {
  process.stderr.write(`out of date: ${stale.join(", ")}; run make docs\n`);
  process.exitCode = 1;
}
