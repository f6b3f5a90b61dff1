import { open, stat, type FileHandle } from "node:fs/promises";
import { BytesError, digestAlgorithmOf, newHasher, type ByteStream, type ContentAddress } from "../../bytes/index.ts";
import { bytesStream } from "../bytes-stream.ts";
import type { BlobSource } from "../content-store.ts";
import { checkSignal, ioError } from "../errors.ts";
import { isVerifiedFor } from "../verified-stream.ts";
import { ChunkWriter } from "./chunk-writer.ts";
import { discard, readSize } from "./content-file.ts";

/** A source that can also begin in the middle. */
export interface Resumption {
  /** The bytes from `offset` to the end, unverified. */
  readonly openAt: (offset: number) => Promise<ByteStream>;
}

const resumption: unique symbol = Symbol("how a source begins in the middle");

/** Says with a source how to begin in the middle of it. The source itself stays what it is. */
export function withResumption(source: BlobSource, how: Resumption): BlobSource {
  return Object.assign(() => source(), { [resumption]: how });
}

export function resumptionOf(source: BlobSource): Resumption | undefined {
  return resumption in source ? (source[resumption] as Resumption) : undefined;
}

/** Content from this size on is worth keeping a part of. */
export const resumableSize = 8 * 1024 * 1024;
/** A smaller part is not. */
const minPartSize = 1024 * 1024;

export interface ResumableRequest {
  /** The part's file; it may be there. */
  readonly path: string;
  readonly expected: ContentAddress;
  readonly source: BlobSource;
  readonly how: Resumption;
  readonly signal: AbortSignal | undefined;
  /** Forces the whole file to disk, where that is wanted. */
  readonly force: (handle: FileHandle) => Promise<void>;
}

/**
 * Completes a part of content to the whole, and verifies the whole. A part that turns out to be wrong is thrown away
 * and everything fetched; a transfer that breaks leaves its part for the next attempt, also of another process.
 */
export async function completePart(request: ResumableRequest): Promise<void> {
  const outcome = await attempt(request);
  if (outcome === "wrong part") await attempt(request);
}

async function attempt(request: ResumableRequest): Promise<"complete" | "wrong part"> {
  try {
    return await append(request);
  } catch (error) {
    if (isWrong(error) || !(await isWorthKeeping(request.path))) await discard(request.path);
    if (error instanceof WrongPart) return "wrong part";
    throw error;
  }
}

async function isWorthKeeping(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && found.size >= minPartSize;
}

async function append({ path, expected, source, how, signal, force }: ResumableRequest): Promise<"complete"> {
  const handle = await open(path, "a+", 0o644).catch((cause: unknown) => Promise.reject(ioError(cause, "staging a blob")));
  try {
    const hasher = newHasher(digestAlgorithmOf(expected.digest));
    const kept = await hashPart(handle, hasher, expected.digest);
    const stream = kept >= expected.size ? bytesStream(Buffer.alloc(0)) : kept === 0 ? await source() : await how.openAt(kept);
    // A whole that was verified on its way needs no second hash.
    const trusted = kept === 0 && isVerifiedFor(stream, expected);
    let size = kept;
    const writer = new ChunkWriter(handle);
    try {
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        checkSignal(signal);
        size += chunk.length;
        if (size > expected.size) break;
        if (!trusted) hasher.update(chunk);
        await writer.add(chunk);
      }
    } finally {
      // Also of a transfer that broke: what came is kept.
      await writer.finish();
    }
    if (size < expected.size) throw truncated(expected, size);
    const wrong =
      size > expected.size ? trailing(expected) : trusted || hasher.digest() === expected.digest ? undefined : mismatch(expected);
    if (wrong !== undefined) throw kept > 0 ? new WrongPart(wrong) : wrong;
    await force(handle).catch((cause: unknown) => Promise.reject(ioError(cause, `forcing ${expected.digest} to disk`)));
    return "complete";
  } finally {
    await handle.close();
  }
}

async function hashPart(handle: FileHandle, hasher: { update(chunk: Uint8Array): void }, digest: string): Promise<number> {
  const buffer = Buffer.allocUnsafe(readSize);
  let size = 0;
  for (;;) {
    const { bytesRead } = await handle
      .read(buffer, 0, readSize, size)
      .catch((cause: unknown) => Promise.reject(ioError(cause, `reading the part of ${digest}`)));
    if (bytesRead === 0) return size;
    hasher.update(buffer.subarray(0, bytesRead));
    size += bytesRead;
  }
}

/** What was kept does not go together with the rest; the source need not be at fault. */
class WrongPart extends Error {
  constructor(reason: BytesError) {
    super(reason.message, { cause: reason });
  }
}

/** Content that is too short may have broken off and is kept; what is wrong is not. */
function isWrong(error: unknown): boolean {
  if (error instanceof WrongPart) return true;
  return error instanceof BytesError && (error.code === "ERR_CONTENT_DIGEST_MISMATCH" || error.code === "ERR_CONTENT_TRAILING_DATA");
}

const hint = "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner";

function truncated({ digest, size }: ContentAddress, got: number): BytesError {
  return new BytesError("ERR_CONTENT_TRUNCATED", {
    message: `content ended early (expected ${size} bytes of ${digest}, got ${got})`,
    hint: "the transfer broke; run the command again, it goes on from here",
  });
}

function trailing({ digest, size }: ContentAddress): BytesError {
  return new BytesError("ERR_CONTENT_TRAILING_DATA", {
    message: `content is longer than declared (expected ${size} bytes of ${digest})`,
    hint,
  });
}

function mismatch({ digest }: ContentAddress): BytesError {
  return new BytesError("ERR_CONTENT_DIGEST_MISMATCH", { message: `content does not match its digest ${digest}`, hint });
}
