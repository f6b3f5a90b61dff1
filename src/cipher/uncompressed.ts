import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from "node:zlib";
import { newHasher, type Digest } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { CipherError } from "./errors.ts";
import { ZstdFrameSplitter } from "./zstd-frames.ts";

/** How a layer's tar is stored. */
export type Compression = "none" | "gzip" | "zstd";

/** Takes a layer piece by piece and gives the digest of its tar, which the image's diff_ids name. */
export interface UncompressedHasher {
  /** Settles when the piece is no longer needed. */
  update(piece: Uint8Array): Promise<void>;
  digest(): Promise<Digest>;
}

/** deflate expands at most 1032 to 1, and no real layer does more; below the minimum nobody minds. */
const maxRatio = 1100;
const minBombSize = 64 << 20;

/** The largest window that Node.js decodes unless told otherwise. */
const maxZstdWindow = 128 << 20;

/** Size of the pieces that come out of a decompressor. */
const outputSize = 1 << 18;

/**
 * Hashes what a layer uncompresses to; keeps none of it. Throws `ERR_CIPHER_UNCOMPRESS`. Give it verified plaintext
 * only: a decompressor is a parser.
 */
export function uncompressedHasher(compression: Compression): UncompressedHasher {
  const hasher = newHasher();
  if (compression === "none") {
    return { update: async (piece) => hasher.update(piece), digest: async () => hasher.digest() };
  }
  const stream: Gunzip | ZstdDecompress =
    compression === "gzip" ? createGunzip({ chunkSize: outputSize }) : createZstdDecompress({ chunkSize: outputSize });
  let input = 0;
  let output = 0;
  stream.on("data", (chunk: Buffer) => {
    hasher.update(chunk);
    output += chunk.length;
    if (output > minBombSize + maxRatio * input) stream.destroy(new RangeError("it uncompresses to more than any real layer does"));
  });
  // A decompressor that fails does not call back the write under way: whoever waits for it is told here.
  let failure: CipherError | undefined;
  const waiting = new Set<(cause: CipherError) => void>();
  const ended = new Promise<void>((resolve, reject) => {
    stream.once("end", resolve);
    stream.once("error", (cause) => {
      failure = broken(compression, cause);
      for (const fail of waiting) fail(failure);
      reject(failure);
    });
  });
  ended.catch(() => undefined);
  const write = (piece: Uint8Array) =>
    new Promise<void>((resolve, reject) => {
      if (failure !== undefined) {
        reject(failure);
        return;
      }
      input += piece.length;
      waiting.add(reject);
      stream.write(piece, (cause) => {
        waiting.delete(reject);
        if (cause) reject(failure ?? broken(compression, cause));
        else resolve();
      });
    });
  const frames = compression === "zstd" ? newSplitter() : undefined;
  return {
    async update(piece) {
      if (frames === undefined) await write(piece);
      else for (const part of frames.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength))) await write(part);
    },
    async digest() {
      frames?.end();
      stream.end();
      await ended;
      // At a zero byte behind a member of gzip Node.js ends without a word.
      if (stream.bytesWritten !== input) throw broken(compression, new RangeError("something follows its end"));
      return hasher.digest();
    },
  };
}

function newSplitter(): ZstdFrameSplitter {
  const refused = (why: string) => broken("zstd", new RangeError(why));
  return new ZstdFrameSplitter(maxZstdWindow, {
    malformed: refused,
    window: (bytes) => refused(`a frame wants a window of ${bytes} bytes, more than ${maxZstdWindow}`),
  });
}

function broken(compression: Compression, cause: unknown): CipherError {
  return new CipherError("ERR_CIPHER_UNCOMPRESS", {
    message: `the decrypted layer is not valid ${compression}: ${describeCause(cause)}`,
    hint: "the layer was damaged before it was encrypted, or its media type is wrong; ask the image's owner",
    cause,
  });
}
