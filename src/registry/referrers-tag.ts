import { BytesError, digestAlgorithmOf, digestOf, encodedOf, type Digest } from "../bytes/index.ts";
import { mediaTypes, serializeJson, type Descriptor, type ImageIndex } from "../oci/index.ts";
import { StoreError, type CallOptions } from "../store/index.ts";
import { RegistryError } from "./errors.ts";
import { fetchManifest, manifestIsThere, putManifest, type FetchedManifest } from "./manifests.ts";
import type { ReferrersBatch } from "./referrers-batch.ts";
import type { RepositoryClient } from "./repository-client.ts";
import { pause } from "./retry.ts";

/** The tag under which a registry without the API lists referrers. Source: distribution-spec, "Referrers Tag Schema". */
export function referrersTagOf(subject: Digest): string {
  return `${digestAlgorithmOf(subject).slice(0, 32)}-${encodedOf(subject).slice(0, 64)}`;
}

interface FallbackIndex extends FetchedManifest {
  readonly document: ImageIndex;
}

/**
 * The index under the fallback tag. `occupied`: something that is no index of ours to change stands there; GitLab
 * answers with the subject itself, and writing would replace it (oras-go#1396).
 */
export async function readReferrersTag(
  client: RepositoryClient,
  subject: Digest,
  name: string,
  options: CallOptions,
): Promise<FallbackIndex | "absent" | "occupied"> {
  const tag = referrersTagOf(subject);
  try {
    const fetched = await fetchManifest(client, tag, `referrers tag ${tag} of ${name}`, options);
    const { document } = fetched;
    const isIndex = "manifests" in document && fetched.descriptor.mediaType === mediaTypes.index && fetched.descriptor.digest !== subject;
    return isIndex ? { ...fetched, document } : "occupied";
  } catch (error) {
    if (error instanceof StoreError) return "absent";
    throw error;
  }
}

/** Pauses in milliseconds, and how long writers try. */
const contention = { minWindowMs: 40, maxWindowMs: 3000, rounds: 60 } as const;
const maxCollisions = 20;

/**
 * Adds entries to fallback tags so that none is lost among parallel writers.
 *
 * Registries ignore If-Match, so a write cannot be made conditional, and two writers that read the same index lose one
 * of their entries. So: read, merge, write; wait longer than a writer needs from its reading to its writing; read
 * again; only what was seen in three readings in a row, while nothing else changed, is there to stay. Every writer also puts back what it has
 * seen of others and finds missing (unless the manifest is gone), so that each repair serves everybody. Writers of one
 * process share one loop per tag. After a bounded number of rounds: `ERR_REGISTRY_REFERRERS_CONTENDED`.
 */
export class ReferrersTagWriter {
  readonly #client: RepositoryClient;
  readonly #name: string;

  constructor(client: RepositoryClient, name: string) {
    this.#client = client;
    this.#name = name;
  }

  async add(subject: Digest, entry: Descriptor, options: CallOptions): Promise<void> {
    const batches = this.#client.transport.referrersBatches;
    const key = `${this.#client.origin.origin} ${this.#client.repository} ${subject}`;
    const running = batches.get(key);
    if (running === undefined) {
      const wanted = new Map([[entry.digest, entry]]);
      let batch: ReferrersBatch | undefined;
      const close = () => {
        if (batches.get(key) === batch) batches.delete(key);
      };
      const done = this.#converge(subject, wanted, options, close).finally(close);
      batch = { wanted, done };
      batches.set(key, batch);
      return done;
    }
    running.wanted.set(entry.digest, entry);
    try {
      await running.done;
    } catch (error) {
      // Whoever began the loop was interrupted; that does not concern us.
      const theirs = error instanceof BytesError && error.code === "ERR_INTERRUPTED" && options.signal?.aborted !== true;
      if (!theirs) throw error;
      await this.add(subject, entry, options);
    }
  }

  /** Takes an entry out, for a manifest that was deleted. */
  async remove(subject: Digest, entry: Digest, options: CallOptions): Promise<void> {
    for (let round = 0; round < 5; round += 1) {
      const current = await readReferrersTag(this.#client, subject, this.#name, options);
      if (typeof current === "string" || !current.document.manifests.some(({ digest }) => digest === entry)) return;
      await this.#write(
        subject,
        { ...current.document, manifests: current.document.manifests.filter(({ digest }) => digest !== entry) },
        options,
      );
      await pause(contention.minWindowMs * (1 + Math.random()), options.signal);
    }
  }

  /** @param close - called in the same turn in which the last look at `wanted` was taken, so that nothing joins unseen. */
  async #converge(subject: Digest, wanted: ReadonlyMap<Digest, Descriptor>, options: CallOptions, close: () => void): Promise<void> {
    const seen = new Map<Digest, Descriptor>();
    let slowestMs = 0;
    let stable = 0;
    let entries = 0;
    let collisions = 0;
    for (let round = 0; round < contention.rounds; round += 1) {
      const start = performance.now();
      const current = await this.#read(subject, options);
      const present = new Map((current?.manifests ?? []).map((entry) => [entry.digest, entry]));
      const lost = await this.#stillThere(
        [...seen.values()].filter(({ digest }) => !present.has(digest) && !wanted.has(digest)),
        seen,
        options,
      );
      for (const entry of present.values()) seen.set(entry.digest, entry);
      // No await from here to `close`: what joins later begins a loop of its own.
      const missing = [...wanted.values()].filter(({ digest }) => !present.has(digest));
      if (missing.length === 0 && lost.length === 0) {
        // Another writer is at work as long as the index grows; its last write may be of an older reading.
        stable = entries === present.size ? stable + 1 : 1;
        if (stable >= 3) return close();
      } else {
        stable = 0;
        const base: ImageIndex = current ?? { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [] };
        try {
          await this.#write(subject, { ...base, manifests: [...base.manifests, ...lost, ...missing] }, options);
        } catch (error) {
          // Writers who arrive at the same bytes disturb each other in docker-registry 2.8, which then doubts the digest.
          if (!(error instanceof RegistryError) || error.details["registryCode"] !== "DIGEST_INVALID" || collisions >= maxCollisions) {
            throw error;
          }
          collisions += 1;
        }
      }
      entries = present.size;
      slowestMs = Math.max(slowestMs, performance.now() - start);
      const windowMs = Math.min(contention.maxWindowMs, Math.max(contention.minWindowMs, slowestMs * 1.5));
      await pause(windowMs * (1 + Math.random()), options.signal);
    }
    throw new RegistryError("ERR_REGISTRY_REFERRERS_CONTENDED", {
      message: `referrers tag ${referrersTagOf(subject)} of ${this.#name}: other writers kept replacing it ${contention.rounds} times`,
      hint: "run the same command again when the others have finished",
    });
  }

  /** Throws `ERR_REGISTRY_UNSUPPORTED` where the tag is taken. */
  async #read(subject: Digest, options: CallOptions): Promise<ImageIndex | undefined> {
    const current = await readReferrersTag(this.#client, subject, this.#name, options);
    if (current !== "occupied") return current === "absent" ? undefined : current.document;
    throw new RegistryError("ERR_REGISTRY_UNSUPPORTED", {
      message: `referrers tag ${referrersTagOf(subject)} of ${this.#name} is taken by something that is no list of referrers`,
      hint: "this registry can hold signatures and other referrers in another repository only",
    });
  }

  /** Those of the lost entries whose manifest still exists: what was deleted must not come back. */
  async #stillThere(lost: readonly Descriptor[], seen: Map<Digest, Descriptor>, options: CallOptions): Promise<readonly Descriptor[]> {
    const checked = await Promise.all(
      lost.map(async (entry) => {
        if (await manifestIsThere(this.#client, entry, `referrer ${entry.digest} in ${this.#name}`, options)) return entry;
        seen.delete(entry.digest);
        return undefined;
      }),
    );
    return checked.filter((entry) => entry !== undefined);
  }

  async #write(subject: Digest, index: ImageIndex, options: CallOptions): Promise<void> {
    const tag = referrersTagOf(subject);
    const bytes = serializeJson(index);
    const descriptor = { mediaType: mediaTypes.index, digest: digestOf(bytes), size: bytes.length };
    await putManifest(this.#client, { descriptor, bytes }, tag, `referrers tag ${tag} of ${this.#name}`, options);
  }
}
