import { execFileSync, spawn } from "node:child_process";
import { chmod, copyFile, cp, link, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { cleanEnvironment, projectFolder } from "../cli/run.ts";

/**
 * As much of GitHub's runner as an action of Node.js sees.
 * Source: actions/runner, Handler.cs, NodeScriptActionHandler.cs, ActionCommandManager.cs, FileCommandManager.cs; GitHub,
 * "Metadata syntax for GitHub Actions" and "Workflow commands".
 */
export interface ActionRun {
  readonly outcome: "success" | "failure";
  /** What the page of the run shows, secrets masked. */
  readonly log: string;
  readonly errors: readonly { readonly title: string; readonly message: string }[];
  readonly outputs: Readonly<Record<string, string>>;
  readonly summary: string;
  readonly masked: readonly string[];
  /** What the runner refuses: inputs that the action does not have, commands after their time. */
  readonly warnings: readonly string[];
}

interface ActionFile {
  readonly inputs: Readonly<Record<string, { readonly default?: string; readonly required?: boolean }>>;
  readonly outputs: Readonly<Record<string, unknown>>;
  readonly runs: { readonly using: string; readonly main: string; readonly post?: string; readonly "post-if"?: string };
}

/** The files that git has, or will have with the next commit: what a runner downloads, without anything installed or built. */
export async function checkOut(folder: string): Promise<void> {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
  const parts = ["action.yml", "package.json", "package-lock.json", ".npmrc", "src", "cli", "deploy", "scripts", "bin"];
  const names = execFileSync("git", [...args, "--", ...parts], { cwd: projectFolder, encoding: "utf8", maxBuffer: 16 << 20 });
  for (const name of names.split("\0").filter((one) => one !== "")) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    // A file that somebody removed but did not commit yet is not in the next commit.
    await cp(join(projectFolder, name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
  }
}

/**
 * The runner's own Node.js, with its npm beside it, as it lies below `externals`. This npm installs nothing from anywhere: it
 * checks that the lock file has what is wanted, and links the packages that this checkout has already.
 */
export async function installNode(folder: string): Promise<string> {
  const node = join(folder, "externals/node24/bin/node");
  const npm = join(folder, "externals/node24/lib/node_modules/npm/bin/npm-cli.js");
  await mkdir(dirname(node), { recursive: true });
  await mkdir(dirname(npm), { recursive: true });
  await link(process.execPath, node).catch(() => copyFile(process.execPath, node));
  await chmod(node, 0o755);
  await writeFile(npm, standInNpm);
  return node;
}

const standInNpm = `
const fs = require("node:fs");
const wanted = Object.entries(JSON.parse(fs.readFileSync("package.json", "utf8")).dependencies ?? {});
const locked = JSON.parse(fs.readFileSync("package-lock.json", "utf8")).packages;
if (process.argv[2] !== "install" || !process.argv.includes("--ignore-scripts")) throw new Error("npm " + process.argv.slice(2));
for (const [name, range] of wanted) if (!locked["node_modules/" + name]?.integrity) throw new Error(name + " " + range + " is not locked");
console.log("added " + wanted.map(([name]) => name).join(" "));
console.log("::warning::a package speaks to the runner");
console.log("environment " + Object.keys(process.env).join(" "));
fs.symlinkSync(${JSON.stringify(join(projectFolder, "node_modules"))}, "node_modules");
`;

export interface Job {
  readonly node: string;
  /** The downloaded action. */
  readonly action: string;
  readonly workspace: string;
  /** Folder of the runner's own files. */
  readonly temporary: string;
  readonly with: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs the action's main and post steps, each with what the runner gives it. */
export async function runAction(job: Job): Promise<ActionRun> {
  const { inputs, outputs: declared, runs } = parse(await readFile(join(job.action, "action.yml"), "utf8")) as ActionFile;
  if (!/^node\d+$/.test(runs.using)) throw new Error(`this runner runs actions of Node.js, not ${runs.using}`);
  const console = new RunnerConsole();
  const given = Object.fromEntries(Object.entries(job.with).map(([name, value]) => [name.toLowerCase(), value]));
  for (const name of Object.keys(given)) if (!Object.hasOwn(inputs, name)) console.warnings.push(`unexpected input ${name}`);
  const values = Object.entries(inputs).map(([name, { default: standard = "" }]) => [name, given[name] ?? standard] as const);
  const inputEnvironment = Object.fromEntries(values.map(([name, value]) => [`INPUT_${name.replaceAll(" ", "_").toUpperCase()}`, value]));
  let state: Readonly<Record<string, string>> = {};
  const stage = async (script: string) => {
    const files = await commandFiles(job.temporary);
    const status = await runScript(job, join(job.action, script), { ...inputEnvironment, ...state, ...files }, console);
    const read = async (name: keyof typeof files) => pairs(await readFile(files[name], "utf8"));
    state = Object.fromEntries(Object.entries(await read("GITHUB_STATE")).map(([name, value]) => [`STATE_${name}`, value]));
    return { status, outputs: await read("GITHUB_OUTPUT"), summary: await readFile(files.GITHUB_STEP_SUMMARY, "utf8") };
  };
  const main = await stage(runs.main);
  const post = runs.post === undefined ? undefined : await stage(runs.post);
  for (const name of Object.keys(main.outputs)) if (!Object.hasOwn(declared, name)) console.warnings.push(`undeclared output ${name}`);
  return {
    outcome: main.status === 0 && (post?.status ?? 0) === 0 ? "success" : "failure",
    log: console.lines.join("\n"),
    errors: console.errors,
    outputs: main.outputs,
    summary: console.hide(main.summary),
    masked: console.secrets,
    warnings: console.warnings,
  };
}

let stages = 0;

async function commandFiles(folder: string) {
  stages += 1;
  const at = (name: string) => join(folder, "_runner_file_commands", `${name}_${stages}`);
  const files = {
    GITHUB_OUTPUT: at("set_output"),
    GITHUB_STATE: at("save_state"),
    GITHUB_STEP_SUMMARY: at("step_summary"),
    GITHUB_ENV: at("set_env"),
    GITHUB_PATH: at("add_path"),
  };
  await mkdir(dirname(files.GITHUB_ENV), { recursive: true });
  for (const path of Object.values(files)) await writeFile(path, "");
  return files;
}

/** `NAME=VALUE` and `NAME<<END … END`. */
function pairs(text: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? "";
    if (line === "") continue;
    const [, name, end] = /^([^=]+?)<<(.+)$/.exec(line) ?? [];
    if (name === undefined || end === undefined) {
      const equals = line.indexOf("=");
      if (equals < 1) throw new Error(`Invalid format '${line}'`);
      found[line.slice(0, equals)] = line.slice(equals + 1);
      continue;
    }
    const stop = lines.indexOf(end, at + 1);
    if (stop === -1) throw new Error(`Invalid value. Matching delimiter not found '${end}'`);
    found[name] = lines.slice(at + 1, stop).join("\n");
    at = stop;
  }
  return found;
}

function runScript(job: Job, script: string, env: Readonly<Record<string, string>>, console: RunnerConsole): Promise<number> {
  const surroundings = {
    CI: "true",
    GITHUB_ACTIONS: "true",
    GITHUB_WORKSPACE: job.workspace,
    GITHUB_REPOSITORY: "example/shop",
    RUNNER_TEMP: job.temporary,
    RUNNER_OS: "Linux",
    ACTIONS_RUNTIME_TOKEN: "runtime-token",
  };
  return new Promise((done, failed) => {
    const child = spawn(job.node, [script], {
      cwd: job.workspace,
      env: cleanEnvironment({ ...surroundings, ...job.env, ...env }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    const rest = ["", ""];
    [child.stdout, child.stderr].forEach((stream, index) =>
      stream.on("data", (chunk: Buffer) => {
        const lines = `${rest[index] ?? ""}${chunk.toString("utf8")}`.split("\n");
        rest[index] = lines.pop() ?? "";
        for (const line of lines) console.take(line);
      }),
    );
    child.once("error", failed);
    child.once("close", (code) => {
      for (const line of rest) if (line !== "") console.take(line);
      done(code ?? -1);
    });
  });
}

/** Reads commands from what a step prints, and masks secrets in the rest. */
class RunnerConsole {
  readonly lines: string[] = [];
  readonly errors: { title: string; message: string }[] = [];
  readonly secrets: string[] = [];
  readonly warnings: string[] = [];
  #stopped: string | undefined;

  take(line: string): void {
    const [, name = "", properties = "", value = ""] = /^\s*::([A-Za-z-]+|[0-9a-f-]{36})(?: ([^:]*))?::(.*)$/.exec(line) ?? [];
    if (this.#stopped !== undefined) {
      if (name === this.#stopped) this.#stopped = undefined;
      else this.lines.push(this.hide(line));
      return;
    }
    const text = unescaped(value);
    switch (name) {
      case "add-mask":
        this.secrets.push(text);
        return;
      case "stop-commands":
        this.#stopped = text;
        return;
      case "error":
        this.errors.push({ title: unescaped(/(?:^|,)title=([^,]*)/.exec(properties)?.[1] ?? ""), message: this.hide(text) });
        this.lines.push(this.hide(`Error: ${text}`));
        return;
      case "warning":
        this.warnings.push(text);
        return;
      default:
        this.lines.push(this.hide(line));
    }
  }

  hide(text: string): string {
    return this.secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), text);
  }
}

function unescaped(text: string): string {
  const characters: Readonly<Record<string, string>> = { "%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%" };
  return text.replaceAll(/%(?:0D|0A|3A|2C|25)/g, (code) => characters[code] ?? code);
}
