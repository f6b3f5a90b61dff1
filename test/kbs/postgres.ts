import { execFile, spawn, type ChildProcess } from "node:child_process";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "../free-port.ts";

const run = promisify(execFile);
const base = "/usr/lib/postgresql";

function binaries(): string | undefined {
  if (!existsSync(base)) return undefined;
  const [newest] = readdirSync(base).sort((left, right) => Number(right) - Number(left));
  const path = newest === undefined ? undefined : join(base, newest, "bin");
  return path !== undefined && existsSync(join(path, "initdb")) ? path : undefined;
}

/** Whether Debian's PostgreSQL is not installed. Says so aloud; throws where `CI` is set. */
export function missingPostgres(): boolean {
  if (binaries() !== undefined) return false;
  const message = "SKIPPED: tests with PostgreSQL: not installed (apt-get install postgresql, or make peers)";
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

export interface TestPostgres {
  readonly url: string;
  /** As a crash would. */
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** A real PostgreSQL on loopback with a folder of its own. As root it runs as the user postgres, for it refuses root. */
export async function startPostgres(): Promise<TestPostgres> {
  const bin = binaries() ?? "";
  const folder = await mkdtemp(join(tmpdir(), "kbs-postgres-"));
  const data = join(folder, "data");
  const identity = process.getuid?.() === 0 ? await postgresUser() : undefined;
  if (identity !== undefined) await chown(folder, identity.uid, identity.gid);
  const options = { ...identity, cwd: folder };
  await run(join(bin, "initdb"), ["-D", data, "-U", "kbs", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], options);
  const port = await freePort();
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const started = spawn(join(bin, "postgres"), ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"], {
      ...options,
      stdio: ["ignore", "ignore", "pipe"],
    });
    child = started;
    await new Promise<void>((resolve, reject) => {
      let log = "";
      started.stderr?.on("data", (chunk: Buffer) => {
        log += chunk.toString();
        if (log.includes("database system is ready to accept connections")) resolve();
      });
      started.once("exit", (code) => reject(new Error(`postgres ended with ${code}: ${log}`)));
    });
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((resolve) => running.once("exit", resolve));
    running.kill(signal);
    await gone;
  };
  await start();
  return {
    url: `postgres://kbs@127.0.0.1:${port}/postgres`,
    kill: () => end("SIGQUIT"),
    start,
    stop: async () => {
      await end("SIGQUIT");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function postgresUser(): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)));
  if (uid === undefined || gid === undefined) throw new Error("there is no user postgres");
  return { uid, gid };
}
