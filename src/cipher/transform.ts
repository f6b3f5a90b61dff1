import type { ByteStage } from "../bytes/index.ts";

/** How the input of a transform is cut, and how much comes out. */
export interface TransformShape {
  /** Bytes of input that belong together. */
  readonly unit: number;
  /** The most bytes that `length` bytes of input can give. */
  readonly outputSize: (length: number) => number;
}

/**
 * A cipher's work on one piece after the other; synchronous, so that it runs equally inside a stage and inside a
 * worker thread. Pieces before the last are whole multiples of `unit`; the last is whatever remains, often nothing.
 *
 * What `transform` and `finish` write may leave the process: an opening transform writes only verified plaintext.
 */
export interface BlockTransform extends TransformShape {
  /** Works on `input.length` bytes, a multiple of `unit`; returns the bytes written to `out`. */
  transform(input: Uint8Array, out: Uint8Array): number;
  /** Works on the last piece, of any length; returns the bytes written to `out`. */
  finish(input: Uint8Array, out: Uint8Array): number;
}

/** The most input that one piece holds: small enough that a piece stays in the cache between the stages of a chain. */
const maxPiece = 1 << 18;

/** Runs a transform in this thread. Pieces that span chunks are copied; whole ones are worked on where they are. */
export function transformStage(transform: BlockTransform): ByteStage {
  return async function* (source) {
    const { unit } = transform;
    const pending = new Uint8Array(unit);
    let held = 0;
    const step = Math.max(unit, maxPiece - (maxPiece % unit));
    for await (const chunk of source) {
      let start = 0;
      if (held > 0) {
        start = Math.min(unit - held, chunk.length);
        pending.set(chunk.subarray(0, start), held);
        held += start;
        if (held < unit) continue;
        held = 0;
        const out = Buffer.allocUnsafeSlow(transform.outputSize(unit));
        yield* nonEmpty(out.subarray(0, transform.transform(pending, out)));
      }
      const end = chunk.length - ((chunk.length - start) % unit);
      for (let at = start; at < end; at += step) {
        const piece = chunk.subarray(at, Math.min(at + step, end));
        const out = Buffer.allocUnsafeSlow(transform.outputSize(piece.length));
        yield* nonEmpty(out.subarray(0, transform.transform(piece, out)));
      }
      pending.set(chunk.subarray(end));
      held = chunk.length - end;
    }
    const last = pending.subarray(0, held);
    const out = Buffer.allocUnsafeSlow(transform.outputSize(held));
    yield* nonEmpty(out.subarray(0, transform.finish(last, out)));
  };
}

function* nonEmpty(chunk: Uint8Array): Generator<Uint8Array> {
  if (chunk.length > 0) yield chunk;
}
