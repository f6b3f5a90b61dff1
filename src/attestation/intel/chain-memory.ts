/** Characters of a certificate's signature that tell chains apart. */
const tellingSize = 64;
const endMark = "-----END";

/**
 * Something about each of the last PCK chains, for exactly their bytes. A chain is found by the end of its first
 * certificate and compared whole: as the key of a map, its few thousand bytes would be made into a text and hashed anew
 * for every quote.
 */
export class ChainMemory<Value> {
  readonly #max: number;
  readonly #entries = new Map<string, { readonly pem: Buffer; readonly value: Value }>();

  constructor(max: number) {
    this.#max = max;
  }

  get(pem: Uint8Array): Value | undefined {
    const bytes = bufferOf(pem);
    const entry = this.#entries.get(tellingPartOf(bytes));
    return entry !== undefined && entry.pem.equals(bytes) ? entry.value : undefined;
  }

  set(pem: Uint8Array, value: Value): void {
    const bytes = bufferOf(pem);
    if (this.#entries.size >= this.#max) this.#entries.clear();
    // A copy: the chain is a piece of a quote that nobody else keeps, or that somebody may change.
    this.#entries.set(tellingPartOf(bytes), { pem: Buffer.from(bytes), value });
  }
}

function tellingPartOf(pem: Buffer): string {
  const end = Math.max(0, pem.indexOf(endMark));
  return pem.toString("latin1", Math.max(0, end - tellingSize), end);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
