import { compose, isDigest, verifyContent, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import {
  guessManifestMediaType,
  isIndexMediaType,
  isManifestMediaType,
  manifestLimits,
  mediaTypes,
  type Descriptor,
} from "../oci/index.ts";
import type { BlobArea, IndexArea } from "./areas.ts";
import { bytesStream } from "./bytes-stream.ts";
import { wrapReadErrors } from "./disk/content-file.ts";
import type { BlobSource, CallOptions, ContentStore, FetchOptions, IngestRequest, PushOutcome, ReferrersFilter } from "./content-store.ts";
import { checkSignal, StoreError } from "./errors.ts";
import { checkName, findEntry, namesOf, onlyOne, refNameOf, withEntry, withoutDigest, withoutName, withTag } from "./index-entries.ts";
import { readBlob, readDocument } from "./read.ts";
import { asReferrer, fallbackTagOf, isReferrersTag, type ReferrerFacts } from "./referrers.ts";
import { ensureVerified, markVerified } from "./verified-stream.ts";

/** A store made of a list of manifests and a place for content: what memory, layouts and archives have in common. */
export class IndexedStore implements ContentStore {
  readonly name: string;
  readonly #blobs: BlobArea;
  readonly #index: IndexArea;
  /** The subject of each manifest that was looked at; content never changes under its digest, so this never goes stale. */
  readonly #subjects = new Map<Digest, Digest | undefined>();

  constructor(name: string, blobs: BlobArea, index: IndexArea) {
    this.name = name;
    this.#blobs = blobs;
    this.#index = index;
  }

  async resolve(reference: string | undefined, options: CallOptions = {}): Promise<Descriptor> {
    const entries = await this.#index.read();
    const entry = reference === undefined ? await this.#onlyImage(entries, options) : findEntry(entries, reference, this.name);
    if (entry !== undefined) {
      const { descriptor } = await readDocument(this, entry, options);
      return { mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.size };
    }
    const unlisted = reference !== undefined && isDigest(reference) ? await this.#resolveUnlisted(reference, options) : undefined;
    if (unlisted !== undefined) return unlisted;
    throw notFound(reference === undefined ? "an image" : reference, this.name, namesOf(entries));
  }

  async fetch(target: Descriptor, options: FetchOptions = {}): Promise<ByteStream> {
    checkSignal(options.signal);
    const stream = await this.#blobs.open(target, options);
    if (stream === undefined) throw notFound(target.digest, this.name);
    const reading = wrapReadErrors(`reading ${target.digest} of ${this.name}`);
    if (options.range !== undefined) return compose(stream, reading);
    return markVerified(compose(stream, reading, verifyContent(target, `content ${target.digest} of ${this.name}`)), target);
  }

  async exists(target: Descriptor, options: CallOptions = {}): Promise<boolean> {
    checkSignal(options.signal);
    return this.#blobs.has(target);
  }

  async referrers(subject: Descriptor, filter: ReferrersFilter = {}): Promise<readonly Descriptor[]> {
    const found = new Map<Digest, Descriptor>();
    for (const entry of await this.#referrerCandidates(subject, filter)) {
      if (found.has(entry.digest)) continue;
      if ((await this.#subjectOf(entry, filter)) !== subject.digest) continue;
      const facts = await this.#factsOf(entry, filter);
      if (filter.artifactType === undefined || facts.descriptor.artifactType === filter.artifactType)
        found.set(entry.digest, facts.descriptor);
    }
    return [...found.values()];
  }

  async tags(options: CallOptions = {}): Promise<readonly string[]> {
    checkSignal(options.signal);
    return namesOf(await this.#index.read());
  }

  localPath(target: Descriptor): string | undefined {
    return this.#blobs.localPath(target);
  }

  async push(target: Descriptor, source: BlobSource, options: CallOptions = {}): Promise<PushOutcome> {
    if (!isManifestMediaType(target.mediaType)) return this.#blobs.put(target, source, options);
    // Parsed before it is stored: what no reader could read is not worth keeping, and `subject` makes a referrer.
    const bytes = await readBlob({ name: "the source", fetch: () => openVerified(target, source) }, target, {
      maxBytes: manifestLimits.maxBytes,
      subject: "manifest",
    });
    const facts = asReferrer(target, bytes);
    const outcome = await this.#blobs.put(target, openBytes(bytes), options);
    if (facts.subject !== undefined) {
      await this.#blobs.flush();
      await this.#index.update((entries) => withEntry(entries, facts.descriptor), options);
    }
    return outcome;
  }

  async ingest(source: ByteStream, request: IngestRequest = {}): Promise<ContentAddress> {
    return this.#blobs.ingest(source, request);
  }

  async tag(target: Descriptor, reference: string, options: CallOptions = {}): Promise<void> {
    if (!(await this.#blobs.has(target))) throw notFound(target.digest, this.name);
    if (!isDigest(reference)) checkName(reference, this.name);
    else if (reference !== target.digest) {
      throw new StoreError("ERR_STORE_UNSUPPORTED", { message: `${reference} cannot name ${target.digest} in ${this.name}` });
    }
    await this.#blobs.flush();
    await this.#index.update(
      (entries) => (isDigest(reference) ? withEntry(entries, target) : withTag(entries, target, reference)),
      options,
    );
  }

  async remove(target: Descriptor | string, options: CallOptions = {}): Promise<"removed" | "absent"> {
    if (typeof target === "string" && !isDigest(target)) {
      let had = false;
      await this.#index.update((entries) => {
        had = entries.some((entry) => refNameOf(entry) === target);
        return withoutName(entries, target);
      }, options);
      return had ? "removed" : "absent";
    }
    const digest = typeof target === "string" ? target : target.digest;
    // The names first: a name must never point at what is gone.
    await this.#index.update((entries) => withoutDigest(entries, digest), options);
    this.#subjects.delete(digest);
    return this.#blobs.remove(digest);
  }

  async close(): Promise<void> {
    await this.#blobs.close();
  }

  /** The only image when nothing was named; what only says something about another image does not count. */
  async #onlyImage(entries: readonly Descriptor[], options: CallOptions): Promise<Descriptor | undefined> {
    if (new Set(entries.map((entry) => entry.digest)).size <= 1) return entries[0];
    const images: Descriptor[] = [];
    for (const entry of entries) {
      const name = refNameOf(entry);
      if (name !== undefined && isReferrersTag(name)) continue;
      if (isManifestMediaType(entry.mediaType) && (await this.#subjectOf(entry, options)) !== undefined) continue;
      images.push(entry);
    }
    return onlyOne(images, undefined, this.name);
  }

  /** A manifest that no entry names, such as one platform's in an index. Its media type is what it says of itself. */
  async #resolveUnlisted(digest: Digest, options: CallOptions): Promise<Descriptor | undefined> {
    const size = await this.#blobs.sizeOf(digest);
    if (size === undefined || size > manifestLimits.maxBytes) return undefined;
    const address = { mediaType: mediaTypes.manifest, digest, size };
    const bytes = await readBlob(this, address, { maxBytes: manifestLimits.maxBytes, subject: "manifest" }, options);
    return { ...address, mediaType: guessManifestMediaType(bytes) };
  }

  /** All listed manifests, and those in an index under the tag that registries without a referrers API use. */
  async #referrerCandidates(subject: Descriptor, options: CallOptions): Promise<readonly Descriptor[]> {
    const entries = await this.#index.read();
    const fallback = entries.find((entry) => refNameOf(entry) === fallbackTagOf(subject.digest) && isIndexMediaType(entry.mediaType));
    const listed = fallback === undefined ? undefined : await readDocument(this, fallback, options);
    const inFallback = listed?.kind === "index" ? listed.index.manifests : [];
    return [...entries, ...inFallback].filter((entry) => isManifestMediaType(entry.mediaType));
  }

  /** Only the subject is kept: a manifest may be 4 MiB, and a hostile index names thousands. */
  async #subjectOf(entry: Descriptor, options: CallOptions): Promise<Digest | undefined> {
    if (!this.#subjects.has(entry.digest)) this.#subjects.set(entry.digest, (await this.#factsOf(entry, options)).subject);
    return this.#subjects.get(entry.digest);
  }

  async #factsOf(entry: Descriptor, options: CallOptions): Promise<ReferrerFacts> {
    const { bytes } = await readDocument(this, entry, options);
    return asReferrer(entry, bytes);
  }
}

async function openVerified(target: Descriptor, source: BlobSource): Promise<ByteStream> {
  return ensureVerified(await source(), target, `manifest ${target.digest}`);
}

function openBytes(bytes: Buffer): BlobSource {
  return async () => bytesStream(bytes);
}

export function notFound(what: string, storeName: string, names: readonly string[] = []): StoreError {
  return new StoreError("ERR_STORE_NOT_FOUND", {
    message: `${what} is not in ${storeName}${names.length === 0 ? "" : ` (it holds: ${names.slice(0, 20).join(", ")}${names.length > 20 ? ", …" : ""})`}`,
  });
}
