import { digestAlgorithmOf, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import {
  checkPublicOptions,
  newDecryption,
  plaintextSize,
  type BlobOpener,
  type ByteRange,
  type CipherName,
  type CipherThreads,
  type Engine,
  type LayerDecryption,
  type PublicOptions,
} from "../cipher/index.ts";
import { InternalError } from "../errors/index.ts";
import { unwrapFirst, type KeyPacket, type KeyUnwrapper, type KeywrapOptions } from "../keywrap/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { parseEncryptionAnnotations, withoutEncryptionAnnotations, type EncryptionAnnotations } from "./annotations.ts";
import { LayerError } from "./errors.ts";
import { compressionOf, plainMediaType, sealedAs } from "./media-types.ts";
import { parsePrivateOptions, parsePublicOptions } from "./options-json.ts";

export interface OpenRequest {
  readonly layer: Descriptor;
  readonly unwrappers: readonly KeyUnwrapper[];
  readonly engine?: Engine | undefined;
  /** Threads for large layers. */
  readonly threads?: CipherThreads | undefined;
}

/** A sealed layer, checked as far as that is possible without a key. */
export interface SealedLayer {
  readonly annotations: EncryptionAnnotations;
  readonly publicOptions: PublicOptions;
  /** The media type without `+encrypted`. */
  readonly mediaType: string;
  readonly plaintextSize: number;
}

/** What a plaintext was found to be. */
export interface OpenedContent {
  readonly plaintext: ContentAddress;
  /** Digest of the uncompressed layer, for comparison with the image configuration's diff_ids. */
  readonly diffId: Digest;
}

/** A layer whose key is at hand. Only verified plaintext comes out of it. */
export interface OpenedLayer {
  readonly cipher: CipherName;
  /** The media type without `+encrypted`. */
  readonly mediaType: string;
  /** Bytes of the plaintext. */
  readonly size: number;
  /**
   * The digest of the plaintext blob where it binds: our GCM layers. Of CTR layers it is only a hint ({@link hintedDigest}):
   * buildah and skopeo write the digest of the blob before they compressed it (measured). What binds those is diff_ids.
   */
  readonly digest: Digest | undefined;
  readonly hintedDigest: Digest | undefined;
  /** Which packet opened it, and whose key. */
  readonly packet: KeyPacket;
  readonly openedBy: string;
  /** How often {@link open} reads its source: twice for a CTR layer without segment tags. */
  readonly passes: 1 | 2;
  /** The whole plaintext; ends with `ERR_LAYER_DIGEST_MISMATCH` when a binding digest is wrong. */
  open(source: BlobOpener): Promise<ByteStream>;
  /**
   * The same, and what it uncompresses to is hashed on the way, beside the cipher. `check` is told before the last bytes
   * leave; what it throws ends the plaintext. Ends with `ERR_CIPHER_UNCOMPRESS` when it does not uncompress.
   */
  openChecked(source: BlobOpener, check: (found: OpenedContent) => void): Promise<ByteStream>;
  /** A part of the plaintext, reading only the chunks or segments that hold it. Throws `ERR_CIPHER_RANGE`. */
  openRange(source: BlobOpener, range: ByteRange): Promise<ByteStream>;
  /** The descriptor of the plain layer: encryption annotations, urls and embedded data left out. */
  plainDescriptor(plaintext: ContentAddress): Descriptor;
  /** For {@link openToFile}. */
  readonly layer: Descriptor;
  readonly decryption: LayerDecryption;
  readonly threads: CipherThreads | undefined;
}

/**
 * Checks everything about a sealed layer that needs no key: mark and annotations, cipher, public options, size.
 * Throws `ERR_LAYER_*`, `ERR_CIPHER_*` of category integrity.
 */
export function checkSealedLayer(layer: Descriptor): SealedLayer {
  const annotations = parseEncryptionAnnotations(layer);
  const mediaType = plainMediaType(layer.mediaType);
  const publicOptions = parsePublicOptions(annotations.publicOptions);
  checkPublicOptions(publicOptions, layer.size);
  if (annotations.packets.length === 0) {
    throw new LayerError("ERR_LAYER_ANNOTATIONS_MISSING", {
      message: "an encrypted layer has no wrapped key in its annotations, so nobody can open it",
      hint: "the tool that encrypted or copied the image lost the keys; encrypt it again",
    });
  }
  return { annotations, publicOptions, mediaType, plaintextSize: plaintextSize(publicOptions.cipher, layer.size) };
}

/**
 * Unwraps the key of one layer; reads no blob yet. Everything that can be wrong without a key is found before a key is
 * asked for. Throws as {@link checkSealedLayer} and `unwrapFirst`, `ERR_LAYER_PRIVATE_OPTIONS`, `ERR_CIPHER_NONCE_MISSING`,
 * `ERR_CIPHER_NONCE_LENGTH`, `ERR_CIPHER_KEY_LENGTH`.
 */
export async function openLayer(request: OpenRequest, options: KeywrapOptions = {}): Promise<OpenedLayer> {
  const { layer, unwrappers, engine, threads } = request;
  const sealed = checkSealedLayer(layer);
  const { optsdata, packet, unwrapper } = await unwrapFirst(sealed.annotations.packets, unwrappers, options);
  const privateOptions = parsePrivateOptions(optsdata);
  const { publicOptions, mediaType } = sealed;
  const { cipher } = publicOptions;
  const decryption = newDecryption({
    publicOptions,
    privateOptions,
    mediaType: sealedAs(mediaType),
    ciphertextSize: layer.size,
    engine,
    threads,
  });
  const digest = bindingDigest(cipher, privateOptions.digest);
  const algorithm = digest === undefined ? {} : { algorithm: digestAlgorithmOf(digest) };
  return {
    cipher,
    mediaType,
    size: decryption.plaintextSize,
    digest,
    hintedDigest: privateOptions.digest,
    packet,
    openedBy: unwrapper.name,
    passes: decryption.passes,
    layer,
    decryption,
    threads,
    open: (source) =>
      decryption.open(source, digest === undefined ? undefined : { ...algorithm, check: (found) => checkBinding(digest, found.digest) }),
    openChecked: (source, check) =>
      decryption.open(source, {
        ...algorithm,
        compression: compressionOf(mediaType),
        check(found) {
          checkBinding(digest, found.digest);
          if (found.uncompressed === undefined) throw new InternalError({ message: "a layer was opened without its diff_id" });
          check({ plaintext: { digest: found.digest, size: decryption.plaintextSize }, diffId: found.uncompressed });
        },
      }),
    openRange: (source, range) => decryption.openRange(source, range),
    plainDescriptor(plaintext) {
      const annotations = withoutEncryptionAnnotations(layer.annotations);
      const plain = { mediaType, digest: plaintext.digest, size: plaintext.size };
      return Object.keys(annotations).length === 0 ? plain : { ...plain, annotations };
    },
  };
}

function bindingDigest(cipher: CipherName, digest: Digest | undefined): Digest | undefined {
  switch (cipher) {
    case "AES_256_CTR_HMAC_SHA256":
      return undefined;
    case "AES_256_GCM_C2SP_CHUNKED_V1":
      if (digest !== undefined) return digest;
      throw new LayerError("ERR_LAYER_PRIVATE_OPTIONS", {
        message: `the unwrapped options of the layer hold no digest, which ${cipher} demands`,
        hint: "whoever wrapped them made a mistake; encrypt the image again",
      });
  }
}

/** Throws `ERR_LAYER_DIGEST_MISMATCH` when a digest binds and another was found. */
export function checkBinding(expected: Digest | undefined, got: Digest): void {
  if (expected === undefined || got === expected) return;
  throw digestMismatch(`the decrypted layer does not match its digest (expected ${expected}, got ${got})`);
}

function digestMismatch(message: string): LayerError {
  return new LayerError("ERR_LAYER_DIGEST_MISMATCH", {
    message,
    hint: "whoever encrypted the layer wrapped another layer's digest with its key; ask the image's owner",
  });
}
