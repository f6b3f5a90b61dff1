import { open, type FileHandle } from "node:fs/promises";
import { BytesError, digestAlgorithmOf, newHasher, type ContentAddress } from "../../bytes/index.ts";
import { writeAll } from "./atomic-file.ts";
import type { BlobSource } from "../content-store.ts";
import { checkSignal, ioError } from "../errors.ts";

/** A file that holds what a source would give, for a destination that is a file too. */
export interface LocalFile {
  readonly path: string;
  /** Told when bytes begin to move, and after each piece. */
  readonly onStart: () => void;
  readonly onMoved: (size: number) => void;
  /** Told of a failure to read, or of wrong content: it is not the destination's. */
  readonly onFailure: (error: unknown) => void;
}

const localFile: unique symbol = Symbol("the file that holds a source's content");

/** Says with a source that its content is in a file, unverified. The source itself stays what it is. */
export function withLocalFile(source: BlobSource, file: LocalFile): BlobSource {
  return Object.assign(() => source(), { [localFile]: file });
}

export function localFileOf(source: BlobSource): LocalFile | undefined {
  return localFile in source ? (source[localFile] as LocalFile) : undefined;
}

const pieceSize = 512 * 1024;

/**
 * Copies a file into an open one and verifies what was copied: the next piece is read while one is hashed and written.
 * Streams would allocate and pass on each piece anew, which takes more of the time than the copying.
 *
 * Throws `ERR_CONTENT_TRUNCATED`, `ERR_CONTENT_TRAILING_DATA`, `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_STORE_IO`.
 */
export async function copyLocalFile(
  file: LocalFile,
  to: FileHandle,
  expected: ContentAddress,
  signal: AbortSignal | undefined,
): Promise<void> {
  file.onStart();
  try {
    const from = await open(file.path, "r");
    try {
      await copyPieces(from, to, file, expected, signal);
    } finally {
      await from.close();
    }
  } catch (cause) {
    const error = cause instanceof WriteFailure ? cause.error : ioError(cause, `reading ${expected.digest}`);
    if (!(cause instanceof WriteFailure)) file.onFailure(error);
    throw error;
  }
}

async function copyPieces(
  from: FileHandle,
  to: FileHandle,
  file: LocalFile,
  expected: ContentAddress,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hasher = newHasher(digestAlgorithmOf(expected.digest));
  // One byte more than there should be, to notice a longer file.
  const buffers = [0, 1].map(() => Buffer.allocUnsafe(Math.min(pieceSize, expected.size + 1)));
  let at = 0;
  let turn = 0;
  let piece = await readPiece(from, buffers[0], at);
  while (piece.length > 0) {
    checkSignal(signal);
    at += piece.length;
    if (at > expected.size) throw trailing(expected);
    turn = 1 - turn;
    const next = readPiece(from, buffers[turn], at);
    const written = writeAll(to, piece).catch((cause: unknown) => Promise.reject(new WriteFailure(ioError(cause, "writing a blob"))));
    hasher.update(piece);
    // Both must end before a buffer is used again or a file closed.
    const [read, write] = await Promise.allSettled([next, written]);
    if (write.status === "rejected") throw write.reason;
    if (read.status === "rejected") throw read.reason;
    file.onMoved(piece.length);
    piece = read.value;
  }
  if (at < expected.size) throw truncated(expected, at);
  const got = hasher.digest();
  if (got !== expected.digest) throw mismatch(expected, got);
}

async function readPiece(from: FileHandle, buffer: Buffer | undefined, at: number): Promise<Buffer> {
  if (buffer === undefined) return Buffer.alloc(0);
  const { bytesRead } = await from.read(buffer, 0, buffer.length, at);
  return buffer.subarray(0, bytesRead);
}

/** A failure of the destination, on its way past the source's. */
class WriteFailure extends Error {
  readonly error: Error;

  constructor(error: Error) {
    super(error.message, { cause: error });
    this.error = error;
  }
}

const hint = "the disk or another program changed the file; fetch the image again, then report the digest to its owner";

function truncated({ digest, size }: ContentAddress, got: number): BytesError {
  return new BytesError("ERR_CONTENT_TRUNCATED", {
    message: `content ended early (expected ${size} bytes of ${digest}, got ${got})`,
    hint,
  });
}

function trailing({ digest, size }: ContentAddress): BytesError {
  return new BytesError("ERR_CONTENT_TRAILING_DATA", {
    message: `content is longer than declared (expected ${size} bytes of ${digest})`,
    hint,
  });
}

function mismatch({ digest }: ContentAddress, got: string): BytesError {
  return new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
    message: `content does not match its digest (expected ${digest}, got ${got})`,
    hint,
  });
}
