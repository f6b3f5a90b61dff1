import { streamOf, type ByteStream, type Chunks } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";

export interface ReadAheadSettings {
  /** Bytes of one request; larger layers are fetched in ranges of this size, several at once. 8 MiB unless told. */
  readonly segmentBytes?: number | undefined;
  /** Bytes that may be in flight or wait to be read, over all layers. 16 MiB unless told. */
  readonly windowBytes?: number | undefined;
  /** Requests at once. 6 unless told. */
  readonly requests?: number | undefined;
}

const defaults = { segmentBytes: 8 * 1024 ** 2, windowBytes: 16 * 1024 ** 2, requests: 6 } as const;

interface Segment {
  readonly layer: Descriptor;
  readonly start: number;
  readonly end: number;
}

/** Whoever reads a layer; how to end its wait for a segment. */
interface Reader {
  giveUp: ((cause: Error) => void) | undefined;
}

/**
 * Fetches layers in the order in which they will be read, ahead of the reader: ranges of large ones in parallel, and the
 * next layers while one is unpacked. Segments are handed on in order; memory does not depend on the size of a layer.
 * Whoever made it closes it.
 */
export class ReadAhead {
  readonly #store: ContentReader;
  readonly #abort = new AbortController();
  readonly #options: CallOptions;
  readonly #segments: readonly Segment[];
  readonly #settings: { readonly [Name in keyof typeof defaults]: number };
  /** The segments from `#taken` on that were started. */
  readonly #running: Promise<readonly Uint8Array[]>[] = [];
  /** What segments come from at the moment. */
  readonly #open = new Set<ByteStream>();
  /** Segments handed on so far. */
  #taken = 0;
  #runningBytes = 0;

  constructor(store: ContentReader, layers: readonly Descriptor[], settings: ReadAheadSettings, options: CallOptions) {
    this.#store = store;
    this.#settings = {
      segmentBytes: Math.max(1, settings.segmentBytes ?? defaults.segmentBytes),
      windowBytes: settings.windowBytes ?? defaults.windowBytes,
      requests: Math.max(1, settings.requests ?? defaults.requests),
    };
    const signals = options.signal === undefined ? [this.#abort.signal] : [this.#abort.signal, options.signal];
    this.#options = { ...options, signal: AbortSignal.any(signals) };
    const { segmentBytes } = this.#settings;
    this.#segments = layers.flatMap((layer) => segmentsOf(layer, segmentBytes));
  }

  /**
   * The stored bytes of a layer, not verified: each segment is a range. `undefined` when it is not ahead of what was read
   * so far. Layers before it that were not asked for are given up.
   */
  open(layer: Descriptor): ByteStream | undefined {
    const first = this.#segments.findIndex((segment, i) => i >= this.#taken && segment.layer === layer);
    if (first < 0) return undefined;
    while (this.#taken < first) this.#drop();
    const reader: Reader = { giveUp: undefined };
    const release = () => reader.giveUp?.(new Error("whoever read a layer has gone"));
    return streamOf(this.#chunksOf(layer, reader), { release, ahead: 1 });
  }

  async *#chunksOf(layer: Descriptor, reader: Reader): Chunks {
    while (this.#segments[this.#taken]?.layer === layer) {
      this.#fill();
      const running = this.#running[0];
      if (running === undefined) return;
      // No race with one promise for all segments: that would keep what each of them gave.
      const chunks = await new Promise<readonly Uint8Array[]>((resolve, reject) => {
        reader.giveUp = reject;
        running.then(resolve, reject);
      });
      yield* chunks;
      // Only now: until its chunks are handed on, a segment counts against the window.
      this.#drop();
    }
  }

  /** Leaves the first segment behind. */
  #drop(): void {
    const segment = this.#segments[this.#taken];
    this.#taken += 1;
    if (segment !== undefined && this.#running.shift() !== undefined) this.#runningBytes -= segment.end - segment.start;
  }

  /** Starts as many segments as fit into the window, and at least one. */
  #fill(): void {
    const { requests, windowBytes } = this.#settings;
    while (this.#running.length < requests) {
      const segment = this.#segments[this.#taken + this.#running.length];
      if (segment === undefined) return;
      const size = segment.end - segment.start;
      if (this.#running.length > 0 && this.#runningBytes + size > windowBytes) return;
      const running = this.#fetch(segment);
      // Whoever reads it is told; until then a failure must not end the process.
      running.catch(() => undefined);
      this.#running.push(running);
      this.#runningBytes += size;
    }
  }

  async #fetch({ layer, start, end }: Segment): Promise<readonly Uint8Array[]> {
    const stream = await this.#store.fetch(layer, { ...this.#options, range: { start, end } });
    this.#open.add(stream);
    try {
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        this.#options.signal?.throwIfAborted();
        chunks.push(chunk);
        size += chunk.length;
        // A server that goes on for ever must not fill the memory. The digest of the whole says that it is wrong.
        if (size > end - start) break;
      }
      return chunks;
    } finally {
      this.#open.delete(stream);
    }
  }

  /** Ends all requests, and waits until they have ended. */
  async close(): Promise<void> {
    this.#abort.abort();
    for (const stream of this.#open) stream.destroy();
    await Promise.allSettled(this.#running);
  }
}

function segmentsOf(layer: Descriptor, segmentBytes: number): Segment[] {
  // A little more than one segment is not worth a second request.
  const count = layer.size <= segmentBytes * 1.5 ? 1 : Math.ceil(layer.size / segmentBytes);
  const end = (i: number) => (i === count - 1 ? layer.size : (i + 1) * segmentBytes);
  return Array.from({ length: count }, (_, i) => ({ layer, start: i * segmentBytes, end: end(i) }));
}
