import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { RegistryServerError } from "./errors.ts";
import { isErrno } from "./layout-files.ts";

const lockName = "_lock";

/**
 * Takes a storage folder for this process; a lock whose process is gone is taken over. Returns what gives it back.
 * Throws `ERR_REGISTRY_SERVER_LOCKED`.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, lockName);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      const file = await open(path, "wx", 0o644);
      await file.writeFile(`${process.pid} ${performance.timeOrigin}\n`);
      await file.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
    }
    const owner = await ownerOf(path);
    if (owner !== undefined && isAlive(owner)) throw locked(folder, owner.id);
    await rm(path, { force: true });
  }
  throw locked(folder, undefined);
}

interface Owner {
  readonly id: number;
  /** When that process began: in a container every process has the same few ids, so the id alone tells nothing. */
  readonly began: number;
}

async function ownerOf(path: string): Promise<Owner | undefined> {
  try {
    const [id = NaN, began = NaN] = (await readFile(path, "utf8")).trim().split(" ").map(Number);
    return Number.isSafeInteger(id) && id > 0 ? { id, began } : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function isAlive(owner: Owner): boolean {
  if (owner.id === process.pid) return owner.began === performance.timeOrigin;
  try {
    process.kill(owner.id, 0);
    return true;
  } catch (error) {
    return !isErrno(error, "ESRCH");
  }
}

function locked(folder: string, owner: number | undefined): RegistryServerError {
  return new RegistryServerError("ERR_REGISTRY_SERVER_LOCKED", {
    message: `the storage folder ${folder} is in use${owner === undefined ? "" : ` by process ${owner}`}`,
    hint: "stop the other registry, or choose another folder; to remove what is unreferenced let it run with --gc-every",
  });
}
