import { link, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import { checkSignal, ioError, StoreError, systemCode } from "../errors.ts";
import { livenessOf, newOwner, processIdOf } from "./owner.ts";

/** How long to wait for somebody else's lock. */
const maxWaitMs = 60_000;
/** A lock of a machine that we cannot ask about is stale after this long; whoever holds one needs milliseconds. */
const foreignStaleMs = 120_000;
const pollMs = 15;
const maxTakeOverDepth = 3;

/**
 * Runs `action` while holding the lock file `path`, across processes and machines that share the folder.
 *
 * The file is made with its content by one `link`, and names its owner. The lock of a process that died is taken over
 * by `rename`, under a second lock that is named after the dead owner: of several who see the same stale lock one wins,
 * and a lock that was taken meanwhile is never taken away. Throws `ERR_STORE_LOCKED` after a minute.
 */
export async function withFileLock<Result>(path: string, action: () => Promise<Result>, signal?: AbortSignal): Promise<Result> {
  const owner = await acquire(path, 0, signal);
  try {
    return await action();
  } finally {
    await release(path, owner);
  }
}

async function acquire(path: string, depth: number, signal: AbortSignal | undefined): Promise<string> {
  const owner = newOwner();
  const ticket = `${path}.${owner.slice(-12)}`;
  const deadline = performance.now() + maxWaitMs;
  try {
    await writeFile(ticket, owner, { flag: "wx", mode: 0o644 });
    for (;;) {
      checkSignal(signal);
      if (await claim(ticket, path)) return owner;
      const holder = await readHolder(path);
      if (holder === undefined) continue;
      if ((await isStale(holder, path)) && depth < maxTakeOverDepth) {
        if (await takeOver(path, holder, ticket, depth, signal)) return owner;
        continue;
      }
      if (performance.now() > deadline) throw locked(path, holder);
      await wait(pollMs * (0.5 + Math.random()), undefined, { signal });
    }
  } catch (cause) {
    throw ioError(cause, `locking ${path}`);
  } finally {
    await unlink(ticket).catch(ignoreMissing);
  }
}

/** `false`: somebody has the lock. */
async function claim(ticket: string, path: string): Promise<boolean> {
  try {
    await link(ticket, path);
    return true;
  } catch (error) {
    if (systemCode(error) === "EEXIST") return false;
    throw error;
  }
}

async function readHolder(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "latin1");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function isStale(holder: string, path: string): Promise<boolean> {
  switch (livenessOf(holder)) {
    case "alive":
      return false;
    case "dead":
      return true;
    case "unknown": {
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
      return Date.now() - mtimeMs > foreignStaleMs;
    }
  }
}

async function takeOver(path: string, holder: string, ticket: string, depth: number, signal: AbortSignal | undefined): Promise<boolean> {
  const second = `${path}.${holder.replaceAll(/[^0-9a-f]/g, "").slice(-12) || "stale"}.takeover`;
  const secondOwner = await acquire(second, depth + 1, signal);
  try {
    if ((await readHolder(path)) !== holder) return false;
    await rename(ticket, path);
    return true;
  } finally {
    await release(second, secondOwner);
  }
}

async function release(path: string, owner: string): Promise<void> {
  // Whoever wrongly thought us dead has the lock now; it is not ours to remove.
  if ((await readHolder(path)) === owner) await unlink(path).catch(ignoreMissing);
}

function ignoreMissing(error: unknown): void {
  if (systemCode(error) !== "ENOENT") throw error;
}

function locked(path: string, holder: string): StoreError {
  const pid = processIdOf(holder);
  return new StoreError("ERR_STORE_LOCKED", {
    message: `${path} has been held for more than ${maxWaitMs / 1000} s${pid === undefined ? "" : ` by process ${pid}`}`,
    hint: "wait for the other ociseal to end; if none runs on any machine that shares this folder, remove the lock file",
  });
}
