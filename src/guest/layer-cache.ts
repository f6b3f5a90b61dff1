import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  createReadStream,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import {
  BytesError,
  compose,
  digestAlgorithmOf,
  encodedOf,
  streamOf,
  verifyContent,
  type ByteStage,
  type ByteStream,
  type Chunks,
} from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { isDeadOwner, ownerMark } from "./owner-mark.ts";
import { errorCode, storageFailed, storing } from "./storage-error.ts";

/** What the cache has of a layer. */
export type CacheState = { readonly kind: "whole" } | { readonly kind: "part"; readonly size: number } | { readonly kind: "none" };

interface Part {
  readonly path: string;
  readonly size: number;
}

/** Marks a part that no process works on. */
const freeMark = "free-";

/**
 * A folder of layers as they are stored, encrypted ones encrypted: whoever reads it learns no more than the registry knows,
 * and a cached layer still needs its key, so policy and authorisation are asked as if it were not there.
 *
 * Files are named by the digest that a verified manifest demands and are verified at every reading, so that nobody who can
 * write the folder can put anything in an image. A download that breaks off stays as a part, and the next pull goes on from
 * its end. Several processes may share a folder: a part belongs to one download, and is taken over by a rename.
 */
export class LayerCache {
  readonly #path: string;

  /** Throws `ERR_GUEST_STORAGE`. */
  constructor(path: string) {
    this.#path = resolve(path);
    storing(`layer cache ${path}`, () => {
      mkdirSync(join(this.#path, "blobs"), { recursive: true, mode: 0o700 });
      mkdirSync(join(this.#path, "parts"), { recursive: true, mode: 0o700 });
    });
  }

  state(layer: Descriptor): CacheState {
    return storing(this.#path, () => {
      if (statSync(this.#whole(layer), { throwIfNoEntry: false })?.size === layer.size) return { kind: "whole" };
      const part = this.#adoptable(layer);
      return part === undefined ? { kind: "none" } : { kind: "part", size: part.size };
    });
  }

  /** The whole layer from the cache. When it does not verify it is removed, so that the next pull fetches it anew. */
  read(layer: Descriptor): ByteStream {
    const path = this.#whole(layer);
    return compose(fileFrom(path, layer.size), removingWhenWrong(path, verifyContent(layer, `cached layer ${layer.digest}`)));
  }

  /**
   * Keeps a layer while it is read. `rest` opens its bytes from an offset on; what an earlier pull has kept comes from the
   * cache first. Ends only after size and digest of the whole held.
   */
  async keep(layer: Descriptor, rest: (offset: number) => Promise<ByteStream>): Promise<ByteStream> {
    const part = storing(this.#path, () => this.#adopt(layer));
    const remote = part.size < layer.size ? await rest(part.size) : undefined;
    const whole = this.#whole(layer);
    const free = join(this.#path, "parts", `${nameOf(layer)}.${freeMark}${randomBytes(6).toString("hex")}`);
    const verified = removingWhenWrong(part.path, verifyContent(layer, `layer ${layer.digest}`));
    async function* kept(): Chunks {
      try {
        yield* verified(writingThrough(part, remote));
        // Only what verified gets the name that says so.
        storing(whole, () => renameSync(part.path, whole));
      } finally {
        remote?.destroy();
        // What broke off is anybody's to go on with, this process's next pull included.
        storing(free, () => {
          if (statSync(part.path, { throwIfNoEntry: false }) !== undefined) renameSync(part.path, free);
        });
      }
    }
    return streamOf(kept(), { release: () => remote?.destroy(), ahead: 1 });
  }

  /** Takes over the longest part that nobody works on, or names a new one. */
  #adopt(layer: Descriptor): Part {
    const own = join(this.#path, "parts", `${nameOf(layer)}.${ownerMark()}-${randomBytes(6).toString("hex")}`);
    const left = this.#adoptable(layer);
    if (left === undefined) return { path: own, size: 0 };
    try {
      renameSync(left.path, own);
    } catch (error) {
      // Another process took it over first.
      if (errorCode(error) === "ENOENT") return { path: own, size: 0 };
      throw error;
    }
    return { path: own, size: left.size };
  }

  #adoptable(layer: Descriptor): Part | undefined {
    const prefix = `${nameOf(layer)}.`;
    let best: Part | undefined;
    for (const name of readdirSync(join(this.#path, "parts"))) {
      if (!name.startsWith(prefix)) continue;
      const mark = name.slice(prefix.length);
      if (!mark.startsWith(freeMark) && !isDeadOwner(mark)) continue;
      const path = join(this.#path, "parts", name);
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats?.isFile() !== true || stats.size > layer.size) continue;
      if (best === undefined || stats.size > best.size) best = { path, size: stats.size };
    }
    return best;
  }

  #whole(layer: Descriptor): string {
    return join(this.#path, "blobs", nameOf(layer));
  }
}

function nameOf(layer: Descriptor): string {
  return `${digestAlgorithmOf(layer.digest)}-${encodedOf(layer.digest)}`;
}

/** Bytes of a file; a system error while reading becomes `ERR_GUEST_STORAGE`. */
function fileFrom(path: string, size: number): ByteStream {
  async function* read(): Chunks {
    if (size === 0) return;
    try {
      yield* createReadStream(path, { end: size - 1, highWaterMark: 1 << 20 }) as Chunks;
    } catch (cause) {
      throw cause instanceof Error && errorCode(cause) !== undefined ? storageFailed(path, cause) : cause;
    }
  }
  return Readable.from(read(), { objectMode: false, highWaterMark: 1 });
}

/** What a part has, then what comes, which is added to it. */
async function* writingThrough(part: Part, remote: ByteStream | undefined): Chunks {
  const fd = storing(part.path, () => openSync(part.path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600));
  try {
    storing(part.path, () => ftruncateSync(fd, part.size));
    yield* fileFrom(part.path, part.size) as Chunks;
    let at = part.size;
    for await (const chunk of (remote ?? []) as Chunks) {
      storing(part.path, () => {
        let written = 0;
        while (written < chunk.length) written += writeSync(fd, chunk, written, chunk.length - written, at + written);
      });
      at += chunk.length;
      yield chunk;
    }
  } finally {
    closeSync(fd);
  }
}

/** Removes a file whose content is wrong. One that is merely cut stays. */
function removingWhenWrong(path: string, stage: ByteStage): ByteStage {
  return async function* (source) {
    try {
      yield* stage(source);
    } catch (error) {
      if (error instanceof BytesError && error.code !== "ERR_CONTENT_TRUNCATED") storing(path, () => rmSync(path, { force: true }));
      throw error;
    }
  };
}
