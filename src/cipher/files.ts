import { createReadStream } from "node:fs";
import { unlink } from "node:fs/promises";
import type { ByteStream, ContentAddress, Digest, DigestAlgorithm } from "../bytes/index.ts";
import type { LayerDecryption } from "./decryption.ts";
import { hashedByRunner, type LayerEncryption } from "./encryption.ts";
import { fileSource, intoFile } from "./piece-files.ts";
import { pump, type PumpRequest, type PumpResult } from "./piece-pump.ts";
import { StreamSink, type PieceSink } from "./piece-sink.ts";
import { streamSource, type PieceSource } from "./piece-source.ts";
import { localRunner } from "./runner.ts";
import { threadsApart, threadsFor, type CipherThreads } from "./threads.ts";
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
  const { size } = request;
  const apart = threadsApart(request.threads, size);
  if (apart === undefined || !("path" in request.source))
    return intoFile({ open: () => openSource(request.source), targetPath: request.targetPath }, (source, sink) =>
      encrypt(encryption, request, source, sink),
    );
  const { head: prefix, transform: plan } = encryption.claim();
  const work = { ...fileWork(request, request.source.path), direction: "seal", sourceSize: size, headerSize: 0, plan, prefix } as const;
  const { source, target, results } = await apart.file({ ...work, uncompress: undefined }, request);
  encryption.settle(results);
  return { plaintext: source, ciphertext: target };
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
    ...runnerFor(request.threads, size),
    sourceHash: hashOf(request),
    targetHash: hashedByRunner(transform) ? "runner" : "here",
    prefix: head,
    direction: "seal",
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
  const { compression, targetPath, targetAlgorithm = "sha256" } = request;
  // diff_ids are SHA-256 whatever names the blob.
  const same = compression === "none" && targetAlgorithm === "sha256";
  const onTheWay = decryption.plan.verified === "each-piece" && !same;
  const { source, target, results } = await decrypt(decryption, request, onTheWay ? compression : undefined);
  const later = same ? target.digest : compression === undefined || onTheWay ? undefined : await hashStaged(targetPath, compression);
  return { plaintext: target, ciphertext: source, uncompressed: results.uncompressed ?? later };
}

async function decrypt(decryption: LayerDecryption, request: FileRequest, uncompress: Compression | undefined): Promise<PumpResult> {
  const { source, targetPath, threads } = request;
  const { headerSize, ciphertextSize: size, afterHeader } = decryption.plan;
  const common = { sourceSize: size, headerSize, uncompress, prefix: new Uint8Array(0), direction: "open" } as const;
  const apart = threadsApart(threads, size);
  if (apart !== undefined && "path" in source) {
    const plan = afterHeader(await headOf(source.path, headerSize));
    return apart.file({ ...fileWork(request, source.path), ...common, plan }, request);
  }
  return intoFile({ open: () => openSource(source), targetPath }, (from, sink) =>
    pump({
      ...request,
      ...common,
      source: from,
      sink,
      plan: afterHeader,
      ...runnerFor(threads, size),
      sourceHash: hashOf(request),
      // This thread hashes one side: a verified stream is hashed in it already.
      targetHash: "path" in source ? "here" : "runner",
    }),
  );
}

/** The first bytes of a file; what the thread reads of them later is hashed with all the rest. */
async function headOf(path: string, size: number): Promise<Uint8Array> {
  const source = fileSource(path);
  try {
    const head = new Uint8Array(size);
    return head.subarray(0, await source.read(head));
  } finally {
    await source.close();
  }
}

function fileWork({ targetPath, sourceAlgorithm = "sha256", targetAlgorithm = "sha256" }: FileRequest, sourcePath: string) {
  return { sourcePath, targetPath, sourceHash: sourceAlgorithm, targetAlgorithm };
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

function openSource(source: LayerSource): PieceSource {
  return "path" in source ? fileSource(source.path) : streamSource(source.verified);
}

function hashOf({ source, sourceAlgorithm = "sha256" }: LayerWorkRequest): DigestAlgorithm | "by-source" {
  return "path" in source ? sourceAlgorithm : "by-source";
}

function runnerFor(threads: CipherThreads | undefined, size: number): Pick<PumpRequest, "start" | "depth" | "writer"> {
  const chosen = threadsFor(threads, size);
  if (chosen === undefined) return { start: localRunner, depth: 2, writer: "here" };
  return { start: (plan) => chosen.start(plan), depth: 6, writer: "either" };
}
