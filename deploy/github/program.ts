/**
 * Where the action gets the program: by default the sources that lie beside it, so that who pins the action to a commit has
 * pinned everything: the packages come from npm at the versions and hashes of that commit's lock file. No script of any
 * package is run.
 */
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ActionError } from "./runner.ts";

const checkout = resolve(import.meta.dirname, "../..");

/** The command line's beginning: what to run, and its first arguments. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

export interface ProgramRequest {
  /** An empty folder of this run. */
  readonly folder: string;
  /** A version from npm instead of the sources beside the action; empty for those. */
  readonly version: string;
  readonly keyless: "on" | "off";
}

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

/** Installs the program. Throws `ActionError`. */
export async function bringProgram({ folder, version, keyless }: ProgramRequest): Promise<Program> {
  const node = await suitableNode();
  mkdirSync(folder, { recursive: true });
  // What signing without a key loads is an optional peer of the package.
  const extra = keyless === "on" ? ["@sigstore/sign"] : [];
  if (version !== "") {
    if (!/^[0-9A-Za-z.+-]+$/.test(version))
      throw new ActionError(
        "ERR_ACTION_INPUT",
        `version takes a version of ociseal from npm, not ${version}`,
        'for example version: "0.1.0"',
      );
    writeFileSync(join(folder, "package.json"), '{"private":true}\n');
    const hint = "see whether npm has that version; without one the action runs its own sources";
    await npm(node, folder, [`ociseal@${version}`, ...extra.map((name) => `${name}@${peerRange(name)}`)], hint);
    return { command: node, args: [join(folder, "node_modules/ociseal/bin/ociseal.js")] };
  }
  for (const name of ["src", "cli", "deploy/github", "package-lock.json", ".npmrc"])
    cpSync(join(checkout, name), join(folder, name), { recursive: true });
  const { dependencies, peerDependencies, ...rest } = manifest();
  const peers = Object.fromEntries(extra.map((name) => [name, peerDependencies[name] ?? "*"]));
  const wanted = { ...rest, devDependencies: {}, peerDependencies: {}, dependencies: { ...dependencies, ...peers } };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(wanted, null, 2)}\n`);
  await npm(node, folder, [], "the runner must reach the npm registry; set npm_config_registry for a mirror");
  return { command: node, args: ["--disable-warning=ExperimentalWarning", join(folder, "deploy/github/ociseal.ts")] };
}

function manifest(): Manifest {
  return JSON.parse(readFileSync(join(checkout, "package.json"), "utf8")) as Manifest;
}

function peerRange(name: string): string {
  return manifest().peerDependencies[name] ?? "latest";
}

/** The runner's own Node.js, or, where that is too old, the one that the checkout's script finds or fetches. */
async function suitableNode(): Promise<string> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 24 || (major === 24 && minor >= 15)) return process.execPath;
  const { status, stdout } = await run("sh", [join(checkout, "scripts/runtime.sh")], checkout, "kept");
  if (status !== 0)
    throw new ActionError(
      "ERR_ACTION_NODE",
      "ociseal needs Node.js 24.15 or newer",
      "update the runner, or add a step actions/setup-node before",
    );
  return join(stdout.trim(), "node");
}

async function npm(node: string, folder: string, packages: readonly string[], hint: string): Promise<void> {
  const beside = resolve(dirname(node), "../lib/node_modules/npm/bin/npm-cli.js");
  const [command, first] = existsSync(beside) ? [node, [beside]] : ["npm", []];
  const flags = ["install", "--no-save", "--ignore-scripts", "--omit=dev", "--omit=peer", "--no-audit", "--no-fund", "--no-progress"];
  const { status } = await run(command, [...first, ...flags, ...packages], folder, "shown").catch((error: unknown) => {
    throw new ActionError("ERR_ACTION_INSTALL", `npm could not be started: ${String(error)}`, "add a step actions/setup-node before");
  });
  if (status === 0) return;
  throw new ActionError("ERR_ACTION_INSTALL", "npm could not install the program's packages (see the log of this step)", hint);
}

export interface Ended {
  readonly status: number;
  readonly stdout: string;
}

/** Names of inputs and of the job's credentials, which nothing that is started here needs. */
const withheld = /^(INPUT_|ACTIONS_|GITHUB_TOKEN$)/;

/** Runs a program without a shell; its stderr goes into the log, its stdout too or into the answer. */
export function run(
  command: string,
  args: readonly string[],
  cwd: string,
  output: "shown" | "kept",
  extra: Readonly<Record<string, string | undefined>> = {},
): Promise<Ended> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !withheld.test(name)));
  return new Promise((done, failed) => {
    const child = spawn(command, args, { cwd, env: { ...env, ...extra }, stdio: ["ignore", "pipe", "pipe"] });
    const kept: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => (output === "kept" ? kept.push(chunk) : process.stdout.write(chunk)));
    child.stderr.on("data", (chunk: Buffer) => process.stdout.write(chunk));
    child.once("error", failed);
    child.once("close", (code) => done({ status: code ?? 1, stdout: Buffer.concat(kept).toString("utf8") }));
  });
}
