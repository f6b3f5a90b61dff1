import { setImmediate as nextTurn } from "node:timers/promises";
import { parseResourcePath } from "../protocol/resource-path.ts";
import { rotationDueAt } from "./key-lifecycle.ts";
import type { ResourceVault } from "./resource-vault.ts";

const pageSize = 200;
/** A count that takes long is taken rarely: at most this share of the time goes into counting. */
const restPerWork = 100;
/** Whoever asks for metrics waits this long for a count, then gets the former one. */
const maxWaitMs = 300;

/**
 * How many keys are due for rotation, over all of them: a hundred thousand records are not opened for each scrape, so
 * they are counted in the background, by page, while requests go on.
 */
export class DueKeys {
  readonly #vault: ResourceVault;
  readonly #now: () => Date;
  #known: number | undefined;
  #restUntil = 0;
  #counting: Promise<void> | undefined;

  constructor(vault: ResourceVault, now: () => Date) {
    this.#vault = vault;
    this.#now = now;
  }

  /** The last count; `undefined` until there is one. What fails leaves the former one. */
  async count(): Promise<number | undefined> {
    if (this.#counting === undefined && performance.now() >= this.#restUntil) {
      this.#counting = this.#run();
    }
    if (this.#counting !== undefined) {
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, maxWaitMs);
      });
      await Promise.race([this.#counting, patience]);
      clearTimeout(timer);
    }
    return this.#known;
  }

  async #run(): Promise<void> {
    const begin = performance.now();
    try {
      this.#known = await this.#countAll();
    } catch {
      // The store is away, which its own metrics and every request say; the next scrape tries again.
    } finally {
      this.#counting = undefined;
      this.#restUntil = performance.now() + restPerWork * (performance.now() - begin);
    }
  }

  async #countAll(): Promise<number> {
    const now = this.#now();
    let due = 0;
    let after: string | undefined;
    do {
      const page = await this.#vault.list({ prefix: "", limit: pageSize, after });
      for (const path of page.paths) {
        const info = await this.#vault.describe(parseResourcePath(path));
        const at = info === undefined ? undefined : rotationDueAt(info);
        if (at !== undefined && at <= now) due += 1;
      }
      after = page.next;
      await nextTurn();
    } while (after !== undefined);
    return due;
  }
}
