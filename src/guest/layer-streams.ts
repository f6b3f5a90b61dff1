import { compose, verifyContent, type ByteStream } from "../bytes/index.ts";
import { hashingFor, type CipherThreads } from "../cipher/index.ts";
import type { OpenedLayer } from "../layer/index.ts";
import type { Descriptor } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import type { InflateThread } from "./inflate-thread.ts";
import type { LayerCache } from "./layer-cache.ts";
import { ReadAhead, type ReadAheadSettings } from "./read-ahead.ts";
import type { LayerSource } from "./unpack-image.ts";

/** Below this a thread has hardly started when the layer is done. */
const minThreadedSize = 8 * 1024 ** 2;

export interface LayerStreamsRequest {
  readonly store: ContentReader;
  readonly layers: readonly Descriptor[];
  /** Per layer what opens it; `undefined` for plain ones. */
  readonly opened: readonly (OpenedLayer | undefined)[];
  readonly cache?: LayerCache | undefined;
  /** Where digests of large layers are computed; in the caller's thread unless told. */
  readonly threads?: CipherThreads | undefined;
  /** Where large decrypted layers are inflated. */
  readonly inflater?: InflateThread | undefined;
  readonly readAhead?: ReadAheadSettings | undefined;
}

/**
 * Where the bytes of layers come from: the cache, a file that is at hand, or the store ahead of time. Whatever the way,
 * size and digest of the stored form are verified, and plaintext is verified before it comes out.
 */
export class LayerStreams {
  readonly #request: LayerStreamsRequest;
  readonly #ahead: ReadAhead;
  readonly #options: CallOptions;

  constructor(request: LayerStreamsRequest, options: CallOptions) {
    const { store, layers, cache, readAhead = {} } = request;
    this.#request = request;
    this.#options = options;
    const seen = new Set<string>();
    const fetched = layers.filter((layer) => {
      if (store.localPath(layer) !== undefined) return false;
      if (cache === undefined) return true;
      // With a cache, a layer that comes again is read from it.
      const isNew = !seen.has(layer.digest) && cache.state(layer).kind === "none";
      seen.add(layer.digest);
      return isNew;
    });
    this.#ahead = new ReadAhead(store, fetched, readAhead, options);
  }

  readonly source: LayerSource = async (layer, index) => {
    const opened = this.#request.opened[index];
    if (opened === undefined) return { mediaType: layer.mediaType, stream: await this.#stored(layer), descriptor: () => layer };
    const { store } = this.#request;
    return {
      mediaType: opened.mediaType,
      thread: layer.size < minThreadedSize ? undefined : this.#request.inflater,
      stream: await opened.open((range) => (range === undefined ? this.#stored(layer) : store.fetch(layer, { ...this.#options, range }))),
      descriptor: (address) => opened.plainDescriptor(address),
    };
  };

  async close(): Promise<void> {
    await this.#ahead.close();
  }

  /** The stored form, verified. */
  async #stored(layer: Descriptor): Promise<ByteStream> {
    const { store, cache, threads } = this.#request;
    if (cache === undefined || store.localPath(layer) !== undefined) {
      const ahead = this.#ahead.open(layer);
      if (ahead === undefined) return await store.fetch(layer, this.#options);
      return compose(ahead, verifyContent(layer, `layer ${layer.digest} of ${store.name}`, hashingFor(threads, layer.size)));
    }
    if (cache.state(layer).kind === "whole") return cache.read(layer);
    return await cache.keep(layer, async (offset) => {
      const ahead = offset === 0 ? this.#ahead.open(layer) : undefined;
      return ahead ?? (await store.fetch(layer, { ...this.#options, range: { start: offset, end: layer.size } }));
    });
  }
}
