import { createHmac } from "node:crypto";
import { compose, equalBytes, type ByteStage, type ByteStream, type Digest, type DigestAlgorithm } from "../bytes/index.ts";
import { InternalError } from "../errors/index.ts";
import { macMismatch, tagSegments } from "./ctr-segments.ts";
import { CipherError, trailing, truncated } from "./errors.ts";
import { deriveChunkKeys, deriveSegmentKey, type ChunkKeys } from "./kdf.ts";
import type { Engine } from "./names.ts";
import { checkPrivateOptions, checkPublicOptions, nonceOf, segmentTagsOf, type PrivateOptions, type PublicOptions } from "./options.ts";
import type { TransformPlan } from "./plan.ts";
import { chunkLayout, plaintextSize, segmentLength } from "./sizes.ts";
import { planStage, type StageRequest } from "./stages.ts";
import { threadsFor, type CipherThreads } from "./threads.ts";
import type { Compression } from "./uncompressed.ts";

const { commitmentSize, headerSize, plainChunk, saltSize, sealedChunk } = chunkLayout;

/** Bytes `[start, end)`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Opens a blob, or exactly the bytes of a range of it; each call reads it anew. The stream is ended by whom it is given to. */
export type BlobOpener = (range?: ByteRange) => Promise<ByteStream>;

/** What is to be computed of the plaintext on its way, beside the cipher, and judged before its last bytes leave. */
export interface PlaintextWatch {
  /** SHA-256 when not given. */
  readonly algorithm?: DigestAlgorithm | undefined;
  /** Where given: also the digest of what the plaintext uncompresses to. */
  readonly compression?: Compression | undefined;
  /** What it throws ends the plaintext. */
  readonly check: (found: { readonly digest: Digest; readonly uncompressed: Digest | undefined }) => void;
}

export interface DecryptionRequest {
  readonly publicOptions: PublicOptions;
  readonly privateOptions: PrivateOptions;
  /** The layer's media type without `+encrypted`. */
  readonly mediaType: string;
  /** Bytes of the blob as the descriptor says; trusted as far as the manifest is. */
  readonly ciphertextSize: number;
  readonly engine?: Engine | undefined;
  /** Threads for large layers; ranges are decrypted without them. */
  readonly threads?: CipherThreads | undefined;
}

/** One layer being decrypted. Only verified plaintext comes out, in every call. */
export interface LayerDecryption {
  readonly plaintextSize: number;
  /**
   * How often {@link open} reads the blob. Two for a CTR layer without segment tags: its one MAC covers the whole blob,
   * so it is read once to verify and once to decrypt; the second reading is checked piece by piece against the first.
   */
  readonly passes: 1 | 2;
  /** The whole plaintext. Stream errors: `ERR_CIPHER_*` of category integrity, and what the watch throws. */
  open(source: BlobOpener, watch?: PlaintextWatch): Promise<ByteStream>;
  /** A part of the plaintext, reading only what is needed. Throws `ERR_CIPHER_RANGE`. */
  openRange(source: BlobOpener, range: ByteRange): Promise<ByteStream>;
  /** For the file path of this room. */
  readonly plan: OpenPlan;
}

/** How to decrypt into a staging file: the transform of what follows the header, as the header says. */
export interface OpenPlan {
  readonly headerSize: number;
  readonly ciphertextSize: number;
  readonly afterHeader: (header: Uint8Array) => TransformPlan;
  /** Whether output is verified piece by piece, or only when all of it was written. */
  readonly verified: "each-piece" | "at-end";
}

/**
 * Prepares the decryption of one layer; reads nothing yet. Throws what {@link checkPublicOptions} and
 * {@link checkPrivateOptions} throw, and `ERR_CIPHER_TRUNCATED` for a size that no layer has.
 */
export function newDecryption(request: DecryptionRequest): LayerDecryption {
  const { publicOptions, privateOptions, ciphertextSize } = request;
  checkPublicOptions(publicOptions, ciphertextSize);
  checkPrivateOptions(publicOptions.cipher, privateOptions);
  switch (publicOptions.cipher) {
    case "AES_256_GCM_C2SP_CHUNKED_V1":
      return chunkDecryption(request);
    case "AES_256_CTR_HMAC_SHA256":
      return ctrDecryption(request);
  }
}

function chunkDecryption(request: DecryptionRequest): LayerDecryption {
  const { publicOptions, privateOptions, mediaType, ciphertextSize, engine = "node" } = request;
  const size = plaintextSize(publicOptions.cipher, ciphertextSize);
  const threads = threadsFor(request.threads, ciphertextSize);
  const open = (header: Uint8Array): ChunkKeys => {
    if (header.length < headerSize)
      throw truncated(`the encrypted layer ends inside its header (got ${header.length} bytes, expected ${headerSize})`);
    const keys = deriveChunkKeys(privateOptions.symkey, header.subarray(0, saltSize), mediaType);
    const stored = header.subarray(saltSize, saltSize + commitmentSize);
    if (!equalBytes(keys.commitment, stored) || !equalBytes(keys.commitment, publicOptions.hmac)) throw commitmentMismatch(mediaType);
    return keys;
  };
  const afterHeader = (header: Uint8Array): TransformPlan => {
    const { key, baseNonce } = open(header);
    return { kind: "open-chunks", engine, key, baseNonce, span: { first: 0, end: "end-of-blob" } };
  };
  return {
    plaintextSize: size,
    passes: 1,
    plan: { headerSize, ciphertextSize, afterHeader, verified: "each-piece" },
    open: async (source, watch) =>
      compose(
        await source(),
        exactly(ciphertextSize),
        afterHead(headerSize, (head) => watched(afterHeader(head), watch, threads)),
      ),
    async openRange(source, range) {
      checkRange(range, size);
      const { key, baseNonce } = open(await readHead(source));
      const first = Math.floor(range.start / plainChunk);
      const lastChunk = Math.floor(size / plainChunk);
      const last = range.end === range.start ? first : Math.floor((range.end - 1) / plainChunk);
      const start = headerSize + first * sealedChunk;
      const end = last === lastChunk ? ciphertextSize : headerSize + (last + 1) * sealedChunk;
      const plan: TransformPlan = {
        kind: "open-chunks",
        engine,
        key,
        baseNonce,
        span: { first, end: last === lastChunk ? "end-of-blob" : "inside" },
      };
      return compose(await source({ start, end }), exactly(end - start), planStage({ plan }), cut(range, first * plainChunk));
    },
  };
}

async function readHead(source: BlobOpener): Promise<Uint8Array> {
  const stream = compose(await source({ start: 0, end: headerSize }), exactly(headerSize));
  const parts: Uint8Array[] = [];
  for await (const chunk of stream) parts.push(chunk as Uint8Array);
  return Buffer.concat(parts, headerSize);
}

function ctrDecryption(request: DecryptionRequest): LayerDecryption {
  const { publicOptions, privateOptions, ciphertextSize: blobSize, engine = "node" } = request;
  const layerKey = privateOptions.symkey;
  const nonce = nonceOf(privateOptions);
  const mac = publicOptions.hmac;
  const size = plaintextSize(publicOptions.cipher, blobSize);
  const threads = threadsFor(request.threads, blobSize);
  const published = segmentTagsOf(publicOptions, blobSize);
  const planFrom = (first: number, tags: Uint8Array, whole?: Uint8Array): TransformPlan => {
    return { kind: "open-segments", engine, layerKey, nonce, tags, blobSize, first, mac: whole };
  };
  let verified: Uint8Array | undefined;
  const verify = async (source: BlobOpener): Promise<Uint8Array> => {
    const hmac = createHmac("sha256", layerKey);
    const tagger = tagSegments(deriveSegmentKey(layerKey, nonce), blobSize);
    for await (const chunk of compose(await source(), exactly(blobSize))) {
      hmac.update(chunk as Uint8Array);
      tagger.update(chunk as Uint8Array);
    }
    if (!equalBytes(hmac.digest(), mac)) throw macMismatch();
    return tagger.finish();
  };
  return {
    plaintextSize: size,
    passes: published === undefined ? 2 : 1,
    plan:
      published === undefined
        ? {
            headerSize: 0,
            ciphertextSize: blobSize,
            afterHeader: () => ({ kind: "open-untagged", engine, layerKey, nonce, mac }),
            verified: "at-end",
          }
        : { headerSize: 0, ciphertextSize: blobSize, afterHeader: () => planFrom(0, published, mac), verified: "each-piece" },
    async open(source, watch) {
      const tags = published ?? (verified ??= await verify(source));
      const plan = planFrom(0, tags, published === undefined ? undefined : mac);
      return compose(await source(), exactly(blobSize), planStage(watched(plan, watch, threads)));
    },
    async openRange(source, range) {
      checkRange(range, size);
      const tags = published ?? (verified ??= await verify(source));
      const length = segmentLength(blobSize);
      const first = Math.floor(range.start / length);
      const start = first * length;
      const end = range.end === range.start ? start : Math.min(blobSize, Math.ceil(range.end / length) * length);
      return compose(await source({ start, end }), exactly(end - start), planStage({ plan: planFrom(first, tags) }), cut(range, start));
    },
  };
}

function watched(plan: TransformPlan, watch: PlaintextWatch | undefined, threads: CipherThreads | undefined): StageRequest {
  if (watch === undefined) return { plan, threads };
  const { algorithm = "sha256", compression } = watch;
  // diff_ids are SHA-256 whatever names the blob.
  const same = compression === "none" && algorithm === "sha256";
  return {
    plan: { ...plan, hashOutput: { algorithm }, uncompress: same ? undefined : compression },
    threads,
    settle({ outputDigest: digest, uncompressed }) {
      if (digest === undefined) throw new InternalError({ message: "a layer was decrypted without the digest that was asked for" });
      watch.check({ digest, uncompressed: same ? digest : uncompressed });
    },
  };
}

/** Takes the first bytes of a blob for itself; what they say decides how the rest is transformed. */
function afterHead(size: number, next: (head: Uint8Array) => StageRequest): ByteStage {
  return async function* (source) {
    const head = Buffer.alloc(size);
    let held = 0;
    const rest = source[Symbol.asyncIterator]();
    let beyond: Uint8Array | undefined;
    try {
      while (held < size) {
        const { done, value } = await rest.next();
        if (done === true) break;
        const taken = Math.min(size - held, value.length);
        head.set(value.subarray(0, taken), held);
        held += taken;
        if (taken < value.length) beyond = value.subarray(taken);
      }
      yield* planStage(next(head.subarray(0, held)))(continued(beyond, rest));
    } finally {
      await rest.return?.();
    }
  };
}

async function* continued(first: Uint8Array | undefined, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (first !== undefined) yield first;
  for (;;) {
    const { done, value } = await rest.next();
    if (done === true) return;
    yield value;
  }
}

/** Ends with `ERR_CIPHER_TRUNCATED` or `ERR_CIPHER_TRAILING_DATA` unless exactly so many bytes come. */
function exactly(expected: number): ByteStage {
  return async function* (source) {
    let size = 0;
    for await (const chunk of source) {
      size += chunk.length;
      if (size > expected) throw trailing(`the encrypted layer goes on after ${expected} bytes, its end`);
      yield chunk;
    }
    if (size < expected) throw truncated(`the encrypted layer ended after ${size} bytes (expected ${expected})`);
  };
}

/** Cuts a range out of plaintext that begins at `offset`. */
function cut(range: ByteRange, offset: number): ByteStage {
  return async function* (source) {
    let at = offset;
    for await (const chunk of source) {
      const piece = chunk.subarray(Math.max(0, range.start - at), Math.max(0, range.end - at));
      at += chunk.length;
      if (piece.length > 0) yield piece;
    }
  };
}

function checkRange(range: ByteRange, size: number): void {
  const { start, end } = range;
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end <= size) return;
  throw new CipherError("ERR_CIPHER_RANGE", {
    message: `the range ${start}-${end} does not lie inside a layer of ${size} bytes`,
    hint: "a range is START-END with END excluded, at most the size of the decrypted layer",
  });
}

function commitmentMismatch(mediaType: string): CipherError {
  return new CipherError("ERR_CIPHER_COMMITMENT_MISMATCH", {
    message: `the unwrapped layer key is not the one that the manifest and the blob commit to, as a layer of type ${mediaType}`,
    hint: "the wrapped key, the blob or the media type was exchanged; fetch the image again, then report its digest to its owner",
  });
}
