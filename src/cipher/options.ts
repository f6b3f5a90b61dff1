import { CipherError, malformedOptions } from "./errors.ts";
import { ciphers, type CipherName } from "./names.ts";
import { segmentTagSize } from "./ctr-segments.ts";
import { segmentCount, segmentLength } from "./sizes.ts";

/** Named byte strings, as ocicrypt's `cipheroptions`. */
export type CipherOptions = Readonly<Record<string, Uint8Array>>;

/** What anybody can read in a descriptor's annotation. Source: ocicrypt `PublicLayerBlockCipherOptions`. */
export interface PublicOptions {
  readonly cipher: CipherName;
  /** 32 bytes: HMAC-SHA-256 of the ciphertext (CTR), or the key commitment (chunked GCM). */
  readonly hmac: Uint8Array;
  readonly cipheroptions: CipherOptions;
}

/** What travels wrapped for the recipients. Source: ocicrypt `PrivateLayerBlockCipherOptions`. */
export interface PrivateOptions {
  /** The layer key, 32 bytes. */
  readonly symkey: Uint8Array;
  readonly cipheroptions: CipherOptions;
}

/** Names of our public options of CTR layers: the segment length as u32 big-endian, and all segment tags. */
export const segmentOptions = { length: "seg.len", tags: "seg.tags" } as const;

const macSize = 32;
const nonceSize = 16;
const nonceOption = "nonce";

/**
 * Everything about public options that can be wrong before a key is asked for. Throws `ERR_CIPHER_OPTIONS_MALFORMED`,
 * `ERR_CIPHER_PUBLIC_NONCE`: ocicrypt looks for options in the public part first and its MAC does not cover them, so a
 * nonce added there by anybody decrypts to garbage (measured with skopeo 1.9, 1.18 and 1.22).
 */
export function checkPublicOptions(options: PublicOptions, blobSize: number): void {
  if (options.hmac.length !== macSize) {
    throw malformedOptions(`the public option hmac has ${options.hmac.length} bytes, expected ${macSize}`);
  }
  if (Object.keys(options.cipheroptions).some((name) => name.toLowerCase() === nonceOption)) {
    throw new CipherError("ERR_CIPHER_PUBLIC_NONCE", {
      message: "the public cipher options hold a nonce (expected it among the wrapped, private options only)",
      hint: "somebody changed the annotations of this image, perhaps to corrupt it; fetch the image from its owner again",
    });
  }
  switch (options.cipher) {
    case "AES_256_GCM_C2SP_CHUNKED_V1": {
      const names = Object.keys(options.cipheroptions);
      if (names.length > 0) throw malformedOptions(`${options.cipher} has no public cipher options, got ${names.length}`);
      return;
    }
    case "AES_256_CTR_HMAC_SHA256":
      segmentTagsOf(options, blobSize);
      return;
  }
}

/** The segment tags of a CTR layer that carries them. Throws `ERR_CIPHER_OPTIONS_MALFORMED`. */
export function segmentTagsOf(options: PublicOptions, blobSize: number): Uint8Array | undefined {
  const { [segmentOptions.length]: length, [segmentOptions.tags]: tags } = options.cipheroptions;
  if (length === undefined && tags === undefined) return undefined;
  if (length === undefined || tags === undefined) throw malformedOptions("segment tags and segment length come only together");
  const expected = segmentLength(blobSize);
  if (length.length !== 4 || Buffer.from(length).readUInt32BE() !== expected) {
    throw malformedOptions(`the segment length is not the one of a blob of ${blobSize} bytes (expected ${expected})`);
  }
  const size = segmentCount(blobSize) * segmentTagSize;
  if (tags.length !== size) throw malformedOptions(`there are ${tags.length} bytes of segment tags, expected ${size}`);
  return tags;
}

/** The public options that announce segment tags. */
export function segmentTagOptions(tags: Uint8Array, blobSize: number): CipherOptions {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(segmentLength(blobSize));
  return { [segmentOptions.length]: length, [segmentOptions.tags]: tags };
}

/**
 * Everything about private options that can be wrong before the blob is read. Throws `ERR_CIPHER_KEY_LENGTH`,
 * `ERR_CIPHER_NONCE_MISSING` (ocicrypt would make up a random one and decrypt to garbage), `ERR_CIPHER_NONCE_LENGTH`
 * (ocicrypt panics), `ERR_CIPHER_OPTIONS_MALFORMED`.
 */
export function checkPrivateOptions(cipher: CipherName, options: PrivateOptions): void {
  const { keySize } = ciphers[cipher];
  if (options.symkey.length !== keySize) {
    throw new CipherError("ERR_CIPHER_KEY_LENGTH", {
      message: `the layer key has ${options.symkey.length} bytes, expected ${keySize}`,
      hint: "the image was made by a faulty tool; encrypt it again",
    });
  }
  switch (cipher) {
    case "AES_256_GCM_C2SP_CHUNKED_V1": {
      const names = Object.keys(options.cipheroptions);
      if (names.length > 0) throw malformedOptions(`${cipher} has no private cipher options, got ${names.length}`);
      return;
    }
    case "AES_256_CTR_HMAC_SHA256":
      nonceOf(options);
      return;
  }
}

/** The nonce of a CTR layer, 16 bytes. Throws as {@link checkPrivateOptions}. */
export function nonceOf(options: PrivateOptions): Uint8Array {
  const nonce = options.cipheroptions[nonceOption];
  if (nonce === undefined) {
    throw new CipherError("ERR_CIPHER_NONCE_MISSING", {
      message: "the private options of the layer hold no nonce (expected 16 bytes)",
      hint: "the image was made by a faulty tool; encrypt it again",
    });
  }
  if (nonce.length !== nonceSize) {
    throw new CipherError("ERR_CIPHER_NONCE_LENGTH", {
      message: `the nonce in the private options has ${nonce.length} bytes, expected ${nonceSize}`,
      hint: "the image was made by a faulty tool; encrypt it again",
    });
  }
  return nonce;
}
