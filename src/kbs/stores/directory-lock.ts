import { DatabaseSync } from "node:sqlite";
import type { ErrorFacts } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";

/**
 * Holds a folder for this process alone.
 *
 * The lock is the operating system's (an exclusive SQLite transaction on an empty file), so it is gone the moment the
 * process dies, however it dies, and it holds between containers that share the folder. A file with a process id would
 * do neither. Throws `ERR_KBS_STORE_LOCKED` with what is said of a folder in use.
 */
export function lockDirectory(lockFile: string, inUse: Pick<ErrorFacts, "message" | "hint">): { release(): void } {
  const database = new DatabaseSync(lockFile, { timeout: 0 });
  try {
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (cause) {
    database.close();
    throw new KbsError("ERR_KBS_STORE_LOCKED", { ...inUse, cause });
  }
  return { release: () => database.close() };
}
