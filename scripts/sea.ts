/**
 * `make sea`, or `scripts/sea.ts FOLDER`: one executable file for guests, with Node.js inside (single executable
 * application). The command line's bundle travels in it file by file, so that a command takes the memory of what it uses; the
 * modules of threads are data URLs in it. Optional peers (databases, HSMs, OpenPGP) are not in it.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { rolldown, type Plugin } from "rolldown";
import { bundleCommandLine, optionalPeers } from "./bundle.ts";

const root = resolve(import.meta.dirname, "..");
const folder = resolve(process.argv[2] ?? join(root, "dist/sea"));
const target = join(folder, "ociseal");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  version: string;
  peerDependencies?: Record<string, string>;
};
const external = [...optionalPeers(root)];
/** Where Node.js looks for the blob. Source: Node.js, "Single executable applications". */
const fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

/** Runs the bundle's files, which lie beside it in the executable; each is read when something asks for it. */
const starter = `
const { getAsset } = require("node:sea");
const { compileFunction } = require("node:vm");
const { dirname, join } = require("node:path");
const modules = new Map();
function load(name) {
  const known = modules.get(name);
  if (known !== undefined) return known.exports;
  const module = { exports: {} };
  modules.set(name, module);
  const run = compileFunction(getAsset(name, "utf8"), ["exports", "require", "module", "__filename"], { filename: name });
  const find = (id) => (id.startsWith("./") ? load(id.slice(2)) : require(id));
  run.call(module.exports, module.exports, find, module, join(dirname(process.execPath), name));
  return module.exports;
}
load("main.js").main(process.argv.slice(2));
`;

/** A thread's module with all that it needs. */
async function threadCode(input: string): Promise<string> {
  const build = await rolldown({ input, platform: "node", external, logLevel: "warn" });
  const { output } = await build.generate({ format: "esm", codeSplitting: false, minify: true });
  await build.close();
  const [chunk] = output;
  return chunk.code;
}

/** Replaces what a module learns from its place in the file system. */
function replaced(suffix: string, code: string, moduleType: "js" | "ts" = "js"): Plugin {
  return { name: `replace ${suffix}`, load: (id) => (id.endsWith(suffix) ? { code, moduleType } : undefined) };
}

/** Has a module that starts a thread find the thread's module in itself. */
async function withThread(starts: string, module: string): Promise<Plugin> {
  const dataUrl = `data:text/javascript;base64,${Buffer.from(await threadCode(join(root, module))).toString("base64")}`;
  const code = readFileSync(join(root, starts), "utf8");
  const ownModule = /function ownModule\(\): URL \{[\s\S]*?\n\}/;
  if (!ownModule.test(code)) throw new Error(`${starts} no longer has ownModule()`);
  return replaced(
    starts,
    code.replace(ownModule, () => `function ownModule(): URL { return new URL(${JSON.stringify(dataUrl)}); }`),
    "ts",
  );
}

rmSync(folder, { recursive: true, force: true });
const chunks = join(folder, "chunks");
mkdirSync(chunks, { recursive: true });
await bundleCommandLine(root, chunks, [
  await withThread("src/cipher/threads.ts", "src/cipher/thread-main.ts"),
  await withThread("src/guest/inflate-thread.ts", "src/guest/inflate-main.ts"),
  replaced("cli/version.ts", `export function readVersion() { return ${JSON.stringify(manifest.version)}; }`),
]);
writeFileSync(join(folder, "starter.cjs"), starter);
const scripts = readdirSync(chunks).filter((name) => name.endsWith(".js"));
writeFileSync(
  join(folder, "sea.json"),
  JSON.stringify({
    main: join(folder, "starter.cjs"),
    output: join(folder, "ociseal.blob"),
    disableExperimentalSEAWarning: true,
    // As bin/ociseal does, and for the same reason: the young generation stays small.
    execArgv: ["--max-semi-space-size=1", "--no-concurrent-array-buffer-sweeping"],
    assets: Object.fromEntries(scripts.map((name) => [name, join(chunks, name)])),
  }),
);
execFileSync(process.execPath, ["--experimental-sea-config", join(folder, "sea.json")], { stdio: ["ignore", "ignore", "inherit"] });
copyFileSync(process.execPath, target);
chmodSync(target, 0o755);
execFileSync(
  process.execPath,
  [join(root, "node_modules/postject/dist/cli.js"), target, "NODE_SEA_BLOB", join(folder, "ociseal.blob"), "--sentinel-fuse", fuse],
  { stdio: "ignore" },
);
const version = execFileSync(target, ["--version"], { env: {}, encoding: "utf8" }).trim();
if (version !== manifest.version) throw new Error(`the executable says version ${version}, not ${manifest.version}`);
for (const name of ["chunks", "starter.cjs", "ociseal.blob", "sea.json"]) rmSync(join(folder, name), { recursive: true });
process.stdout.write(`${target}: ${(statSync(target).size / 2 ** 20).toFixed(0)} MiB, version ${version}, needs no Node.js\n`);
