import type { Digest } from "../../bytes/index.ts";
import { ToolError } from "../../errors/index.ts";
import { isForeignLayerMediaType, isManifestMediaType, type Descriptor } from "../../oci/index.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { CallOptions, ContentReader, ContentWriter } from "../content-store.ts";
import { CopyTally, type CopyEvent, type CopyOutcome, type CopySummary } from "./copy-events.ts";
import { checkSignal, CopyError, StoreError, type CopySide } from "../errors.ts";
import { newLimiter, runAll, type Limiter } from "./limiter.ts";
import { ObservedSource, type ObservedContent } from "./observed-source.ts";
import { readBlob, readDocument, type StoredDocument } from "../read.ts";
import { companionSuffixes, fallbackTagOf } from "../referrers.ts";

/** Bounds on an image graph that somebody else made. */
export const graphLimits = { maxDepth: 8, maxObjects: 200_000 } as const;

const defaultConcurrency = 6;
/** What a registry's store throws when a document names something that the registry does not have. */
const partsMissing = "ERR_REGISTRY_BLOB_UNKNOWN";
/** Manifests of one index at once; deeper indexes go one by one, so that few documents are in memory. */
const documentConcurrency = 3;

export interface CopyRequest extends CallOptions {
  readonly from: ContentReader;
  readonly to: Pick<ContentReader & ContentWriter, "name" | "exists" | "push" | "tag">;
  /** A manifest or index of `from`; everything below it is copied, every platform. */
  readonly root: Descriptor;
  /** Names that shall point at the root, moved after everything else is there. Its own digest lists it without a name. */
  readonly tags?: readonly string[];
  /**
   * `follow`: also what refers to any manifest that is copied (signatures, SBOMs, attestations), as referrers and under
   * cosign's tags, and what refers to that. `ignore` unless told.
   */
  readonly referrers?: "follow" | "ignore";
  /**
   * What a manifest that is at the destination already says about what is below it. `walk` (unless told): nothing, it
   * is looked at. `trust`: that it is all there, as registries promise; an image that is there costs one request.
   */
  readonly present?: "walk" | "trust";
  /** Blobs at once; 6 unless told. */
  readonly concurrency?: number;
  readonly onProgress?: (event: CopyEvent) => void;
}

/**
 * Copies an image graph between any two stores: exact bytes, children before parents, each object once, names last.
 * What is at the destination stays there, so a copy that was interrupted goes on where it was when it is run again.
 *
 * Throws a {@link CopyError} with the code of whatever failed, which says which side it was; `ERR_STORE_LIMIT` for a
 * graph deeper or larger than {@link graphLimits}. After a failure nothing goes on in the background.
 */
export async function copyGraph(request: CopyRequest): Promise<CopySummary> {
  return new CopyRun(request).run();
}

class CopyRun {
  readonly #request: CopyRequest;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  readonly #blobs: Limiter;
  readonly #tally = new CopyTally();
  /** Every object that was met, so that it is copied once, also when it is in many manifests. */
  readonly #met = new Map<Digest, Promise<void>>();
  /** Every manifest and index that was met, in order. */
  readonly #documents: Descriptor[] = [];

  constructor(request: CopyRequest) {
    this.#request = request;
    this.#signal = request.signal === undefined ? this.#abort.signal : AbortSignal.any([request.signal, this.#abort.signal]);
    this.#blobs = newLimiter(request.concurrency ?? defaultConcurrency);
  }

  async run(): Promise<CopySummary> {
    const { root, tags = [], referrers = "ignore" } = this.#request;
    await this.#document(root, 0);
    if (referrers === "follow") await this.#allReferrers();
    for (const tag of tags) await this.#tag(root, tag);
    return this.#tally.summary();
  }

  #document(target: Descriptor, depth: number): Promise<void> {
    return this.#once(target, () => this.#copyDocument(target, depth));
  }

  async #copyDocument(target: Descriptor, depth: number): Promise<void> {
    if (depth > graphLimits.maxDepth) throw tooDeep(target);
    this.#documents.push(target);
    this.#found(target, "manifest");
    if (this.#request.present === "trust" && (await this.#atDestination(target))) {
      this.#finished(target, "present");
    } else {
      const document = await this.#readDocument(target);
      await this.#children(document, depth);
      try {
        await this.#pushDocument(document);
      } catch (error) {
        if (!(error instanceof ToolError) || error.code !== partsMissing) throw error;
        await this.#partsAgain(document);
        await this.#pushDocument(document);
      }
    }
  }

  #pushDocument({ descriptor: target, bytes }: StoredDocument): Promise<void> {
    return this.#push({ target, open: async () => bytesStream(bytes) });
  }

  /** Sends everything below a document, whatever the destination said before. Registries lose blobs that they still answer HEAD for (oras-go#1211). */
  async #partsAgain(document: StoredDocument): Promise<void> {
    const parts = document.kind === "manifest" ? [document.manifest.config, ...document.manifest.layers] : document.index.manifests;
    const again = async (part: Descriptor): Promise<void> => {
      if (!isManifestMediaType(part.mediaType)) return this.#blobs.run(() => this.#pushIfThere(part));
      const child = await this.#readDocument(part);
      await this.#partsAgain(child);
      await this.#pushDocument(child);
    };
    await runAll(
      parts.map((part) => () => again(part)),
      () => this.#abort.abort(),
    );
  }

  #readDocument(target: Descriptor): Promise<StoredDocument> {
    const read = () => readDocument(this.#request.from, target, { signal: this.#signal });
    return this.#onSide("source", `manifest ${target.digest}`, read);
  }

  async #children(document: StoredDocument, depth: number): Promise<void> {
    const stop = () => this.#abort.abort();
    if (document.kind === "manifest") {
      const blobs = [document.manifest.config, ...document.manifest.layers];
      await runAll(
        blobs.map((blob) => () => this.#blob(blob)),
        stop,
      );
      return;
    }
    const limiter = newLimiter(depth === 0 ? documentConcurrency : 1);
    const copyEntry = (entry: Descriptor) => (isManifestMediaType(entry.mediaType) ? this.#document(entry, depth + 1) : this.#blob(entry));
    await runAll(
      document.index.manifests.map((entry) => () => limiter.run(() => copyEntry(entry))),
      stop,
    );
  }

  #blob(target: Descriptor): Promise<void> {
    return this.#once(target, () =>
      this.#blobs.run(async () => {
        this.#found(target, "blob");
        await this.#pushIfThere(target);
      }),
    );
  }

  /** A layer that is to be fetched from elsewhere may be absent. */
  async #pushIfThere(target: Descriptor): Promise<void> {
    if (isForeignLayerMediaType(target.mediaType) && !(await this.#atSource(target))) this.#finished(target, "skipped");
    else await this.#pushBlob(target);
  }

  #pushBlob(target: Descriptor): Promise<void> {
    const { from } = this.#request;
    const { data } = target;
    if (data !== undefined) {
      return this.#push({
        target,
        open: async () => bytesStream(await readBlob(from, target, { maxBytes: target.size, subject: "content" })),
      });
    }
    return this.#push({
      target,
      open: () => from.fetch(target, { signal: this.#signal }),
      openAt: (start) => from.fetch(target, { signal: this.#signal, range: { start, end: target.size } }),
      localPath: from.localPath(target),
    });
  }

  async #push(content: ObservedContent): Promise<void> {
    const { target } = content;
    const source = new ObservedSource(content, (event) => this.#report(event));
    try {
      const outcome = await this.#request.to.push(target, source.asBlobSource(), { signal: this.#signal });
      this.#finished(target, outcome);
    } catch (error) {
      throw this.#failure(source.failure === undefined ? "destination" : "source", target.digest, source.failure?.error ?? error);
    }
  }

  /**
   * What refers to the manifests copied so far, then what refers to that. One level after the other and not from within
   * the walk: a tag that is named after a manifest may lead back to it, and the walk would wait for itself.
   */
  async #allReferrers(): Promise<void> {
    let done = 0;
    for (let level = 0; done < this.#documents.length; level += 1) {
      const subjects = this.#documents.slice(done);
      done = this.#documents.length;
      if (level >= graphLimits.maxDepth) throw tooDeep(subjects[0]);
      for (const subject of subjects) await this.#referrersOf(subject);
    }
  }

  /** The referrers API's list and cosign's tags together. */
  async #referrersOf(subject: Descriptor): Promise<void> {
    const { from } = this.#request;
    const listed = await this.#onSide("source", `referrers of ${subject.digest}`, () => from.referrers(subject, { signal: this.#signal }));
    for (const referrer of listed) await this.#document(referrer, 0);
    for (const suffix of companionSuffixes) {
      const tag = fallbackTagOf(subject.digest) + suffix;
      const companion = await this.#onSide("source", tag, () => resolveIfThere(from, tag, this.#signal));
      if (companion === undefined) continue;
      await this.#document(companion, 0);
      await this.#tag(companion, tag);
    }
  }

  async #tag(target: Descriptor, reference: string): Promise<void> {
    await this.#onSide("destination", reference, () => this.#request.to.tag(target, reference, { signal: this.#signal }));
    this.#report({ kind: "tagged", descriptor: target, reference });
  }

  #atDestination(target: Descriptor): Promise<boolean> {
    return this.#onSide("destination", target.digest, () => this.#request.to.exists(target, { signal: this.#signal }));
  }

  #atSource(target: Descriptor): Promise<boolean> {
    return this.#onSide("source", target.digest, () => this.#request.from.exists(target, { signal: this.#signal }));
  }

  #once(target: Descriptor, action: () => Promise<void>): Promise<void> {
    const met = this.#met.get(target.digest);
    if (met !== undefined) return met;
    if (this.#met.size >= graphLimits.maxObjects) return Promise.reject(tooMany());
    checkSignal(this.#signal);
    const running = action();
    this.#met.set(target.digest, running);
    return running;
  }

  async #onSide<Result>(side: CopySide, subject: string, action: () => Promise<Result>): Promise<Result> {
    try {
      return await action();
    } catch (error) {
      throw this.#failure(side, subject, error);
    }
  }

  #failure(side: CopySide, subject: string, error: unknown): unknown {
    if (error instanceof CopyError) return error;
    return new CopyError(side, side === "source" ? this.#request.from.name : this.#request.to.name, subject, error);
  }

  #found(descriptor: Descriptor, role: "manifest" | "blob"): void {
    this.#report({ kind: "found", descriptor, role });
  }

  #finished(descriptor: Descriptor, outcome: CopyOutcome): void {
    this.#tally.add(descriptor, outcome);
    this.#report({ kind: "finished", descriptor, outcome });
  }

  #report(event: CopyEvent): void {
    this.#request.onProgress?.(event);
  }
}

async function resolveIfThere(store: ContentReader, reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
  try {
    return await store.resolve(reference, { signal });
  } catch (error) {
    if (error instanceof ToolError && error.category === "not-found") return undefined;
    throw error;
  }
}

function tooDeep(target: Descriptor | undefined): StoreError {
  return new StoreError("ERR_STORE_LIMIT", {
    message: `manifest ${target?.digest ?? ""} is nested deeper than ${graphLimits.maxDepth} levels of indexes and referrers`,
    hint: "no builder makes such images; copy the inner image by its digest if you trust it",
  });
}

function tooMany(): StoreError {
  return new StoreError("ERR_STORE_LIMIT", { message: `the image has more than ${graphLimits.maxObjects} manifests and blobs` });
}
