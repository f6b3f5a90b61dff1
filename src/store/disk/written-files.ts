import { rmdir, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { isAbsent } from "./content-file.ts";
import { systemCode } from "../errors.ts";

/**
 * The blobs that one writer added and that no name keeps yet, so that it can take them back when its work fails.
 * Whoever finds a blob there and means to use it touches the file, which is how another writer's interest shows.
 */
export class WrittenFiles {
  readonly #timeOf = new Map<string, number>();

  /** Gives a file its final name, and remembers it unless something had that name before. */
  async adding(path: string, name: () => Promise<void>): Promise<void> {
    const isOurs = this.#timeOf.has(path) || (await timeOf(path)) === undefined;
    await name();
    if (isOurs) await this.#remember(path);
  }

  /** This writer touched a file. */
  async touched(path: string): Promise<void> {
    if (this.#timeOf.has(path)) await this.#remember(path);
  }

  /** Everything has a name now. */
  named(): void {
    this.#timeOf.clear();
  }

  /** Removes what was added, and the folders that are empty then, up to `root` which stays. */
  async takeBack(root: string): Promise<void> {
    const folders = new Set<string>();
    for (const [path, time] of this.#timeOf) {
      for (let folder = dirname(path); folder.length > root.length; folder = dirname(folder)) folders.add(folder);
      if ((await timeOf(path)) === time) await unlink(path);
    }
    this.#timeOf.clear();
    for (const folder of [...folders].toSorted((left, right) => right.length - left.length)) await removeEmpty(folder);
  }

  async #remember(path: string): Promise<void> {
    const time = await timeOf(path);
    if (time !== undefined) this.#timeOf.set(path, time);
  }
}

/** Removes a folder if nothing is in it. */
export async function removeEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch((error: unknown) => {
    if (!["ENOTEMPTY", "EEXIST", "ENOENT"].includes(systemCode(error) ?? "")) throw error;
  });
}

async function timeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
