import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** One whole-process run. */
export interface Sample {
  /** Seconds. */
  readonly wall: number;
  readonly cpu: number;
  /** Peak resident set in MiB. */
  readonly rss: number;
}

export interface Job {
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Runs before the clock starts: removes what the last run left. */
  readonly prepare?: () => void;
}

/** Runs a job under /usr/bin/time's accounting where there is one, else under our own of the children. */
export async function measure(job: Job): Promise<Sample> {
  job.prepare?.();
  const before = childTimes();
  const started = process.hrtime.bigint();
  const peak = await run(job);
  const wall = Number(process.hrtime.bigint() - started) / 1e9;
  return { wall, cpu: childTimes() - before, rss: peak / 1024 };
}

/** CPU seconds of finished children, from the kernel. */
function childTimes(): number {
  const fields = readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ") ?? [];
  // Source: proc(5): cutime and cstime are fields 16 and 17, in clock ticks.
  return (Number(fields[13]) + Number(fields[14])) / 100;
}

/** Peak resident KiB, sampled while it runs: of the program and its children. */
function run({ command, env }: Job): Promise<number> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
    const errors: Buffer[] = [];
    child.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
    let peak = 0;
    const sample = setInterval(() => {
      peak = Math.max(peak, highWater(child.pid ?? 0));
    }, 20);
    child.once("error", reject);
    child.once("exit", (code) => {
      clearInterval(sample);
      if (code === 0) resolve(peak);
      else reject(new Error(`${command.join(" ")} ended with ${code}\n${Buffer.concat(errors).toString()}`));
    });
  });
}

/** Peak resident KiB of a process so far. */
export function highWater(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    // It ended between two looks.
    return 0;
  }
}

/** Ours and the peer's in turn, so that a machine that grows slower does so for both. */
export async function interleave(
  ours: Job,
  peer: Job | undefined,
  runs: number,
): Promise<{ readonly ours: readonly Sample[]; readonly peer: readonly Sample[] }> {
  const samples = { ours: [] as Sample[], peer: [] as Sample[] };
  for (let i = 0; i < runs; i += 1) {
    samples.ours.push(await measure(ours));
    if (peer !== undefined) samples.peer.push(await measure(peer));
  }
  return samples;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}
