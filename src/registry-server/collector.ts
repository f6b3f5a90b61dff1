import { collectGarbage, type Garbage, type GarbageRequest } from "./collect-garbage.ts";
import { DirectoryStorage } from "./directory-storage.ts";
import type { CollectOptions } from "./options.ts";
import type { RegistryStorage } from "./storage.ts";
import type { UploadSessions } from "./upload-sessions.ts";

/** Longer than a push takes from its first blob to its manifest. */
export const defaultGraceMs = 24 * 3_600_000;

type Run = Pick<CollectOptions, "graceMs" | "untagged"> & { readonly mode?: GarbageRequest["mode"] };

/** Garbage collection in a registry that serves: now and then, or when asked; never two at once. */
export class Collector {
  readonly #storage: RegistryStorage;
  readonly #sessions: UploadSessions;
  #last: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(storage: RegistryStorage, sessions: UploadSessions) {
    this.#storage = storage;
    this.#sessions = sessions;
  }

  every(options: CollectOptions): void {
    const tick = async (): Promise<void> => options.report?.(await this.run(options));
    // A repository that fails is in the report; what else fails is tried again the next time.
    this.#timer = setInterval(() => void tick().catch(() => undefined), options.everyMs);
    this.#timer.unref();
  }

  run({ graceMs = defaultGraceMs, untagged = "keep", mode = "remove" }: Run): Promise<readonly Garbage[]> {
    const now = Date.now();
    const mine = this.#last
      .catch(() => undefined)
      .then(() =>
        collectGarbage(this.#storage, {
          // An upload that is going on shows that the layers before it still wait for their manifest.
          before: (repository) => Math.min(now, this.#sessions.oldest(repository) ?? now) - graceMs,
          untagged,
          mode,
        }),
      );
    this.#last = mine;
    return mine;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#last.catch(() => undefined);
  }
}

/**
 * Garbage collection in the storage folder of a registry that does not run.
 *
 * Throws `ERR_REGISTRY_SERVER_STORAGE`, and `ERR_REGISTRY_SERVER_LOCKED` when a registry serves it: that one collects
 * by itself.
 */
export async function collectStoredGarbage(
  path: string,
  { graceMs = defaultGraceMs, untagged = "keep", mode = "remove" }: Run,
): Promise<readonly Garbage[]> {
  const storage = await DirectoryStorage.open(path, "existing");
  try {
    const before = Date.now() - graceMs;
    return await collectGarbage(storage, { before: () => before, untagged, mode });
  } finally {
    await storage.close();
  }
}
