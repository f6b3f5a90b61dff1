import { closeStream, type ByteStream } from "../bytes/index.ts";

/** Where the pieces of a transform come from. */
export interface PieceSource {
  /** Fills the whole of `into`, less only at the end; returns the bytes written. */
  read(into: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** A stream of bytes; it is read to its end or destroyed. */
export function streamSource(stream: ByteStream): PieceSource {
  const chunks = (stream as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array(0);
  return {
    async read(into) {
      let filled = 0;
      while (filled < into.length) {
        if (rest.length === 0) {
          const { done, value } = await chunks.next();
          if (done === true) break;
          rest = value;
          continue;
        }
        const part = rest.subarray(0, into.length - filled);
        into.set(part, filled);
        filled += part.length;
        rest = rest.subarray(part.length);
      }
      return filled;
    },
    async close() {
      await chunks.return?.();
      await closeStream(stream);
    },
  };
}
