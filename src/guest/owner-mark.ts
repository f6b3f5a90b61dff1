import { readFileSync, readlinkSync } from "node:fs";
import { digestOf, encodedOf } from "../bytes/index.ts";
import { errorCode } from "./storage-error.ts";

/**
 * A mark for names of temporary files: this boot and pid namespace, pid, and the process's start time. No two processes
 * share one, and whoever finds it can tell whether its process lives, if that is a process it could see at all.
 */
export function ownerMark(): string {
  return `${worldMark()}-${process.pid}-${startTime(process.pid) ?? "0"}`;
}

/** Whether a mark is that of a process of this boot and pid namespace that is gone. Others may live where we cannot see them. */
export function isDeadOwner(mark: string): boolean {
  const [world, pid = "", start = ""] = mark.split("-");
  return world === worldMark() && /^[0-9]{1,10}$/.test(pid) && startTime(Number(pid)) !== start;
}

function worldMark(): string {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const namespace = readlinkSync("/proc/self/ns/pid");
  return encodedOf(digestOf(Buffer.from(`${boot} ${namespace}`))).slice(0, 12);
}

/** Field 22 of /proc/PID/stat, in ticks since boot; `undefined` when there is no such process. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ESRCH") return undefined;
    throw error;
  }
}
