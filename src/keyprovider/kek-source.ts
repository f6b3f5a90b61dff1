import { formatKbsUri, type KeywrapOptions } from "../keywrap/index.ts";
import { KeyproviderError } from "./errors.ts";
import type { KeyPlace } from "./parameters.ts";

/** A key encryption key that the Key Broker Service was proved to hold. */
export interface RegisteredKek {
  /** The name under which guests get exactly these bytes; another than asked for when the key was rotated. */
  readonly uri: string;
  /** 32 raw bytes. */
  readonly kek: Uint8Array;
}

/** Keeps keys where guests get them: an administrator's connection to a KBS. */
export interface KekRegistry {
  /**
   * Makes the key, or fetches the one there, and proves it is kept. `undefined` when one is there that may not be read,
   * or when the service cannot say whether one is there and would overwrite it: then only an `unused` name is safe.
   */
  register(uri: string, name: "unused" | "perhaps-used", options?: KeywrapOptions): Promise<RegisteredKek | undefined>;
  /** Keeps this very key under a name and proves it; throws when another one is there. */
  registerGiven(uri: string, kek: Uint8Array, options?: KeywrapOptions): Promise<RegisteredKek>;
}

export interface KekSourceOptions {
  readonly registry: KekRegistry;
  /** The tag of a run's key, equal for all processes of one run; left out where this process alone serves the run. */
  readonly runTag?: ((place: KeyPlace) => string) | undefined;
  /** A tag that nobody used. */
  readonly freshTag: () => string;
  /** Milliseconds, as of `Date.now`. */
  readonly now: () => number;
}

/** Registering takes a few round trips to the KBS; no caller waits longer. */
const registrationTimeoutMs = 60_000;
/** Calls of one run follow each other; after a pause the next key is another one. */
const idleMs = 60_000;
const lifetimeMs = 600_000;
const maxHeld = 256;

interface Held {
  readonly kek: Promise<RegisteredKek>;
  readonly since: number;
  lastUsed: number;
}

/**
 * Hands out one key for all layers of a run: layers wrapped under a key each cost the guest a request each, and layers
 * that replace each other's key at one name (coco_keyprovider) are lost. Safe for concurrent calls.
 */
export class KekSource {
  readonly #options: KekSourceOptions;
  readonly #held = new Map<string, Held>();
  #watching: NodeJS.Timeout | undefined;

  constructor(options: KekSourceOptions) {
    this.#options = options;
  }

  /** The key of a place. Throws `ERR_KEYPROVIDER_KEY_UNREADABLE`, and what the registry throws. */
  async kekFor(place: KeyPlace, options: KeywrapOptions = {}): Promise<RegisteredKek> {
    const now = this.#options.now();
    this.#forgetOld(now);
    const name = JSON.stringify([place.repository, place.type, place.tag ?? ""]);
    let held = this.#held.get(name);
    if (held === undefined) {
      // Not the caller's signal: others wait for the same key, and a caller who leaves must not take it with them.
      const kek = this.#register(place, { signal: AbortSignal.timeout(registrationTimeoutMs) });
      const entry: Held = { kek, since: now, lastUsed: now };
      kek.catch(() => {
        if (this.#held.get(name) === entry) this.#held.delete(name);
      });
      this.#held.set(name, entry);
      this.#watch();
      held = entry;
    }
    held.lastUsed = now;
    return orAborted(held.kek, options.signal);
  }

  /** Drops all keys. */
  clear(): void {
    this.#held.clear();
    clearInterval(this.#watching);
    this.#watching = undefined;
  }

  /** Keys do not stay in memory until somebody happens to call again. */
  #watch(): void {
    this.#watching ??= setInterval(() => {
      this.#forgetOld(this.#options.now());
      if (this.#held.size === 0) this.clear();
    }, idleMs).unref();
  }

  async #register(place: KeyPlace, options: KeywrapOptions): Promise<RegisteredKek> {
    const { registry, runTag, freshTag } = this.#options;
    const tag = place.tag ?? runTag?.(place);
    if (tag !== undefined) {
      const uri = formatKbsUri({ ...place, tag });
      const registered = await registry.register(uri, "perhaps-used", options);
      if (registered !== undefined) return registered;
      if (place.tag !== undefined) throw unreadable(uri);
      // Whoever may make keys and not read them gets one key for each call: every layer opens all the same.
    }
    const fresh = formatKbsUri({ ...place, tag: freshTag() });
    const registered = await registry.register(fresh, "unused", options);
    if (registered !== undefined) return registered;
    throw unreadable(fresh);
  }

  #forgetOld(now: number): void {
    for (const [name, { since, lastUsed }] of this.#held) if (now - lastUsed > idleMs || now - since > lifetimeMs) this.#held.delete(name);
    if (this.#held.size >= maxHeld) this.#held.clear();
  }
}

/** Waits for what others wait for, too; only this waiting ends with the signal. */
export async function orAborted<Value>(promise: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  let abort: (() => void) | undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (abort !== undefined) signal.removeEventListener("abort", abort);
  }
}

function unreadable(uri: string): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_KEY_UNREADABLE", {
    message: `the key ${uri} exists and may not be read, or the service would overwrite it unasked (as Trustee does)`,
    hint: "leave the tag out (kbs:///REPOSITORY/TYPE) for a new key, or use a token that may read",
  });
}
