import type { Digest } from "../bytes/index.ts";

/** One piece of work at a time on each digest, in the order it came. */
export class DigestLocks {
  readonly #last = new Map<Digest, Promise<unknown>>();

  async run<Result>(digest: Digest, work: () => Promise<Result>): Promise<Result> {
    const before = this.#last.get(digest) ?? Promise.resolve();
    // A failure was reported to those who waited for it.
    const mine = before.catch(() => undefined).then(work);
    this.#last.set(digest, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(digest) === mine) this.#last.delete(digest);
    }
  }
}
