import type { GcmKey } from "./engine.ts";
import { damaged, truncated } from "./errors.ts";
import { chunkNonces } from "./kdf.ts";
import { chunkLayout } from "./sizes.ts";
import type { BlockTransform, TransformShape } from "./transform.ts";

const { plainChunk, sealedChunk, tagSize } = chunkLayout;

export const sealChunksShape: TransformShape = {
  unit: plainChunk,
  outputSize: (length) => (Math.floor(length / plainChunk) + 1) * tagSize + length,
};

export const openChunksShape: TransformShape = { unit: sealedChunk, outputSize: (length) => length };

/** Encrypts chunks from index 0 on; the header is not part of it. Source: c2sp.org/chunked-encryption@v1, "Encryption". */
export function sealChunks(key: GcmKey, baseNonce: Uint8Array): BlockTransform {
  const nonceOf = chunkNonces(baseNonce);
  let index = 0;
  const seal = (plain: Uint8Array, out: Uint8Array) => {
    key.seal(nonceOf(index), plain, out);
    index += 1;
  };
  const whole = (input: Uint8Array, out: Uint8Array) => {
    const chunks = input.length / plainChunk;
    for (let i = 0; i < chunks; i += 1) {
      seal(input.subarray(i * plainChunk, (i + 1) * plainChunk), out.subarray(i * sealedChunk, (i + 1) * sealedChunk));
    }
    return chunks * sealedChunk;
  };
  return {
    ...sealChunksShape,
    transform: whole,
    finish(input, out) {
      const full = input.length - (input.length % plainChunk);
      const written = whole(input.subarray(0, full), out);
      // Always there, though often empty: the short chunk is what tells the end from a cut.
      seal(input.subarray(full), out.subarray(written));
      return written + input.length - full + tagSize;
    },
  };
}

/** What a reader of chunks expects to stand where. */
export interface ChunkSpan {
  /** Index of the first chunk that comes. */
  readonly first: number;
  /** What comes last: the short chunk that ends every blob, or, in a range read, a full chunk inside it. */
  readonly end: "end-of-blob" | "inside";
}

/** Decrypts chunks; each is written out only after its tag was checked. Positions come from the count alone. */
export function openChunks(key: GcmKey, baseNonce: Uint8Array, span: ChunkSpan): BlockTransform {
  const nonceOf = chunkNonces(baseNonce);
  let index = span.first;
  const open = (sealed: Uint8Array, out: Uint8Array) => {
    if (key.open(nonceOf(index), sealed, out) === "does-not-verify") throw damaged("ERR_CIPHER_CHUNK_DAMAGED", index);
    index += 1;
  };
  const whole = (input: Uint8Array, out: Uint8Array) => {
    const chunks = input.length / sealedChunk;
    for (let i = 0; i < chunks; i += 1) {
      open(input.subarray(i * sealedChunk, (i + 1) * sealedChunk), out.subarray(i * plainChunk, (i + 1) * plainChunk));
    }
    return chunks * plainChunk;
  };
  return {
    ...openChunksShape,
    transform: whole,
    finish(input, out) {
      const full = input.length - (input.length % sealedChunk);
      const written = whole(input.subarray(0, full), out);
      const last = input.subarray(full);
      if (last.length === 0 && span.end === "inside") return written;
      if (last.length < tagSize)
        throw truncated(`the encrypted layer ends inside or before chunk ${index}, its last (got ${last.length} bytes of it)`);
      open(last, out.subarray(written));
      return written + last.length - tagSize;
    },
  };
}
