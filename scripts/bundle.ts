/**
 * Bundles the command line with what it loads into dist/bundle: a chunk per command, so that a command reads what it
 * uses and no more. The library (dist/src) stays as tsc makes it.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { rolldown, type Plugin } from "rolldown";
import { laterBuiltins, undiciDispatchers } from "./bundle-start.ts";

interface Manifest {
  readonly name?: string;
  readonly version?: string;
  readonly license?: string;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

function manifestIn(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
}

/** Matches the optional peers: they are loaded from where the user installed them. */
export function optionalPeers(root: string): readonly RegExp[] {
  return Object.keys(manifestIn(root).peerDependencies ?? {}).map((name) => new RegExp(`^${name.replaceAll(/[/.@-]/g, "\\$&")}(/|$)`));
}

/** Where the files of the console's page lie; the library reads them there, a bundle holds them itself. */
export const consolePage = "src/kbs/console/page";

/** Puts the texts of the console's page in place of the module that reads them from its folder. */
export function withConsolePage(root: string): Plugin {
  const folder = join(root, consolePage);
  return {
    name: "console page",
    load: (id) => {
      if (!/src\/kbs\/console\/page-files\.[jt]s$/.test(id.replaceAll("\\", "/"))) return undefined;
      const texts = Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]));
      return {
        code: `const texts = new Map(Object.entries(${JSON.stringify(texts)}));\nexport function readPageFile(name) { return texts.get(name); }`,
        moduleType: "js",
      };
    },
  };
}

/**
 * Writes the bundle into a folder of its own. `main.js` is the entry; the modules of threads lie beside it, where those
 * who start them look. CommonJS, because Node.js loads fifty such files in half the time, and reads no more of its own
 * modules than are asked for: an ES module that names one thing of node:http makes all of it, WebSocket included.
 */
export async function bundleCommandLine(root: string, folder: string, plugins: readonly Plugin[] = []): Promise<void> {
  const build = await rolldown({
    cwd: root,
    input: {
      main: join(root, "cli/main.ts"),
      "thread-main": join(root, "src/cipher/thread-main.ts"),
      "inflate-main": join(root, "src/guest/inflate-main.ts"),
      "wasm-thread": join(root, "src/policy/wasm/wasm-thread.ts"),
    },
    platform: "node",
    external: [...optionalPeers(root)],
    plugins: [withConsolePage(root), undiciDispatchers(root), laterBuiltins(), ...plugins],
    // Our modules do nothing when loaded but define things, so what a command does not use of a room is left out.
    treeshake: { moduleSideEffects: (id) => id.includes("/node_modules/") },
    logLevel: "warn",
    onLog: (level, log, report) => {
      // That a module is also imported statically elsewhere is what chunks are for.
      if (log.code !== "INEFFECTIVE_DYNAMIC_IMPORT") report(level, log);
    },
  });
  const { output } = await build.write({
    dir: folder,
    format: "cjs",
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
    // Names stay, for stack traces; the package stays under 2 MB.
    minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } },
  });
  await build.close();
  const modules = output.flatMap((chunk) => (chunk.type === "chunk" ? chunk.moduleIds : []));
  // The package above says that its files are ES modules; these are not.
  writeFileSync(join(folder, "package.json"), `${JSON.stringify({ type: "commonjs" })}\n`);
  writeFileSync(join(folder, "LICENSES.txt"), licences(modules));
}

/** The licences of the packages whose code is in the bundle, as they demand. */
function licences(modules: readonly string[]): string {
  const folders = new Set(modules.filter((id) => id.includes("/node_modules/")).map(packageFolder));
  const texts = [...folders].toSorted().map((folder) => {
    const { name = "", version = "", license = "" } = manifestIn(folder);
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    return `${name} ${version} (${license})\n\n${file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim()}\n`;
  });
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}

/** The nearest folder above a module that is a package with a name; some packages have nameless ones inside. */
function packageFolder(id: string): string {
  let folder = dirname(id);
  while (!existsSync(join(folder, "package.json")) || manifestIn(folder).name === undefined) folder = dirname(folder);
  return folder;
}
