import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { peer, type PeerName } from "../peers.ts";

export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a real peer with a clean environment; nothing it does reaches beyond loopback. */
export async function run(name: PeerName, args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd?: string): Promise<Run> {
  const program = peer(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  return await runProgram(program, args, env, cwd);
}

export async function runProgram(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd?: string,
): Promise<Run> {
  const path = process.env["PATH"] ?? "";
  const child = spawn(program, args, {
    env: { PATH: path, HOME: cwd ?? tmpdir(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(cwd === undefined ? {} : { cwd }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => void (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => void (stderr += chunk.toString()));
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve(status ?? -1));
  });
  return { code, stdout, stderr };
}

export interface RegistryProcess {
  readonly host: string;
  stop(): Promise<void>;
}

/** A real docker-registry 2.8 on loopback; it has no referrers API. */
export async function startDockerRegistry(): Promise<RegistryProcess> {
  const program = peer("docker-registry");
  if (program === undefined) throw new Error("docker-registry is not installed");
  const folder = temporaryFolder();
  const config = join(folder, "config.yml");
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${folder}/data}}\nhttp: {addr: "127.0.0.1:0"}\n`,
  );
  const child = spawn(program, ["serve", config], { stdio: ["ignore", "pipe", "pipe"] });
  const port = await listeningPort(child);
  return {
    host: `127.0.0.1:${port}`,
    stop: async () => {
      const closed = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGTERM");
      await closed;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function listeningPort(child: ChildProcess): Promise<string> {
  return await new Promise((resolve, reject) => {
    let text = "";
    const look = (chunk: Buffer): void => {
      text += chunk.toString();
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (port !== undefined) resolve(port);
    };
    child.stderr?.on("data", look);
    child.stdout?.on("data", look);
    child.once("error", reject);
    child.once("close", () => reject(new Error(`docker-registry ended: ${text.slice(0, 1000)}`)));
  });
}

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), "ociseal-signing-"));
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Maps with a few at a time: real programs are heavy on two processors. */
export async function inParallel<In, Out>(
  items: readonly In[],
  map: (item: In, index: number) => Promise<Out>,
  limit = 4,
): Promise<readonly Out[]> {
  const results: Out[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await map(items[i] as In, i);
  };
  await Promise.all(Array.from({ length: limit }, work));
  return results;
}
