import { CipherError, truncated } from "./errors.ts";
import { ciphers, type CipherName } from "./names.ts";

/** The blob layout of AES_256_GCM_C2SP_CHUNKED_V1, in bytes. Source: c2sp.org/chunked-encryption@v1, "Format". */
export const chunkLayout = {
  saltSize: 24,
  commitmentSize: 32,
  headerSize: 56,
  /** Plaintext of every chunk but the last, which is always shorter and may be empty. */
  plainChunk: 16384,
  tagSize: 16,
  sealedChunk: 16400,
} as const;

/** The size of the blob that encrypting `plaintextSize` bytes gives. Throws `ERR_CIPHER_LAYER_TOO_LARGE`. */
export function ciphertextSize(cipher: CipherName, plaintextSize: number): number {
  checkPlaintextSize(cipher, plaintextSize);
  switch (cipher) {
    case "AES_256_CTR_HMAC_SHA256":
      return plaintextSize;
    case "AES_256_GCM_C2SP_CHUNKED_V1":
      return chunkLayout.headerSize + plaintextSize + chunkLayout.tagSize * (Math.floor(plaintextSize / chunkLayout.plainChunk) + 1);
  }
}

/**
 * The size of the plaintext inside a blob. Throws `ERR_CIPHER_TRUNCATED` when no
 * plaintext gives a blob of that size, so a cut at the wrong place is found before a byte is fetched.
 */
export function plaintextSize(cipher: CipherName, ciphertextSize: number): number {
  if (!Number.isSafeInteger(ciphertextSize) || ciphertextSize < 0) throw impossible(cipher, ciphertextSize);
  switch (cipher) {
    case "AES_256_CTR_HMAC_SHA256":
      return ciphertextSize;
    case "AES_256_GCM_C2SP_CHUNKED_V1": {
      const body = ciphertextSize - chunkLayout.headerSize;
      if (body < chunkLayout.tagSize)
        throw truncated(`an encrypted layer of ${ciphertextSize} bytes is too short (at least 72 are needed)`);
      const full = Math.floor(body / chunkLayout.sealedChunk);
      const last = body % chunkLayout.sealedChunk;
      if (last < chunkLayout.tagSize)
        throw truncated(
          `an encrypted layer of ${ciphertextSize} bytes is cut: its last chunk would have ${last} bytes, 16 at least are needed`,
        );
      return full * chunkLayout.plainChunk + last - chunkLayout.tagSize;
    }
  }
}

/** Throws `ERR_CIPHER_LAYER_TOO_LARGE`. */
export function checkPlaintextSize(cipher: CipherName, size: number): void {
  if (!Number.isSafeInteger(size) || size < 0) throw impossible(cipher, size);
  const max = ciphers[cipher].maxPlaintextSize;
  if (size > max) {
    throw new CipherError("ERR_CIPHER_LAYER_TOO_LARGE", {
      message: `a layer of ${size} bytes is larger than ${cipher} may encrypt (at most ${max})`,
      hint: "split the layer",
    });
  }
}

function impossible(cipher: CipherName, size: number): CipherError {
  return new CipherError("ERR_CIPHER_SIZE_IMPOSSIBLE", { message: `${size} is not the size of a layer encrypted with ${cipher}` });
}

/** Segment lengths start here and double until a blob has at most `maxSegments`. */
const minSegment = 1 << 20;
const maxSegments = 4096;

/** The only segment length that a blob of this size may have. */
export function segmentLength(blobSize: number): number {
  let length = minSegment;
  while (blobSize > length * maxSegments) length *= 2;
  return length;
}

export function segmentCount(blobSize: number): number {
  return Math.ceil(blobSize / segmentLength(blobSize));
}
