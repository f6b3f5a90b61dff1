interface Place {
  /** Bytes written before it, ever. */
  readonly start: number;
  readonly size: number;
}

/**
 * The last tokens, by name, in one ring of memory that is claimed once. As texts of their own they were most of what the
 * collector had to move and mark: thousands of some kilobytes, each of which lives for minutes.
 */
export class TokenShelf {
  readonly #ring: Buffer;
  /** Oldest first. */
  readonly #places = new Map<string, Place>();
  #end = 0;

  /** `size` is in bytes. */
  constructor(size: number) {
    this.#ring = Buffer.allocUnsafeSlow(size);
  }

  /** Keeps a token until those that came later fill the ring; one that would take more than all of it is not kept. */
  put(name: string, token: string): void {
    this.#places.delete(name);
    const total = this.#ring.length;
    const size = Buffer.byteLength(token);
    if (size > total) return;
    const left = total - (this.#end % total);
    // No token goes around the end of the ring.
    const start = size <= left ? this.#end : this.#end + left;
    this.#end = start + size;
    for (const [oldest, place] of this.#places) {
      if (place.start >= this.#end - total) break;
      this.#places.delete(oldest);
    }
    this.#ring.write(token, start % total, "utf8");
    this.#places.set(name, { start, size });
  }

  get(name: string): string | undefined {
    const place = this.#places.get(name);
    if (place === undefined) return undefined;
    const start = place.start % this.#ring.length;
    return this.#ring.toString("utf8", start, start + place.size);
  }

  drop(name: string): void {
    this.#places.delete(name);
  }
}
