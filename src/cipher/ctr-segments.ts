import { createHmac, createSecretKey, type Hmac, type KeyObject } from "node:crypto";
import { equalBytes } from "../bytes/index.ts";
import type { CtrStream } from "./engine.ts";
import { CipherError, damaged } from "./errors.ts";
import { segmentCount, segmentLength } from "./sizes.ts";
import type { BlockTransform, TransformShape } from "./transform.ts";

/** Bytes of a segment tag: HMAC-SHA-256 cut to 16. */
export const segmentTagSize = 16;

/** Bytes that go through cipher and MACs at once; whole AES blocks. */
const sealStep = 1 << 14;

/** AES blocks: pieces before the last keep the counter aligned. */
const blockSize = 16;

export const ctrShape: TransformShape = { unit: blockSize, outputSize: (length) => length };

export function segmentShape(blobSize: number): TransformShape {
  return { unit: segmentLength(blobSize), outputSize: (length) => length };
}

/** Computes the tags of a blob's segments while it passes in pieces of any size. */
export interface SegmentTagger {
  update(ciphertext: Uint8Array): void;
  /** All tags, one after the other. */
  finish(): Uint8Array;
}

/**
 * Tag i is HMAC-SHA-256(segment key, u64 i, u64 blob size, u32 segment length, segment) cut to 16 bytes, numbers
 * big-endian. Stock ocicrypt ignores the tags; a reader that knows them verifies and seeks segment by segment.
 */
export function tagSegments(segmentKey: Uint8Array, blobSize: number): SegmentTagger {
  const key = createSecretKey(segmentKey);
  const length = segmentLength(blobSize);
  const tags = Buffer.alloc(segmentCount(blobSize) * segmentTagSize);
  let index = 0;
  let filled = 0;
  let mac: Hmac | undefined;
  const close = () => {
    if (mac === undefined) return;
    mac.digest().copy(tags, index * segmentTagSize, 0, segmentTagSize);
    mac = undefined;
    index += 1;
    filled = 0;
  };
  return {
    update(ciphertext) {
      for (let at = 0; at < ciphertext.length;) {
        mac ??= startTag(key, index, blobSize, length);
        const piece = ciphertext.subarray(at, at + length - filled);
        mac.update(piece);
        filled += piece.length;
        at += piece.length;
        if (filled === length) close();
      }
    },
    finish() {
      close();
      return tags;
    },
  };
}

function startTag(key: KeyObject, index: number, blobSize: number, length: number): Hmac {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(BigInt(index), 0);
  head.writeBigUInt64BE(BigInt(blobSize), 8);
  head.writeUInt32BE(length, 16);
  return createHmac("sha256", key).update(head);
}

/** What an encrypting CTR transform knows at its end. */
export interface CtrSealing extends BlockTransform {
  /** HMAC-SHA-256 of the ciphertext, and the segment tags where the size was known beforehand. After `finish`. */
  readonly results: () => { readonly mac: Uint8Array; readonly tags: Uint8Array | undefined };
}

/** Encrypts and MACs. Source: ocicrypt blockcipher_aes_ctr.go: HMAC-SHA-256 with the layer key over the ciphertext only. */
export function sealCtr(layerKey: Uint8Array, stream: CtrStream, tagger: SegmentTagger | undefined): CtrSealing {
  const mac = createHmac("sha256", layerKey);
  let results: { mac: Uint8Array; tags: Uint8Array | undefined } | undefined;
  const transform = (input: Uint8Array, out: Uint8Array) => {
    // In steps: each is still in the nearest cache when the MACs read it, and small enough that nothing asks the kernel for memory.
    for (let at = 0; at < input.length; at += sealStep) {
      const piece = input.subarray(at, at + sealStep);
      const written = out.subarray(at, at + piece.length);
      stream.apply(piece, written);
      mac.update(written);
      tagger?.update(written);
    }
    return input.length;
  };
  return {
    ...ctrShape,
    transform,
    finish(input, out) {
      const written = transform(input, out);
      results = { mac: mac.digest(), tags: tagger?.finish() };
      return written;
    },
    results() {
      if (results === undefined) throw new TypeError("the layer has not been encrypted to its end");
      return results;
    },
  };
}

/** Where a segment-wise reader stands. */
export interface SegmentSpan {
  readonly blobSize: number;
  /** Index of the first segment that comes. */
  readonly first: number;
  /** The MAC of the whole blob, checked at the end of a reading from segment 0 to the last. */
  readonly mac?: Uint8Array | undefined;
}

/** Decrypts segments; each is written out only after its tag was checked. */
export function openSegments(
  keys: { readonly layerKey: Uint8Array; readonly segmentKey: Uint8Array },
  stream: CtrStream,
  tags: Uint8Array,
  span: SegmentSpan,
): BlockTransform {
  const key = createSecretKey(keys.segmentKey);
  const length = segmentLength(span.blobSize);
  const mac = span.mac === undefined ? undefined : createHmac("sha256", keys.layerKey);
  let index = span.first;
  const open = (segment: Uint8Array, out: Uint8Array) => {
    const tag = startTag(key, index, span.blobSize, length).update(segment).digest().subarray(0, segmentTagSize);
    const expected = tags.subarray(index * segmentTagSize, (index + 1) * segmentTagSize);
    if (!equalBytes(tag, expected)) throw damaged("ERR_CIPHER_SEGMENT_DAMAGED", index);
    mac?.update(segment);
    index += 1;
    stream.apply(segment, out.subarray(0, segment.length));
  };
  const whole = (input: Uint8Array, out: Uint8Array) => {
    for (let at = 0; at < input.length; at += length) open(input.subarray(at, at + length), out.subarray(at));
    return input.length;
  };
  return {
    ...segmentShape(span.blobSize),
    transform: whole,
    finish(input, out) {
      const written = whole(input, out);
      if (mac !== undefined && span.mac !== undefined && !equalBytes(mac.digest(), span.mac)) {
        out.fill(0, 0, written);
        throw macMismatch();
      }
      return written;
    },
  };
}

/**
 * Decrypts before the one MAC of a whole blob is checked; ends with `ERR_CIPHER_MAC_MISMATCH`. Only for output that
 * stays in staging, where nobody reads it, until the end.
 */
export function openUntagged(layerKey: Uint8Array, stream: CtrStream, expected: Uint8Array): BlockTransform {
  const mac = createHmac("sha256", layerKey);
  const transform = (input: Uint8Array, out: Uint8Array) => {
    mac.update(input);
    stream.apply(input, out);
    return input.length;
  };
  return {
    ...ctrShape,
    transform,
    finish(input, out) {
      const written = transform(input, out);
      if (!equalBytes(mac.digest(), expected)) throw macMismatch();
      return written;
    },
  };
}

export function macMismatch(): CipherError {
  return new CipherError("ERR_CIPHER_MAC_MISMATCH", {
    message: "the encrypted layer does not match its HMAC (expected the value in the public options, got another)",
    hint: "the blob, the public options or the wrapped key were changed; fetch the image again, then report its digest to its owner",
  });
}
