import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Whether the process behind an owner text still runs. `unknown`: it is of another machine or container. */
export type Liveness = "alive" | "dead" | "unknown";

const grammar = /^([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-([1-9][0-9]{0,9})-([0-9]{1,20})-([0-9a-f]{12})$/;

/**
 * A text that names this process and this call, safe as a part of a file name: machine, boot, process namespace,
 * process id, the time the process started, a random number. Locks and staging folders carry it, so that what a killed
 * process left behind can be told from what is in use, also after a reboot or when its process id runs again.
 */
export function newOwner(): string {
  return [...here(), process.pid, startTime("self"), randomBytes(6).toString("hex")].join("-");
}

/** Judges an owner text that some process wrote. A text that is none is `unknown`. */
export function livenessOf(owner: string): Liveness {
  const match = grammar.exec(owner);
  if (match === null) return "unknown";
  const [, machine, boot, namespace, pid = "", start] = match;
  const [ourMachine, ourBoot, ourNamespace] = here();
  if (machine !== ourMachine) return "unknown";
  if (boot !== ourBoot) return "dead";
  if (namespace !== ourNamespace) return "unknown";
  if (!isRunning(Number(pid))) return "dead";
  return startTime(pid) === start ? "alive" : "dead";
}

/** How a dead owner ended, as far as its files are concerned; `undefined` while it may live. */
export function endingOf(owner: string): "killed" | "power-lost" | undefined {
  if (livenessOf(owner) !== "dead") return undefined;
  return grammar.exec(owner)?.[2] === here()[1] ? "killed" : "power-lost";
}

/** The process id in an owner text, for messages. */
export function processIdOf(owner: string): number | undefined {
  const pid = grammar.exec(owner)?.[4];
  return pid === undefined ? undefined : Number(pid);
}

function here(): readonly [machine: string, boot: string, namespace: string] {
  return [
    short(hostname() + readOr(() => readFileSync("/etc/machine-id", "latin1"))),
    short(readOr(() => readFileSync("/proc/sys/kernel/random/boot_id", "latin1"))),
    short(readOr(() => readlinkSync("/proc/self/ns/pid"))),
  ];
}

function short(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}

/** Field 22 of /proc/PID/stat, in clock ticks after boot; 0 where there is no /proc. Source: proc_pid_stat(5). */
function startTime(pid: string): string {
  const stat = readOr(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  // The command's name stands in parentheses and may itself hold any of them.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "0";
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it runs, under another user.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Not every system has these files; an identity without them is only less sharp. */
function readOr(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
