import { DatabaseSync } from "node:sqlite";
import { KbsError } from "../errors.ts";

/**
 * Holds a folder for this process alone.
 *
 * The lock is the operating system's (an exclusive SQLite transaction on an empty file), so it is gone the moment the
 * process dies, however it dies, and it holds between containers that share the folder. A file with a process id would
 * do neither. Throws `ERR_KBS_STORE_LOCKED`.
 */
export function lockDirectory(path: string, lockFile: string): { release(): void } {
  const database = new DatabaseSync(lockFile, { timeout: 0 });
  try {
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (cause) {
    database.close();
    throw new KbsError("ERR_KBS_STORE_LOCKED", {
      message: `the store ${path} is in use by another process`,
      hint: "stop the other server, or use PostgreSQL, Vault or Kubernetes storage for several replicas",
      cause,
    });
  }
  return { release: () => database.close() };
}
