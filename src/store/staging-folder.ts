import { mkdir, readdir, readFile, rm, unlink } from "node:fs/promises";
import { join } from "node:path";
import { ioError, systemCode } from "./errors.ts";
import { livenessOf, newOwner } from "./owner.ts";

/** The start of every name that is ours alone and no part of a layout. */
export const ownPrefix = ".ociseal";
const prefix = `${ownPrefix}-stage-`;
/** The lock of a layout, and the start of the names of what belongs to it. */
export const lockFileName = `${ownPrefix}.lock`;

/** A name for a file that is renamed at once; should its writer be killed before, it is swept like a staging folder. */
export function temporaryName(root: string): string {
  return join(root, `${prefix}${newOwner()}`);
}

/**
 * A folder for files that do not have their final name yet, made when it is first needed and removed with what is left
 * in it. Its name says whose it is: the first use also removes what killed processes left beside it.
 */
export class StagingFolder {
  readonly #root: string;
  readonly #path: string;
  readonly #prepare: () => Promise<void>;
  #made: Promise<void> | undefined;
  #count = 0;

  /** @param prepare - makes the root what it has to be, before anything is put into it. */
  constructor(root: string, prepare: () => Promise<void>) {
    this.#root = root;
    this.#prepare = prepare;
    this.#path = join(root, `${prefix}${newOwner()}`);
  }

  /** The path of a file that does not exist. */
  async newPath(): Promise<string> {
    this.#made ??= this.#make();
    await this.#made;
    this.#count += 1;
    return join(this.#path, String(this.#count));
  }

  async remove(): Promise<void> {
    if (this.#made === undefined) return;
    this.#made = undefined;
    await rm(this.#path, { recursive: true, force: true });
  }

  async #make(): Promise<void> {
    try {
      await mkdir(this.#root, { recursive: true });
      await this.#prepare();
      await sweepStaging(this.#root);
      await mkdir(this.#path);
    } catch (cause) {
      throw ioError(cause, `making a staging folder in ${this.#root}`);
    }
  }
}

/** Removes what killed processes left in a folder: staging folders, temporary files, tickets of locks. */
export async function sweepStaging(root: string): Promise<void> {
  for (const entry of await readdir(root, { withFileTypes: true })) {
    const path = join(root, entry.name);
    if (entry.name.startsWith(prefix) && livenessOf(entry.name.slice(prefix.length)) === "dead") {
      await rm(path, { recursive: true, force: true });
    }
    // Tickets of the lock; the lock itself is taken over by whoever needs it.
    if (entry.isFile() && entry.name.startsWith(`${lockFileName}.`)) await removeIfDead(path);
  }
}

async function removeIfDead(path: string): Promise<void> {
  try {
    if (livenessOf(await readFile(path, "latin1")) === "dead") await unlink(path);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
