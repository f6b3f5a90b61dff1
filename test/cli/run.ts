import { execFile, spawn, type ChildProcess } from "node:child_process";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

export const projectFolder = resolve(import.meta.dirname, "../..");

/** The built command line, as users run it. `make test` builds first. */
export const program = join(projectFolder, "bin/ociseal.js");

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunSettings {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Uint8Array;
  /** `latin1` for output that is not text. */
  readonly encoding?: BufferEncoding;
}

/** An environment without anything of the machine's that a command could pick up; compiled code is kept beside the bundle. */
export function cleanEnvironment(extra: Readonly<Record<string, string | undefined>> = {}): NodeJS.ProcessEnv {
  const cache = join(projectFolder, "dist/.cache");
  return {
    PATH: process.env["PATH"],
    HOME: "/nonexistent",
    XDG_RUNTIME_DIR: "/nonexistent",
    XDG_CACHE_HOME: cache,
    NO_COLOR: "1",
    ...extra,
  };
}

/** Runs one command line to its end. */
export function ociseal(args: readonly string[], { cwd, env = {}, input, encoding = "utf8" }: RunSettings): Promise<Outcome> {
  return new Promise((done) => {
    const child = execFile(
      process.execPath,
      [program, ...args],
      { cwd, env: cleanEnvironment(env), maxBuffer: 64 << 20, timeout: 50_000, encoding },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        done({ status, stdout, stderr });
      },
    );
    child.stdin?.end(input ?? "");
  });
}

/** Starts a serving command and waits for its line of JSON. */
export async function startServer(
  args: readonly string[],
  { cwd, env = {} }: RunSettings,
): Promise<{ readonly child: ChildProcess; readonly ready: Readonly<Record<string, string>>; stop(): Promise<number> }> {
  const child = spawn(process.execPath, [program, ...args], { cwd, env: cleanEnvironment(env), stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<number>((done) => child.once("exit", (code) => done(code ?? -1)));
  const errors: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => errors.push(chunk.toString()));
  for await (const line of createInterface({ input: child.stdout })) {
    const stop = (): Promise<number> => {
      child.kill("SIGTERM");
      return ended;
    };
    return { child, ready: JSON.parse(line) as Record<string, string>, stop };
  }
  throw new Error(`${args.join(" ")} ended with ${await ended}: ${errors.join("")}`);
}
