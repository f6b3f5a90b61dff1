import { setTimeout as sleep } from "node:timers/promises";
import type { ByteStage } from "../bytes/index.ts";

/** Bounds how many things happen at once; first come, first served. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Waits for a place; the returned function gives it back, and may be called several times. Rejects with the signal's reason. */
  async acquire(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      const abort = () => {
        const at = this.#waiting.indexOf(go);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal?.reason instanceof Error ? signal.reason : new Error("aborted"));
      };
      this.#waiting.push(go);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}

/**
 * Slows a direction down to a number of bytes per second over all its streams.
 *
 * A virtual clock moves forward by the time that the bytes are worth; a stream waits until the real clock has caught
 * up. Idle time is not saved up beyond a quarter of a second, so there is no burst after a pause.
 */
export class RateLimiter {
  readonly #bytesPerSecond: number;
  #paidUntil = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  stage(signal?: AbortSignal): ByteStage {
    const pay = (size: number) => this.#pay(size);
    return async function* (source) {
      for await (const chunk of source) {
        const waitMs = pay(chunk.length);
        if (waitMs > 1) await sleep(waitMs, undefined, { signal });
        yield chunk;
      }
    };
  }

  #pay(size: number): number {
    const now = performance.now();
    this.#paidUntil = Math.max(this.#paidUntil, now - 250) + (size * 1000) / this.#bytesPerSecond;
    return this.#paidUntil - now;
  }
}
