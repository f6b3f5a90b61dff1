/**
 * `make check`: every gate that is not a test. All of them run, then the failures are listed; the exit code is theirs.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { missingEntries } from "./complete-lock.ts";
import { audit, billOfMaterials, licences } from "./package-gates.ts";

const root = resolve(import.meta.dirname, "..");
const modules = join(root, "node_modules");
const folders = ["src", "cli", "test", "registry-fixtures", "scripts", "bench", "examples", "deploy"];

interface Gate {
  readonly name: string;
  readonly run: () => string | undefined;
}

/** Runs a program; `undefined` when it ended with 0, else the end of what it printed. */
function program(command: string, args: readonly string[], cwd = root): string | undefined {
  const result = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
  if (result.status === 0) return undefined;
  return `${result.stdout ?? ""}${result.stderr ?? ""}`.trim().split("\n").slice(-60).join("\n") || `exit ${result.status}`;
}

function tool(path: string, ...args: readonly string[]): string | undefined {
  return program(process.execPath, [join(modules, path), ...args]);
}

/** What the published package must be, seen from an empty folder: it installs alone, starts, and imports. */
function packInstallRun(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "ociseal-pack-"));
  try {
    const packed = spawnSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], { cwd: root, encoding: "utf8" });
    if (packed.status !== 0) return packed.stderr;
    const listing: unknown = JSON.parse(packed.stdout);
    const entries: readonly unknown[] = Array.isArray(listing) ? listing : Object.values(listing as object);
    const { filename, size } = entries[0] as { filename: string; size: number };
    if (size > 2_000_000) return `the package has ${size} bytes packed, more than 2 MB`;
    const failed =
      program("npm", ["init", "-y"], folder) ??
      program("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", join(folder, filename)], folder) ??
      program("npx", ["--no-install", "ociseal", "--version"], folder) ??
      program(process.execPath, ["--input-type=module", "-e", importAll()], folder);
    if (failed !== undefined) return failed;
    const installed =
      spawnSync("npm", ["ls", "--all", "--parseable"], { cwd: folder, encoding: "utf8" }).stdout.trim().split("\n").length - 2;
    process.stdout.write(`     package: ${size} bytes packed, ${installed} dependencies installed\n`);
    return installed > 60 ? `the package brings ${installed} dependencies, more than 60` : undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function importAll(): string {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { exports: Record<string, unknown> };
  const entries = Object.keys(manifest.exports).filter((key) => key !== "./package.json");
  return entries
    .map((key) => `if (Object.keys(await import("ociseal${key.slice(1)}")).length === 0) throw new Error("${key} exports nothing");`)
    .join("\n");
}

/** A registry host in the lock file would tie every user to the machine that wrote it. */
function lockFile(): string | undefined {
  const text = readFileSync(join(root, "package-lock.json"), "utf8");
  if (/"resolved"/.test(text)) return "package-lock.json names download addresses; run npm install with the project's .npmrc";
  const { packages } = JSON.parse(text) as { packages: Parameters<typeof missingEntries>[0] };
  const missing = Object.keys(missingEntries(packages));
  if (missing.length > 0)
    return `package-lock.json lacks ${missing.length} platform packages (${missing[0]}); run node scripts/complete-lock.ts after npm install`;
  return /"hasInstallScript": true/.test(runtimeOf(text)) ? "a runtime dependency has an install script" : undefined;
}

/** The lock file without development and optional packages. */
function runtimeOf(text: string): string {
  const { packages } = JSON.parse(text) as { packages: Record<string, { dev?: boolean; optional?: boolean; peer?: boolean }> };
  return JSON.stringify(
    Object.values(packages).filter((entry) => !entry.dev && !entry.optional && !entry.peer),
    undefined,
    1,
  );
}

const gates: readonly Gate[] = [
  { name: "types (tsc)", run: () => tool("typescript/bin/tsc", "-p", "tsconfig.json") },
  { name: "types of the console page (tsc)", run: () => tool("typescript/bin/tsc", "-p", "tsconfig.page.json") },
  { name: "types of the examples (tsc)", run: () => tool("typescript/bin/tsc", "-p", "examples/tsconfig.json") },
  { name: "lint (oxlint)", run: () => tool("oxlint/bin/oxlint", "--type-aware", "--deny-warnings", ...folders) },
  { name: "format (oxfmt)", run: () => tool("oxfmt/bin/oxfmt", "--check", ".") },
  { name: "unused code (knip)", run: () => tool("knip/bin/knip.js") },
  { name: "package shape (publint)", run: () => tool("publint/src/cli.js", "--strict") },
  {
    name: "package types (attw)",
    run: () => tool("@arethetypeswrong/cli/dist/index.js", "--pack", ".", "--profile", "esm-only", "--format", "ascii"),
  },
  { name: "lock file", run: lockFile },
  { name: "bill of materials (npm sbom)", run: () => billOfMaterials(root) },
  { name: "licences", run: () => licences(root) },
  { name: "known vulnerabilities (npm audit)", run: () => audit(root) },
  { name: "pack, install, run", run: packInstallRun },
];

const failures: string[] = [];
for (const gate of gates) {
  const started = process.hrtime.bigint();
  const failure = gate.run();
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  process.stdout.write(`${failure === undefined ? "ok  " : "FAIL"} ${gate.name} (${seconds.toFixed(1)} s)\n`);
  if (failure !== undefined) failures.push(`--- ${gate.name}\n${failure}`);
}
if (failures.length > 0) {
  process.stderr.write(`${failures.join("\n")}\n`);
  process.exitCode = 1;
}
