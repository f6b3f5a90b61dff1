import { writeFileSync } from "node:fs";

/**
 * Keeps what this process has in memory, keys among it, out of core dumps and debuggers that a signal opens. Called before
 * anything is read. It does not bind whoever is root or may trace the process: for them see docs/threat-model.md.
 *
 * - A core dump of Linux then has no memory of the process in it, and neither has one of the programs that it starts: Node.js
 *   cannot set the limit itself (`RLIMIT_CORE`), the kernel's filter it can. Source: core(5), "Controlling which mappings
 *   are written to the core dump".
 * - SIGUSR1 would open Node's inspector, which reads and writes everything. Source: Node.js, "Signal events".
 */
export function keepMemoryPrivate(): void {
  process.on("SIGUSR1", () => undefined);
  if (process.platform !== "linux") return;
  try {
    writeFileSync("/proc/self/coredump_filter", "0");
  } catch {
    // No /proc, or one that is read-only: `doctor runtime` says whether cores are limited.
  }
}
