/** Values in the order in which they came, for one reader that may wait for the next. */
export class WaitingList<Value> {
  readonly #values: Value[] = [];
  #reader: { readonly resolve: (value: Value) => void; readonly reject: (cause: unknown) => void } | undefined;
  #failure: { readonly cause: unknown } | undefined;

  add(value: Value): void {
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#values.push(value);
    else reader.resolve(value);
  }

  /** Whoever waits, now or later, is told so instead; what came before is not read any more. */
  fail(cause: unknown): void {
    this.#failure ??= { cause };
    this.#reader?.reject(cause);
    this.#reader = undefined;
  }

  async next(): Promise<Value> {
    if (this.#failure !== undefined) throw this.#failure.cause;
    if (this.#values.length > 0) return this.#values.shift() as Value;
    return new Promise((resolve, reject) => (this.#reader = { resolve, reject }));
  }
}
