import { Readable } from "node:stream";
import { isDigest, verifyContent, type ByteStream, type Chunks, type ContentAddress } from "../bytes/index.ts";
import { describeCause, ToolError } from "../errors/index.ts";
import { isManifestMediaType, type Descriptor } from "../oci/index.ts";
import {
  markVerified,
  type BlobSource,
  type CallOptions,
  type FetchOptions,
  type IngestRequest,
  type PushOutcome,
  type ReadOptions,
  type ReferrersFilter,
} from "../store/index.ts";
import type { MirrorUse } from "./registries-conf.ts";
import type { RegistryNotice } from "./options.ts";
import type { RegistryStore } from "./store-interface.ts";

/** A store that may answer reads in place of another. */
export interface Mirror {
  readonly store: RegistryStore;
  readonly use: MirrorUse;
}

/**
 * A repository with mirrors: reads try them in order and end at the repository itself, whose answer counts; writes go
 * to the repository alone. Content is verified by digest wherever it comes from; a tag is believed to a mirror only
 * where registries.conf says so.
 */
export class MirroredStore implements RegistryStore {
  readonly name: string;
  readonly host: string;
  readonly repository: string;
  readonly #primary: RegistryStore;
  readonly #mirrors: readonly Mirror[];
  readonly #notify: (notice: RegistryNotice) => void;
  /** Mirrors that cannot be reached or refuse us are not asked again and again. */
  readonly #skipped = new Set<RegistryStore>();

  constructor(
    primary: RegistryStore,
    mirrors: readonly Mirror[],
    names: { readonly host: string; readonly repository: string },
    notify: (notice: RegistryNotice) => void,
  ) {
    this.host = names.host;
    this.repository = names.repository;
    this.name = `docker://${names.host}/${names.repository}`;
    this.#primary = primary;
    this.#mirrors = mirrors;
    this.#notify = notify;
  }

  resolve(reference: string | undefined, options?: ReadOptions): Promise<Descriptor> {
    const kind = reference !== undefined && isDigest(reference) ? "digest-only" : "tag-only";
    return this.#read(kind, options, (store) => store.resolve(reference, options));
  }

  async fetch(target: Descriptor, options: FetchOptions = {}): Promise<ByteStream> {
    const whole = options.range === undefined && options.read !== "afresh" && !isManifestMediaType(target.mediaType);
    if (!whole || target.size === 0) return this.#read("digest-only", options, (store) => store.fetch(target, options));
    return this.#fetchBlob(target, options);
  }

  /** A mirror that breaks off in the middle of a blob is left: the registry gives the rest, under the same running digest. */
  async #fetchBlob(target: Descriptor, options: FetchOptions): Promise<ByteStream> {
    const from = (store: RegistryStore, start: number) => store.fetch(target, { ...options, range: { start, end: target.size } });
    let place: RegistryStore = this.#primary;
    let current = await this.#read("digest-only", options, async (store) => {
      const stream = await from(store, 0);
      place = store;
      return stream;
    });
    const subject = `blob ${target.digest} of ${place.name}`;
    const [primary, left] = [this.#primary, (error: unknown) => this.#failed(place, error, options)];
    const chunks = async function* (): Chunks {
      for (let position = 0; position < target.size;) {
        try {
          for await (const chunk of current as Chunks) {
            position += chunk.length;
            yield chunk;
          }
          return;
        } catch (error) {
          if (place === primary) throw error;
          left(error);
          place = primary;
        }
        if (position < target.size) current = await from(primary, position);
      }
    };
    const stream = markVerified(Readable.from(verifyContent(target, subject)(chunks()), { objectMode: true, highWaterMark: 8 }), target);
    // A generator that was never started does not end what it would read.
    stream.once("close", () => current.destroy());
    return stream;
  }

  exists(target: Descriptor, options?: CallOptions): Promise<boolean> {
    return this.#primary.exists(target, options);
  }

  /** A mirror that has referrers answers for all; one that has none is no proof that there are none. */
  async referrers(subject: Descriptor, filter?: ReferrersFilter): Promise<readonly Descriptor[]> {
    for (const store of this.#usable("digest-only")) {
      try {
        const found = await store.referrers(subject, filter);
        if (found.length > 0) return found;
      } catch (error) {
        this.#failed(store, error, filter);
      }
    }
    return this.#primary.referrers(subject, filter);
  }

  tags(options?: CallOptions): Promise<readonly string[]> {
    return this.#primary.tags(options);
  }

  localPath(): string | undefined {
    return undefined;
  }

  push(target: Descriptor, source: BlobSource, options?: CallOptions): Promise<PushOutcome> {
    return this.#primary.push(target, source, options);
  }

  pushFrom(target: Descriptor, source: BlobSource, fromRepository: string | undefined, options?: CallOptions): Promise<PushOutcome> {
    return this.#primary.pushFrom(target, source, fromRepository, options);
  }

  mount(target: Descriptor, fromRepository: string, options?: CallOptions): Promise<"mounted" | "present" | "not-mounted"> {
    return this.#primary.mount(target, fromRepository, options);
  }

  ingest(source: ByteStream, request?: IngestRequest): Promise<ContentAddress> {
    return this.#primary.ingest(source, request);
  }

  async tag(target: Descriptor, reference: string, options?: CallOptions): Promise<void> {
    await this.#primary.tag(target, reference, options);
  }

  remove(target: Descriptor | string, options?: CallOptions): Promise<"removed" | "absent"> {
    return this.#primary.remove(target, options);
  }

  async close(): Promise<void> {
    await Promise.all([this.#primary, ...this.#mirrors.map(({ store }) => store)].map((store) => store.close()));
  }

  async #read<Result>(
    kind: Exclude<MirrorUse, "all">,
    options: ReadOptions | undefined,
    read: (store: RegistryStore) => Promise<Result>,
  ): Promise<Result> {
    if (options?.read === "afresh") return read(this.#primary);
    for (const store of this.#usable(kind)) {
      try {
        return await read(store);
      } catch (error) {
        this.#failed(store, error, options);
      }
    }
    return read(this.#primary);
  }

  #usable(kind: Exclude<MirrorUse, "all">): readonly RegistryStore[] {
    return this.#mirrors.filter(({ store, use }) => (use === "all" || use === kind) && !this.#skipped.has(store)).map(({ store }) => store);
  }

  /** Whatever a mirror does wrong, the next place is asked; only an interruption ends the reading. */
  #failed(store: RegistryStore, error: unknown, options: CallOptions | undefined): void {
    if (options?.signal?.aborted === true) throw error;
    if (error instanceof ToolError && error.category === "not-found") return;
    if (!(error instanceof ToolError) || error.category === "unavailable" || error.category === "denied") this.#skipped.add(store);
    this.#notify({ kind: "mirror-failed", host: store.host, reason: describeCause(error) });
  }
}
