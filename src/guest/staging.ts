import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  chmodSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { digestOf, encodedOf } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { GuestError } from "./errors.ts";
import { isDeadOwner, ownerMark } from "./owner-mark.ts";
import { errorCode, storageFailed, storing } from "./storage-error.ts";

/** Runs work with a staging directory and removes it in every ending. */
export async function withStaging<T>(target: string, work: (staging: Staging) => Promise<T>): Promise<T> {
  const staging = openStaging(target);
  let result: T;
  try {
    result = await work(staging);
  } catch (error) {
    throw cleanedUp(error, staging.path, () => staging.discard());
  }
  staging.discard();
  return result;
}

/**
 * Cleans up after a failure and gives the error to throw. When cleaning up fails too, that says so and has both causes:
 * what is left behind may be plaintext.
 */
export function cleanedUp(error: unknown, path: string, clean: () => void): unknown {
  try {
    clean();
    return error;
  } catch (cleaning) {
    return new GuestError("ERR_GUEST_STORAGE", {
      message: `${describeCause(error)}; moreover ${path} could not be removed: ${describeCause(cleaning)}`,
      hint: "remove it: it may hold content of the image",
      details: { left: path },
      cause: new AggregateError([error, cleaning], "failed, and cleaning up failed"),
    });
  }
}

/**
 * A private directory (0700) beside the target, on the same file system, in which everything is made until one rename
 * puts it in place. Its name tells the process that owns it, so that the next run finds what a killed one left.
 */
export interface Staging {
  readonly path: string;
  /**
   * Renames a directory inside the staging to the target, after all else in it was removed: nothing can fail once the target
   * stands. Throws `ERR_GUEST_TARGET_EXISTS` when something stands there by now.
   */
  commit(name: string): void;
  /** Removes the staging with all that is left in it. */
  discard(): void;
}

/**
 * Opens a staging directory for a target, which must be absent or an empty directory, in an existing directory.
 * Throws `ERR_GUEST_TARGET_EXISTS` or `ERR_GUEST_STORAGE`.
 */
function openStaging(target: string): Staging {
  const name = basename(target);
  const parent = resolveParent(target);
  const final = join(parent, name);
  checkTarget(final, target);
  removeStale(parent, name);
  const path = join(parent, `${prefixOf(name)}${ownerMark()}-${randomBytes(6).toString("hex")}`);
  storing(`staging directory beside ${target}`, () => mkdirSync(path, { mode: 0o700 }));
  let committed = false;
  return {
    path,
    commit(inner) {
      for (const entry of storing(`staging directory ${path}`, () => readdirSync(path))) {
        if (entry !== inner) removeTree(join(path, entry));
      }
      checkTarget(final, target);
      try {
        // rename(2) replaces an empty directory and nothing else.
        renameSync(join(path, inner), final);
      } catch (cause) {
        if (["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(errorCode(cause) ?? "")) throw targetExists(target, cause);
        throw cause instanceof Error ? storageFailed(`target ${target}`, cause) : cause;
      }
      committed = true;
    },
    discard() {
      if (committed) removeEmpty(path);
      else removeTree(path);
    },
  };
}

function resolveParent(target: string): string {
  const name = basename(target);
  if (name === "" || name === "." || name === "..") {
    throw new GuestError("ERR_GUEST_STORAGE", {
      message: `${JSON.stringify(target)} does not name a directory to create`,
      hint: "give a path that ends in the name of the new directory",
    });
  }
  return storing(`directory of ${target}`, () => realpathSync(dirname(target)));
}

function checkTarget(final: string, target: string): void {
  const stats = storing(`target ${target}`, () => lstatSync(final, { throwIfNoEntry: false }));
  if (stats === undefined) return;
  if (!stats.isDirectory() || storing(`target ${target}`, () => readdirSync(final)).length > 0) throw targetExists(target, undefined);
}

function targetExists(target: string, cause: unknown): GuestError {
  return new GuestError("ERR_GUEST_TARGET_EXISTS", {
    message: `the target ${target} exists and is not an empty directory`,
    hint: "choose another target, or remove it first",
    cause,
  });
}

function prefixOf(name: string): string {
  // A component holds 255 bytes; the rest of the name takes under 80.
  const part = Buffer.byteLength(name) > 150 ? encodedOf(digestOf(Buffer.from(name))).slice(0, 32) : name;
  return `.${part}.ociseal-`;
}

/** What processes that are gone have left behind for this target. */
function removeStale(parent: string, name: string): void {
  const prefix = prefixOf(name);
  for (const entry of storing(`directory ${parent}`, () => readdirSync(parent))) {
    if (entry.startsWith(prefix) && isDeadOwner(entry.slice(prefix.length))) removeTree(join(parent, entry));
  }
}

/** Removes a tree by descriptors, as whoever made it may be hostile. Modes are opened up first: a file's owner may lock itself out. */
function removeTree(path: string): void {
  const fd = openDirectory(path);
  if (fd === undefined) return;
  try {
    storing(`staging directory ${path}`, () => emptyDirectory(fd));
  } finally {
    closeSync(fd);
  }
  storing(`staging directory ${path}`, () => rmdirSync(path));
}

/** An empty directory of ours that cannot go is no failure of a pull whose target stands; the next one for the target removes it. */
function removeEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
  }
}

function openDirectory(path: string | Buffer): number | undefined {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  try {
    return openSync(path, flags);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    if (errorCode(error) !== "EACCES") throw error;
    chmodSync(path, 0o700);
    return openSync(path, flags);
  }
}

function emptyDirectory(fd: number): void {
  const here = `/proc/self/fd/${fd}/`;
  chmodSync(here, 0o700);
  for (const entry of readdirSync(here, { encoding: "buffer", withFileTypes: true })) {
    const path = Buffer.concat([Buffer.from(here), entry.name]);
    if (!entry.isDirectory()) {
      unlinkSync(path);
      continue;
    }
    const child = openDirectory(path);
    if (child === undefined) continue;
    try {
      emptyDirectory(child);
    } finally {
      closeSync(child);
    }
    rmdirSync(path);
  }
}
