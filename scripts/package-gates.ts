/** What `make check` asks about the packages that this one brings: a bill of materials, licences, known vulnerabilities. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly peer?: boolean;
  readonly hasInstallScript?: boolean;
}

/** A package that is installed with this one. */
export interface RuntimePackage {
  readonly name: string;
  readonly version: string;
  readonly license: string | undefined;
}

/** Licences that go with Apache-2.0 without conditions on whoever uses the program. */
export const allowedLicenses: ReadonlySet<string> = new Set([
  "0BSD",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BlueOak-1.0.0",
  "ISC",
  "MIT",
]);

/** What `npm install ociseal` brings, by the lock file; optional peers are not among it. */
export function runtimePackages(root: string): readonly RuntimePackage[] {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as { packages: Record<string, LockEntry> };
  return Object.entries(packages)
    .filter(([path, { dev, optional, peer }]) => path !== "" && dev !== true && optional !== true && peer !== true)
    .map(([path, { version = "", license }]) => ({ name: path.slice(path.lastIndexOf("node_modules/") + 13), version, license }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The page that lists the licences. */
export function licencesPage(root: string, made: string): string {
  const rows = runtimePackages(root).map(({ name, version, license }) => `| ${name} | ${version} | ${license ?? "unknown"} |`);
  return `# Licences\n\n${made}\nociseal is under Apache-2.0. Installed with it come these packages, and no other; \`make check\` refuses licences that do not go with it.\n\n| package | version | licence |\n|---|---|---|\n${rows.join("\n")}\n`;
}

export function licences(root: string): string | undefined {
  const packages = runtimePackages(root);
  if (packages.length < 5) return `only ${packages.length} packages were found in the lock file`;
  const wrong = packages.filter(({ license }) => license === undefined || !allowedLicenses.has(license));
  return wrong.length === 0 ? undefined : wrong.map(({ name, license }) => `${name} has the licence ${license ?? "(none)"}`).join("\n");
}

interface Bom {
  readonly bomFormat?: string;
  readonly components?: readonly { readonly name: string; readonly group?: string; readonly version: string; readonly purl?: string }[];
}

/** The bill of materials that npm makes holds all that is installed with this package, each with an address. */
export function billOfMaterials(root: string): string | undefined {
  // Without --omit: npm 11 leaves out what a development dependency needs too.
  const flags = ["--sbom-format", "cyclonedx", "--package-lock-only"];
  const made = spawnSync("npm", ["sbom", ...flags], { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  if (made.status !== 0) return made.stderr;
  const { bomFormat, components = [] } = JSON.parse(made.stdout) as Bom;
  if (bomFormat !== "CycloneDX") return "npm sbom made no CycloneDX document";
  const listed = new Set(components.map(({ name, version }) => `${name}@${version}`));
  const missing = runtimePackages(root).filter(({ name, version }) => !listed.has(`${name}@${version}`));
  if (missing.length > 0) return `the bill of materials lacks ${missing.map(({ name }) => name).join(", ")}`;
  const nowhere = components.filter(({ purl }) => purl?.startsWith("pkg:npm/") !== true);
  return nowhere.length > 0 ? `no address: ${nowhere.map(({ name }) => name).join(", ")}` : undefined;
}

/** Known vulnerabilities, where the registry answers such questions; where it does not, that is said. */
export function audit(root: string): string | undefined {
  const asked = spawnSync("npm", ["audit", "--json", "--omit", "dev", "--audit-level", "low"], { cwd: root, encoding: "utf8" });
  const answer = parsed(asked.stdout);
  if (answer === undefined || answer["metadata"] === undefined) {
    process.stdout.write("     SKIPPED: the registry here answers no audits; run npm audit --omit dev where it does\n");
    return undefined;
  }
  return asked.status === 0 ? undefined : JSON.stringify(answer["vulnerabilities"], undefined, 1);
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    // npm printed something else: no answer.
    return undefined;
  }
}
