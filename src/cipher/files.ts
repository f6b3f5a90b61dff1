import { createReadStream } from "node:fs";
import { unlink } from "node:fs/promises";
import type { ByteStream, ContentAddress, Digest, DigestAlgorithm } from "../bytes/index.ts";
import type { LayerDecryption } from "./decryption.ts";
import { hashedByRunner, sizeMismatch, type LayerEncryption } from "./encryption.ts";
import { trailing, truncated } from "./errors.ts";
import { fileSink, fileSource } from "./piece-files.ts";
import { pump } from "./piece-pump.ts";
import { StreamSink, type PieceSink } from "./piece-sink.ts";
import { streamSource, type PieceSource } from "./piece-source.ts";
import { localRunner, type PieceRunner, type RunnerPlan } from "./runner.ts";
import { threadsFor, type CipherThreads } from "./threads.ts";
import { uncompressedHasher, type Compression } from "./uncompressed.ts";

const stagedReadSize = 1 << 18;

/** A file, hashed here; or a stream that is verified already: it fails instead of ending when its digest is wrong. */
export type LayerSource = { readonly path: string } | { readonly verified: ByteStream };

export interface LayerWorkRequest {
  readonly source: LayerSource;
  /** Threads for large layers; without them everything runs in the caller's thread. */
  readonly threads?: CipherThreads | undefined;
  /** Which hash names the source, and which the target; SHA-256 when not given. */
  readonly sourceAlgorithm?: DigestAlgorithm | undefined;
  readonly targetAlgorithm?: DigestAlgorithm | undefined;
  /** Told the bytes read of each piece, for progress. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FileRequest extends LayerWorkRequest {
  /** Must not exist; is removed again when anything fails. Made readable for the owner alone. */
  readonly targetPath: string;
}

export interface EncryptedContent {
  /** For comparison with what was expected, before the target is used; of a verified stream there is none. */
  readonly plaintext: ContentAddress | undefined;
  readonly ciphertext: ContentAddress;
}

/** Encrypts into a file, hashing both sides. Throws `ERR_CIPHER_FILE`, `ERR_CIPHER_SIZE_MISMATCH`, and what the source throws. */
export async function encryptToFile(
  encryption: LayerEncryption,
  request: FileRequest & { readonly size: number },
): Promise<EncryptedContent> {
  return intoFile(request, (source, sink) => encrypt(encryption, request, source, sink));
}

/**
 * Encrypts into a stream, for whoever sends it on. Before its last piece `check` is told what was read and written; what it
 * throws ends the stream instead, as do `ERR_CIPHER_FILE`, `ERR_CIPHER_SIZE_MISMATCH` and what the source throws.
 */
export function encryptToStream(
  encryption: LayerEncryption,
  request: LayerWorkRequest & { readonly size: number; readonly check: (content: EncryptedContent) => void },
): ByteStream {
  const sink = new StreamSink();
  const work = async (): Promise<void> => {
    const source = openSource(request.source);
    try {
      request.check(await encrypt(encryption, request, source, sink));
      await sink.finish();
    } finally {
      await source.close();
    }
  };
  work().catch((cause: unknown) => sink.fail(cause));
  return sink.stream;
}

async function encrypt(
  encryption: LayerEncryption,
  request: LayerWorkRequest & { readonly size: number },
  source: PieceSource,
  sink: PieceSink,
): Promise<EncryptedContent> {
  const { size } = request;
  const { head, transform } = encryption.claim();
  const found = await pump({
    ...request,
    source,
    sink,
    sourceSize: size,
    headerSize: 0,
    plan: () => transform,
    start: starter(request.threads, size),
    sourceHash: hashOf(request),
    targetHash: hashedByRunner(transform) ? "runner" : "here",
    prefix: head,
    sizeError: (got) => sizeMismatch(size, got),
  });
  encryption.settle(found.results);
  return { plaintext: found.source, ciphertext: found.target };
}

export interface DecryptRequest extends FileRequest {
  /** Also hash what the plaintext uncompresses to, for comparison with diff_ids; only verified plaintext is parsed. */
  readonly compression?: Compression | undefined;
}

export interface DecryptedContent {
  readonly plaintext: ContentAddress;
  /** For comparison with what was expected, before the target is used; of a verified stream there is none. */
  readonly ciphertext: ContentAddress | undefined;
  /** Digest of the uncompressed layer, where it was asked for. */
  readonly uncompressed: Digest | undefined;
}

/** Decrypts into a file, hashing both sides. The target is staging: it is removed unless everything verified. Throws `ERR_CIPHER_*`. */
export async function decryptToFile(decryption: LayerDecryption, request: DecryptRequest): Promise<DecryptedContent> {
  const { compression, targetPath, threads, targetAlgorithm = "sha256" } = request;
  const { headerSize, ciphertextSize: size, afterHeader, verified } = decryption.plan;
  // diff_ids are SHA-256 whatever names the blob.
  const same = compression === "none" && targetAlgorithm === "sha256";
  const onTheWay = verified === "each-piece" && !same;
  const { source, target, results } = await intoFile(request, (from, sink) =>
    pump({
      ...request,
      source: from,
      sink,
      sourceSize: size,
      headerSize,
      plan: afterHeader,
      start: starter(threads, size),
      uncompress: onTheWay ? compression : undefined,
      sourceHash: hashOf(request),
      // This thread hashes one side: a verified stream is hashed in it already.
      targetHash: "path" in request.source ? "here" : "runner",
      prefix: new Uint8Array(0),
      sizeError: (got) =>
        got > size
          ? trailing(`the encrypted layer goes on after ${size} bytes, its end`)
          : truncated(`the encrypted layer ended after ${got} bytes (expected ${size})`),
    }),
  );
  const later = same ? target.digest : compression === undefined || onTheWay ? undefined : await hashStaged(targetPath, compression);
  return { plaintext: target, ciphertext: source, uncompressed: results.uncompressed ?? later };
}

/** Hashes what a staged, verified layer uncompresses to; removes it when it does not. */
async function hashStaged(path: string, compression: Compression): Promise<Digest> {
  try {
    const hasher = uncompressedHasher(compression);
    for await (const chunk of createReadStream(path, { highWaterMark: stagedReadSize })) await hasher.update(chunk as Buffer);
    return await hasher.digest();
  } catch (cause) {
    await unlink(path);
    throw cause;
  }
}

/** Runs what fills the target; takes the target back when it fails. */
async function intoFile<Result>(request: FileRequest, work: (source: PieceSource, sink: PieceSink) => Promise<Result>): Promise<Result> {
  const source = openSource(request.source);
  try {
    const sink = fileSink(request.targetPath);
    try {
      const result = await work(source, sink);
      await sink.finish();
      return result;
    } catch (cause) {
      await sink.discard();
      throw cause;
    }
  } finally {
    await source.close();
  }
}

function openSource(source: LayerSource): PieceSource {
  return "path" in source ? fileSource(source.path) : streamSource(source.verified);
}

function hashOf({ source, sourceAlgorithm = "sha256" }: LayerWorkRequest): DigestAlgorithm | "by-source" {
  return "path" in source ? sourceAlgorithm : "by-source";
}

function starter(threads: CipherThreads | undefined, size: number): (plan: RunnerPlan) => PieceRunner {
  const chosen = threadsFor(threads, size);
  return chosen === undefined ? localRunner : (plan) => chosen.start(plan);
}
