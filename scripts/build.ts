/** Compiles src and cli into dist and bundles the command line, only when something changed since the last time. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { bundleCommandLine, consolePage } from "./bundle.ts";

const root = resolve(import.meta.dirname, "..");
const stamp = join(root, "dist/.built");

function newest(path: string): number {
  if (statSync(path).isFile()) return statSync(path).mtimeMs;
  const times = readdirSync(path, { recursive: true, encoding: "utf8" }).map((name) => statSync(join(path, name)).mtimeMs);
  return Math.max(statSync(path).mtimeMs, ...times);
}

const inputs = [
  "src",
  "cli",
  "scripts/bundle.ts",
  "scripts/bundle-start.ts",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "tsconfig.build.json",
].map((name) => join(root, name));
const since = Math.max(...inputs.map(newest));
if (!existsSync(stamp) || statSync(stamp).mtimeMs < since) {
  process.stderr.write("building\n");
  // Beside the old one, then into its place: whoever runs the old one meanwhile is not cut off for long.
  const next = join(root, "dist/.next");
  rmSync(next, { recursive: true, force: true });
  const tsc = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--outDir", next], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  cpSync(join(root, consolePage), join(next, consolePage), { recursive: true });
  await bundleCommandLine(root, join(next, "bundle"));
  for (const name of readdirSync(join(root, "dist"))) if (name !== ".next") rmSync(join(root, "dist", name), { recursive: true });
  for (const name of readdirSync(next)) renameSync(join(next, name), join(root, "dist", name));
  rmSync(next, { recursive: true });
  if (tsc.status === 0) {
    writeFileSync(stamp, "");
    utimesSync(stamp, new Date(), new Date(since + 1));
  } else {
    process.exitCode = tsc.status ?? 1;
  }
}
