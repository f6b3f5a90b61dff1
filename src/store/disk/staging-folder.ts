import { mkdir, readdir, readFile, rename, rm, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { digestAlgorithmOf, encodedOf, type Digest } from "../../bytes/index.ts";
import { syncDirectory } from "./atomic-file.ts";
import { isAbsent } from "./content-file.ts";
import { ioError, systemCode } from "../errors.ts";
import { endingOf, newOwner } from "./owner.ts";

/** The start of every name that is ours alone and no part of a layout. */
export const ownPrefix = ".ociseal";
const prefix = `${ownPrefix}-stage-`;
const partEnding = ".part";
/** A part that nobody came back for in a week is removed. */
const maxPartAgeMs = 7 * 24 * 3_600_000;
/** The lock of a layout, and the start of the names of what belongs to it. */
export const lockFileName = `${ownPrefix}.lock`;

/** A name for a file that is renamed at once; should its writer be killed before, it is swept like a staging folder. */
export function temporaryName(root: string): string {
  return join(root, `${prefix}${newOwner()}`);
}

/** What a writer left behind that ended without closing its store. */
export interface Remains {
  /** `killed`: what it wrote is in the system's memory, if not on disk. `power-lost`: the machine started again since. */
  readonly ending: "killed" | "power-lost";
  /** When it began, in milliseconds since 1970 by the file system's clock; what it wrote is not older. */
  readonly sinceMs: number;
}

export interface StagingRequest {
  readonly root: string;
  /** Makes the root what it has to be, before anything is put into it. */
  readonly prepare: () => Promise<void>;
  /** Told before what a dead writer left is removed. */
  readonly recover: (remains: Remains) => Promise<void>;
}

/**
 * A folder for files that do not have their final name yet, made when it is first needed and removed with what is left
 * in it. Its name says whose it is, and its being there says that content beside it may not be on disk yet: whoever
 * finds one of a dead writer first sees to what that one wrote.
 */
export class StagingFolder {
  readonly #request: StagingRequest;
  readonly #path: string;
  #recovered: Promise<void> | undefined;
  #made: Promise<void> | undefined;
  #folder: Promise<void> | undefined;
  #count = 0;

  constructor(request: StagingRequest) {
    this.#request = request;
    this.#path = temporaryName(request.root);
  }

  /** Sees to what dead writers left. Nothing that is in the root may be believed before. */
  recover(): Promise<void> {
    const adopt = (folder: string) => this.#adoptParts(folder);
    this.#recovered ??= sweepStaging(this.#request.root, this.#request.recover, adopt);
    return this.#recovered;
  }

  /**
   * The path of a part of large content, which may be there: from a dead writer, or from an attempt before. What is not
   * given a name stays when the store is closed, for the next writer.
   */
  async partPath(digest: Digest): Promise<string> {
    await this.newPath();
    return join(this.#path, `${digestAlgorithmOf(digest)}-${encodedOf(digest)}${partEnding}`);
  }

  /** The path of a file that does not exist. */
  async newPath(): Promise<string> {
    this.#made ??= this.#make();
    await this.#made;
    this.#count += 1;
    return join(this.#path, String(this.#count));
  }

  /** Removes the folder, unless there are parts in it. */
  async remove(): Promise<void> {
    if (this.#made === undefined && this.#folder === undefined) return;
    this.#made = undefined;
    this.#folder = undefined;
    const parts = await partsIn(this.#path);
    if (parts.length === 0) await rm(this.#path, { recursive: true, force: true });
  }

  async #make(): Promise<void> {
    await this.recover();
    this.#folder ??= this.#makeFolder();
    await this.#folder;
  }

  async #adoptParts(folder: string): Promise<void> {
    const parts = await partsIn(folder);
    if (parts.length === 0) return;
    this.#folder ??= this.#makeFolder();
    await this.#folder;
    for (const part of parts) {
      const { mtimeMs } = await stat(join(folder, part));
      if (Date.now() - mtimeMs < maxPartAgeMs) await rename(join(folder, part), join(this.#path, part));
    }
  }

  async #makeFolder(): Promise<void> {
    const { root, prepare } = this.#request;
    try {
      await mkdir(root, { recursive: true });
      await prepare();
      await mkdir(this.#path);
      // On disk before anything that it warns of.
      await syncDirectory(root);
    } catch (cause) {
      throw ioError(cause, `making a staging folder in ${root}`);
    }
  }
}

/** Removes what killed processes left in a folder: staging folders, temporary files, tickets of locks. */
export async function sweepStaging(
  root: string,
  recover: (remains: Remains) => Promise<void> = async () => undefined,
  adopt: (folder: string) => Promise<void> = async () => undefined,
): Promise<void> {
  try {
    for (const entry of await readdir(root, { withFileTypes: true })) {
      const path = join(root, entry.name);
      if (entry.name.startsWith(prefix)) await sweepOne(path, entry.name.slice(prefix.length), recover, adopt);
      // Tickets of the lock; the lock itself is taken over by whoever needs it.
      if (entry.isFile() && entry.name.startsWith(`${lockFileName}.`)) await removeTicket(path);
    }
  } catch (cause) {
    if (systemCode(cause) !== "ENOENT") throw ioError(cause, `tidying ${root}`);
  }
}

async function sweepOne(
  path: string,
  owner: string,
  recover: (remains: Remains) => Promise<void>,
  adopt: (folder: string) => Promise<void>,
): Promise<void> {
  const ending = endingOf(owner);
  if (ending === undefined) return;
  const { birthtimeMs, mtimeMs, ctimeMs } = await stat(path);
  // Not every file system keeps the time of birth; 0 means that everything counts.
  const sinceMs = birthtimeMs > 0 ? Math.min(birthtimeMs, mtimeMs, ctimeMs) : 0;
  await recover({ ending, sinceMs });
  await adopt(path);
  await rm(path, { recursive: true, force: true });
}

async function partsIn(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((error: unknown) => (isAbsent(error) ? [] : Promise.reject(error)));
  return names.filter((name) => name.endsWith(partEnding));
}

async function removeTicket(path: string): Promise<void> {
  try {
    if (endingOf(await readFile(path, "latin1")) !== undefined) await unlink(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
