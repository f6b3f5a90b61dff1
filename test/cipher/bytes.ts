import type { BlobOpener } from "../../src/cipher/index.ts";
import { Readable } from "node:stream";

/** Bytes in pieces of a size, as a source of stages. */
export async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Everything that comes, as one. */
export async function read(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A blob in memory that counts what is read of it. */
export function openerOf(blob: Uint8Array, size = 65536): BlobOpener & { readonly log: { start: number; end: number }[] } {
  const log: { start: number; end: number }[] = [];
  const open: BlobOpener = async (range = { start: 0, end: blob.length }) => {
    log.push({ start: range.start, end: range.end });
    return Readable.from(chunksOf(blob.subarray(range.start, range.end), size), { objectMode: false });
  };
  return Object.assign(open, { log });
}
