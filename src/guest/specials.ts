import { spawnSync } from "node:child_process";
import { closeSync, constants, linkSync, mkdtempSync, openSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { GuestError } from "./errors.ts";
import { fsPath, printable, type ByteString } from "./byte-string.ts";
import type { HeldDirectory, Tree } from "./tree.ts";

/**
 * What to do with extended attributes, device nodes and fifos when their helper program is missing or not permitted.
 * `require`: fail. `skip`: leave them out and count them in the report.
 */
export type SpecialsPolicy = "require" | "skip";

/** Node.js has no setxattr(2) and no mknod(2): these programs of attr and coreutils do it. Nothing is read from the environment. */
const helperEnvironment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin", LC_ALL: "C" };
const helperTimeoutMs = 60_000;
/** ext4 allows 65,000 names of one inode. */
const maxLinksOfWhiteout = 30_000;
const maxAnswer = 64 * 1024;

export type SpecialNode =
  | { readonly kind: "char-device" | "block-device"; readonly major: number; readonly minor: number }
  | { readonly kind: "fifo" };

export type HelperOutcome = { readonly kind: "done" } | { readonly kind: "failed"; readonly program: string; readonly why: string };

/** Makes what Node.js cannot, in a scratch directory of its own, so that helpers never see a name from an image. */
export class Specials {
  readonly #scratch: string;
  readonly #fd: number;
  #whiteouts = 0;

  constructor(staging: string) {
    this.#scratch = mkdtempSync(join(staging, "scratch-"));
    this.#fd = openSync(this.#scratch, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** A name of one 0:0 character device that all whiteouts share, as in the kernel's own overlayfs. */
  makeWhiteout(directory: HeldDirectory, name: ByteString): HelperOutcome {
    if (this.#whiteouts % maxLinksOfWhiteout === 0) {
      rmSync(`/proc/self/fd/${this.#fd}/whiteout`, { force: true });
      const outcome = run("mknod", ["-m", "0000", "whiteout", "c", "0", "0"], heldPath(this.#fd), undefined);
      if (outcome.kind === "failed") return outcome;
    }
    this.#whiteouts += 1;
    linkSync(`/proc/self/fd/${this.#fd}/whiteout`, fsPath(directory.prefix + name));
    return { kind: "done" };
  }

  /** Makes a node with mode 0600 in the scratch directory and renames it into place; throws system errors of the rename. */
  makeNode(node: SpecialNode, directory: HeldDirectory, name: ByteString): HelperOutcome {
    const [program, ...args] =
      node.kind === "fifo"
        ? ["mkfifo", "-m", "0600", "node"]
        : ["mknod", "-m", "0600", "node", node.kind === "char-device" ? "c" : "b", String(node.major), String(node.minor)];
    const outcome = run(program ?? "", args, heldPath(this.#fd), undefined);
    if (outcome.kind === "done") renameSync(`/proc/self/fd/${this.#fd}/node`, fsPath(directory.prefix + name));
    return outcome;
  }
}

/** How many files one process of setfattr is given: so many descriptors are open beside those of the tree. */
const filesPerProcess = 128;

/**
 * Sets extended attributes of many files, whose paths are free of symlinks. Files are handed over as descriptors, so that
 * no path is resolved anew; a link itself is meant, never its target. Source: setfattr(1), "--restore".
 */
export function setXattrs(tree: Tree, files: Iterable<readonly [ByteString, ReadonlyMap<ByteString, Buffer>]>): HelperOutcome {
  const waiting = [...files];
  for (let at = 0; at < waiting.length; at += filesPerProcess) {
    const fds: number[] = [];
    try {
      const parts: string[] = [];
      for (const [path, xattrs] of waiting.slice(at, at + filesPerProcess)) {
        const fd = tree.openPath(path);
        fds.push(fd);
        parts.push(`# file: ${heldPath(fd)}\n`);
        for (const [name, value] of xattrs) parts.push(`${name}=0x${value.toString("hex")}\n`);
        parts.push("\n");
      }
      // Without -h: the name in /proc is a link to exactly what the descriptor holds, which is a symlink where that is meant.
      const outcome = run("setfattr", ["--restore=-"], "/", parts.join(""));
      if (outcome.kind === "failed") return outcome;
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }
  return { kind: "done" };
}

/** A name that setfattr's format can carry and the kernel takes. */
export function isXattrName(name: ByteString): boolean {
  return name.length <= 255 && /^(?:user|trusted|security|system)\.[\x21-\x3c\x3e-\x7e]+$/.test(name);
}

/** A held directory by a path that also another process can use. */
function heldPath(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

function run(program: string, args: readonly string[], cwd: string, input: string | undefined): HelperOutcome {
  const result = spawnSync(program, args, {
    cwd,
    input,
    env: helperEnvironment,
    timeout: helperTimeoutMs,
    maxBuffer: maxAnswer,
    stdio: [input === undefined ? "ignore" : "pipe", "ignore", "pipe"],
  });
  if (result.error !== undefined) return { kind: "failed", program, why: result.error.message };
  if (result.status === 0) return { kind: "done" };
  return {
    kind: "failed",
    program,
    why: result.stderr.toString("utf8").trim().split("\n").at(0)?.slice(0, 300) ?? `status ${result.status}`,
  };
}

export function helperFailed(outcome: { readonly program: string; readonly why: string }, what: string, entry: ByteString): GuestError {
  const packageName = outcome.program === "setfattr" ? "attr" : "coreutils";
  return new GuestError("ERR_GUEST_HELPER_MISSING", {
    message: `cannot ${what} for entry ${printable(entry)}: ${outcome.program}: ${outcome.why}`,
    hint: `install ${outcome.program} (package ${packageName}) and run as root, or leave such entries out with --specials=skip`,
    details: { program: outcome.program },
  });
}
