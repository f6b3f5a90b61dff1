/**
 * Completes package-lock.json with the platform packages that the registry of whoever ran npm install did not offer: npm
 * leaves them out there, and npm ci then refuses the file everywhere. They are optional, and fetched only on their
 * platform. Run after npm install; a gate of make check says when it was forgotten.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

interface Entry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}

const systems = ["win32", "darwin", "linux", "android", "freebsd", "openbsd", "netbsd", "sunos", "aix", "openharmony"];
const processors = ["x64", "arm64", "ia32", "ppc64", "ppc64le", "riscv64", "s390x", "loong64", "wasm32", "mips64el", "arm"];

/** The entries that a lock file lacks. */
export function missingEntries(packages: Readonly<Record<string, Entry>>): Readonly<Record<string, Entry>> {
  const missing: Record<string, Entry> = {};
  for (const [path, entry] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      // A range would have to be resolved, which needs the registry; platform packages name one version.
      if (!/^\d+\.\d+\.\d+/.test(version) || found({ ...packages, ...missing }, path, name)?.version === version) continue;
      const beside = `${path.slice(0, path.lastIndexOf("node_modules/"))}node_modules/${name}`;
      const place = packages[beside] === undefined && missing[beside] === undefined ? beside : `${path}/node_modules/${name}`;
      missing[place] = { version, ...platformOf(name), ...(entry.dev === true ? { dev: true } : {}), optional: true };
    }
  }
  return missing;
}

/** What a package's require would find: in its own folder, then in those above. */
function found(packages: Readonly<Record<string, Entry>>, path: string, name: string): Entry | undefined {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("/node_modules/")))) {
    const entry = packages[folder === "" ? `node_modules/${name}` : `${folder}/node_modules/${name}`];
    if (entry !== undefined || folder === "") return entry;
  }
}

/** What a platform package's name says about where it belongs. */
function platformOf(name: string): Pick<Entry, "os" | "cpu" | "libc"> {
  const words = name.split(/[/-]/);
  const os = systems.filter((system) => words.includes(system));
  const cpu = processors.filter((processor) => words.includes(processor));
  const libc = words.some((word) => word.startsWith("musl")) ? ["musl"] : words.some((word) => word.startsWith("gnu")) ? ["glibc"] : [];
  return { ...(cpu.length > 0 ? { cpu } : {}), ...(libc.length > 0 ? { libc } : {}), ...(os.length > 0 ? { os } : {}) };
}

if (process.argv[1] === import.meta.filename) {
  const file = join(resolve(import.meta.dirname, ".."), "package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, Entry> };
  const packages = { ...lock.packages, ...missingEntries(lock.packages) };
  const sorted = Object.fromEntries(Object.entries(packages).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify({ ...lock, packages: sorted }, undefined, 2)}\n`);
}
