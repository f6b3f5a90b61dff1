import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { peer } from "../peers.ts";
import { isRoot } from "./trees.ts";

export type RuntimeName = "runc" | "crun";

/** Debian's runc starts itself again, which the wrapper of a peer does not survive: the installed one. */
function programOf(name: RuntimeName): string | undefined {
  return [...["/usr/sbin", "/usr/bin"].map((folder) => `${folder}/${name}`), ...(name === "crun" ? [peer("crun") ?? ""] : [])].find(
    (path) => path !== "" && existsSync(path),
  );
}

/** Whether a runtime is missing. Says so aloud; throws where `CI` is set. */
export function missingRuntime(name: RuntimeName): boolean {
  if (isRoot && programOf(name) !== undefined) return false;
  const message = `SKIPPED: bundles are not started by ${name}: ${isRoot ? "not installed (make peers)" : "needs root"}`;
  if (process.env["CI"]) throw new Error(message);
  process.stderr.write(`${message}\n`);
  return true;
}

export interface Started {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** crun 1.8 refuses machines where version 1 and 2 of cgroups are mounted together: there it sees a private mount of version 2. */
const hybrid = "cgroups in hybrid mode not supported";
const unified = `umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"`;
/** With version 2 crun makes an eBPF program of the device rules, which sandboxes do not let it load: there it gets no rules. */
const noFilter = "setrlimit (RLIM_MEMLOCK): Operation not permitted";

/**
 * Starts a bundle, waits for its end, and gives what it printed. `state` is a folder for the runtime. What a runtime lacks
 * on this machine is given to it for these two reasons and no other.
 */
export function startedBy(name: RuntimeName, bundle: string, state: string): Started {
  const command = [programOf(name) ?? "", "--root", state, "run", "--bundle", bundle, `ociseal-test-${name}-${process.pid}`];
  const first = run(command);
  if (!first.stderr.includes(hybrid)) return first;
  const inPrivate = ["unshare", "-m", "sh", "-c", unified, "sh", ...command];
  const second = run(inPrivate);
  if (!second.stderr.includes(noFilter)) return second;
  const path = `${bundle}/config.json`;
  const config = JSON.parse(readFileSync(path, "utf8")) as { linux: { resources?: unknown } };
  delete config.linux.resources;
  writeFileSync(path, JSON.stringify(config));
  return run(inPrivate);
}

function run([program = "", ...args]: readonly string[]): Started {
  return spawnSync(program, args, { encoding: "utf8", timeout: 30_000, stdio: ["ignore", "pipe", "pipe"] });
}
