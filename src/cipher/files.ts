import { createReadStream } from "node:fs";
import { unlink } from "node:fs/promises";
import type { ContentAddress, Digest, DigestAlgorithm } from "../bytes/index.ts";
import type { LayerDecryption } from "./decryption.ts";
import { sizeMismatch, type LayerEncryption } from "./encryption.ts";
import { trailing, truncated } from "./errors.ts";
import { transformFile } from "./file-pieces.ts";
import { localRunner, type PieceRunner, type RunnerPlan } from "./runner.ts";
import { threadsFor, type CipherThreads } from "./threads.ts";
import { uncompressedHasher, type Compression } from "./uncompressed.ts";

const stagedReadSize = 1 << 18;

export interface FileRequest {
  readonly sourcePath: string;
  /** Must not exist; is removed again when anything fails. Made readable for the owner alone. */
  readonly targetPath: string;
  /** Threads for large layers; without them everything runs in the caller's thread. */
  readonly threads?: CipherThreads | undefined;
  /** Which hash names the source, and which the target; SHA-256 when not given. */
  readonly sourceAlgorithm?: DigestAlgorithm | undefined;
  readonly targetAlgorithm?: DigestAlgorithm | undefined;
  /** Told the bytes read of each piece, for progress. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface FileAddresses {
  readonly plaintext: ContentAddress;
  readonly ciphertext: ContentAddress;
}

/**
 * Encrypts a file into another, hashing both. The caller compares the plaintext's digest with what it expected before
 * it uses the target. Throws `ERR_CIPHER_FILE`, `ERR_CIPHER_SIZE_MISMATCH`.
 */
export async function encryptFile(encryption: LayerEncryption, request: FileRequest & { readonly size: number }): Promise<FileAddresses> {
  const { size } = request;
  const { head, transform } = encryption.claim();
  const { source, target, results } = await transformFile({
    ...request,
    sourceSize: size,
    headerSize: 0,
    plan: () => transform,
    start: starter(request.threads, size),
    // The runner of a CTR layer has two MACs to compute already.
    targetHash: transform.kind === "seal-chunks" ? "runner" : "here",
    prefix: head,
    sizeError: (got) => sizeMismatch(size, got),
  });
  encryption.settle(results);
  return { plaintext: source, ciphertext: target };
}

export interface DecryptFileRequest extends FileRequest {
  /** Also hash what the plaintext uncompresses to, for comparison with diff_ids; only verified plaintext is parsed. */
  readonly compression?: Compression | undefined;
}

export interface DecryptedFile extends FileAddresses {
  /** Digest of the uncompressed layer, where it was asked for. */
  readonly uncompressed: Digest | undefined;
}

/**
 * Decrypts a file into another, hashing both. The target is staging: it is removed unless everything verified, and the
 * caller compares the ciphertext's digest with the descriptor's before it uses it. Throws `ERR_CIPHER_*`.
 */
export async function decryptFile(decryption: LayerDecryption, request: DecryptFileRequest): Promise<DecryptedFile> {
  const { compression, targetPath, threads } = request;
  const { headerSize, ciphertextSize: size, afterHeader, verified } = decryption.plan;
  const uncompress = compression === "none" || verified === "at-end" ? undefined : compression;
  const { source, target, results } = await transformFile({
    ...request,
    sourceSize: size,
    headerSize,
    plan: afterHeader,
    start: starter(threads, size),
    uncompress,
    targetHash: "here",
    prefix: new Uint8Array(0),
    sizeError: (got) =>
      got > size
        ? trailing(`the encrypted layer goes on after ${size} bytes, its end`)
        : truncated(`the encrypted layer ended after ${got} bytes (expected ${size})`),
  });
  const later =
    compression === "none"
      ? target.digest
      : verified === "at-end" && compression !== undefined
        ? await hashStaged(targetPath, compression)
        : undefined;
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

function starter(threads: CipherThreads | undefined, size: number): (plan: RunnerPlan) => PieceRunner {
  const chosen = threadsFor(threads, size);
  return chosen === undefined ? localRunner : (plan) => chosen.start(plan);
}
