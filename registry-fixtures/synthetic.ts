import { createCipheriv } from "node:crypto";
import { Readable } from "node:stream";
import { newHasher, type ByteStream, type ContentAddress } from "../src/bytes/index.ts";
import type { BlobSource } from "../src/store/index.ts";

const chunkSize = 1024 * 1024;

/** Bytes that look random and are the same for the same seed: AES-128-CTR over zeros. At most one chunk is in memory. */
export function randomStream(seed: number, size: number): ByteStream {
  return Readable.from(randomChunks(seed, size), { objectMode: false });
}

/** Small random content. */
export function randomBytes(seed: number, size: number): Buffer {
  const [, cipher] = newGenerator(seed);
  return cipher.update(Buffer.alloc(size));
}

/** A blob of any size that nobody has to hold, and its address. */
export async function syntheticBlob(
  seed: number,
  size: number,
): Promise<{ readonly address: ContentAddress; readonly source: BlobSource }> {
  const hasher = newHasher();
  for await (const chunk of randomChunks(seed, size)) hasher.update(chunk);
  return { address: { digest: hasher.digest(), size }, source: async () => randomStream(seed, size) };
}

async function* randomChunks(seed: number, size: number): AsyncGenerator<Buffer> {
  const [zeros, cipher] = newGenerator(seed);
  for (let at = 0; at < size; at += chunkSize) yield cipher.update(zeros.subarray(0, Math.min(chunkSize, size - at)));
}

function newGenerator(seed: number): [Buffer, ReturnType<typeof createCipheriv>] {
  const key = Buffer.alloc(16);
  key.writeDoubleLE(seed);
  return [Buffer.alloc(chunkSize), createCipheriv("aes-128-ctr", key, Buffer.alloc(16))];
}
