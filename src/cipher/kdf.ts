import { createHmac } from "node:crypto";
import { chunkLayout } from "./sizes.ts";

/** What the KDF of one chunked-GCM blob gives. */
export interface ChunkKeys {
  readonly key: Uint8Array;
  readonly baseNonce: Uint8Array;
  readonly commitment: Uint8Array;
}

/**
 * Key (32), base nonce (12) and commitment (32) of a blob.
 *
 * HKDF-Expand-SHA-512 with the layer key as pseudo-random key and, as info, the version label, the AEAD's name, a zero
 * byte, the salt and the context; the context binds the plaintext's media type, so a relabelled layer does not open.
 * `node:crypto`'s hkdf extracts first, so the two blocks of Expand are written out.
 * Source: c2sp.org/chunked-encryption@v1, "Key derivation"; RFC 5869 section 2.3.
 */
export function deriveChunkKeys(layerKey: Uint8Array, salt: Uint8Array, mediaType: string): ChunkKeys {
  const info = Buffer.concat([
    Buffer.from("c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0", "ascii"),
    salt,
    Buffer.from(`oci-encrypted-layer/v1\0${mediaType}`, "utf8"),
  ]);
  return expandChunkKeys(layerKey, info);
}

/** The Expand step for any info; apart so that the published vectors, which have their own contexts, can be run. */
export function expandChunkKeys(layerKey: Uint8Array, info: Uint8Array): ChunkKeys {
  const first = createHmac("sha512", layerKey).update(info).update(Buffer.of(1)).digest();
  const second = createHmac("sha512", layerKey).update(first).update(info).update(Buffer.of(2)).digest();
  const output = Buffer.concat([first, second], 76);
  return { key: output.subarray(0, 32), baseNonce: output.subarray(32, 44), commitment: output.subarray(44, 76) };
}

/**
 * The nonces of a blob's chunks: the base nonce XOR the chunk's index as a 96-bit big-endian number. The result is
 * valid until the next call; one buffer serves all chunks. Source: as above, "Encryption".
 */
export function chunkNonces(baseNonce: Uint8Array): (index: number) => Uint8Array {
  const nonce = new Uint8Array(baseNonce);
  const view = new DataView(nonce.buffer);
  const [high, low] = [view.getUint32(4), view.getUint32(8)];
  return (index) => {
    view.setUint32(4, (high ^ Math.floor(index / 2 ** 32)) >>> 0);
    view.setUint32(8, (low ^ (index % 2 ** 32)) >>> 0);
    return nonce;
  };
}

/** The key of the segment tags of a CTR blob: one block of HKDF-Expand-SHA-256 over a label and the nonce. */
export function deriveSegmentKey(layerKey: Uint8Array, nonce: Uint8Array): Buffer {
  return createHmac("sha256", layerKey).update("oci-enc/segtag/v1").update(nonce).update(Buffer.of(1)).digest();
}

/** What convergent encryption makes of a tenant's secret and a layer. */
export interface ConvergentRequest {
  /** At least 32 bytes, kept by the tenant. Whoever has it can confirm which layers an image holds. */
  readonly secret: Uint8Array;
  /** The digest of the plaintext blob. */
  readonly plaintextDigest: string;
}

/** Layer key and salt of chunked GCM: the same layer gives the same ciphertext within one tenant's secret. */
export function deriveConvergent(request: ConvergentRequest, mediaType: string): { readonly key: Buffer; readonly salt: Buffer } {
  const { secret, plaintextDigest } = request;
  return {
    key: createHmac("sha256", secret).update(`oci-enc/key\0${plaintextDigest}`).digest(),
    salt: createHmac("sha256", secret).update(`oci-enc/salt\0${plaintextDigest}\0${mediaType}`).digest().subarray(0, chunkLayout.saltSize),
  };
}

/** The same for CTR, under labels of its own: there the layer key is used directly, so it must not meet the other cipher's. */
export function deriveConvergentCtr(request: ConvergentRequest): { readonly key: Buffer; readonly nonce: Buffer } {
  const { secret, plaintextDigest } = request;
  return {
    key: createHmac("sha256", secret).update(`oci-enc/ctr-key\0${plaintextDigest}`).digest(),
    nonce: createHmac("sha256", secret).update(`oci-enc/ctr-nonce\0${plaintextDigest}`).digest().subarray(0, 16),
  };
}
