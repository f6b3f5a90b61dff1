/**
 * `make sea`, or `scripts/sea.ts FOLDER`: one executable file for guests, with Node.js inside (single executable
 * application). The command line and everything it loads is bundled into one script; the modules of threads travel in it as
 * data URLs. Optional peers (databases, HSMs, OpenPGP) are not in it.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { rolldown, type Plugin } from "rolldown";
import { optionalPeers, withConsolePage } from "./bundle.ts";
import { laterBuiltins, undiciDispatchers } from "./bundle-start.ts";

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

async function bundle(input: string, format: "cjs" | "esm", plugins: readonly Plugin[]): Promise<string> {
  const build = await rolldown({ input, platform: "node", external, plugins: [...plugins], logLevel: "warn" });
  const { output } = await build.generate({ format, codeSplitting: false, minify: true });
  await build.close();
  const [chunk] = output;
  return chunk.code;
}

/** Replaces what a module learns from its place in the file system. */
function replaced(suffix: string, code: string): Plugin {
  return { name: `replace ${suffix}`, load: (id) => (id.endsWith(suffix) ? { code, moduleType: "js" } : undefined) };
}

/** Has a module that starts a thread find the thread's module in itself. */
async function withThread(starter: string, module: string): Promise<Plugin> {
  const thread = await bundle(join(root, module), "esm", []);
  const dataUrl = `data:text/javascript;base64,${Buffer.from(thread).toString("base64")}`;
  const code = readFileSync(join(root, starter), "utf8");
  const ownModule = /function ownModule\(\) \{[\s\S]*?\n\}/;
  if (!ownModule.test(code)) throw new Error(`${starter} no longer has ownModule()`);
  return replaced(
    starter,
    code.replace(ownModule, () => `function ownModule() { return new URL(${JSON.stringify(dataUrl)}); }`),
  );
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const entry = join(folder, "entry.mjs");
writeFileSync(entry, `import { main } from ${JSON.stringify(join(root, "dist/cli/main.js"))};\nmain(process.argv.slice(2));\n`);
const code = await bundle(entry, "cjs", [
  withConsolePage(root),
  undiciDispatchers(root),
  laterBuiltins(),
  await withThread("dist/src/cipher/threads.js", "dist/src/cipher/thread-main.js"),
  await withThread("dist/src/guest/inflate-thread.js", "dist/src/guest/inflate-main.js"),
  replaced("dist/cli/version.js", `export function readVersion() { return ${JSON.stringify(manifest.version)}; }`),
]);
writeFileSync(join(folder, "ociseal.cjs"), code);
writeFileSync(
  join(folder, "sea.json"),
  JSON.stringify({
    main: join(folder, "ociseal.cjs"),
    output: join(folder, "ociseal.blob"),
    disableExperimentalSEAWarning: true,
    // As bin/ociseal does, and for the same reason: the young generation stays small.
    execArgv: ["--max-semi-space-size=1", "--no-concurrent-array-buffer-sweeping"],
    useCodeCache: true,
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
for (const name of ["ociseal.cjs", "ociseal.blob", "sea.json", "entry.mjs"]) rmSync(join(folder, name));
process.stdout.write(`${target}: ${(statSync(target).size / 2 ** 20).toFixed(0)} MiB, version ${version}, needs no Node.js\n`);
