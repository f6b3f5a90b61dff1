import { Readable } from "node:stream";
import type { ByteStream } from "../bytes/index.ts";

const pieceSize = 256 * 1024;

/** Bytes in memory as a stream of pieces. */
export function bytesStream(bytes: Uint8Array): ByteStream {
  return Readable.from(pieces(bytes), { objectMode: true, highWaterMark: 4 });
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceSize) yield bytes.subarray(at, at + pieceSize);
}
