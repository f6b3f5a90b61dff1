import { newHasher, type ByteStage, type ContentAddress, type Digest } from "../bytes/index.ts";
import { newEncryption, type CipherName, type CipherThreads, type Engine, type LayerEncryption } from "../cipher/index.ts";
import { InternalError } from "../errors/index.ts";
import type { KeyPacket, KeyWrapper, KeywrapOptions } from "../keywrap/index.ts";
import type { Annotations, Descriptor } from "../oci/index.ts";
import { checkEncryptionMark, checkPackets, withoutEncryptionAnnotations, writeEncryptionAnnotations } from "./annotations.ts";
import { LayerError } from "./errors.ts";
import { isEncryptedMediaType, encryptedMediaType, sealedAs } from "./media-types.ts";
import { serializePrivateOptions } from "./options-json.ts";

/** The layer to encrypt; a descriptor is one. Size and digest are missing when it is being made while it is encrypted. */
export interface PlainLayer {
  readonly mediaType: string;
  readonly size?: number | undefined;
  readonly digest?: Digest | undefined;
  readonly annotations?: Annotations | undefined;
}

export interface SealRequest {
  readonly layer: PlainLayer;
  readonly cipher: CipherName;
  /** At least one. */
  readonly wrappers: readonly KeyWrapper[];
  readonly engine?: Engine | undefined;
  /** Convergent encryption: a tenant's secret of at least 32 bytes; the layer's digest must be known. */
  readonly convergentSecret?: Uint8Array | undefined;
  /** Threads for large layers. */
  readonly threads?: CipherThreads | undefined;
}

/** A layer being sealed, under a key of its own; for one use. */
export interface LayerSealing {
  /** Of the sealed layer: an OCI type with `+encrypted`. */
  readonly mediaType: string;
  /** Bytes of the ciphertext, where the plaintext's size is known. */
  readonly size: number | undefined;
  /**
   * Plaintext to ciphertext. Checks the declared size, not the digest: the store that it is read from did. Where the
   * digest was not known it is computed here.
   */
  readonly stage: ByteStage;
  /** What came out of the stage, once it has ended; only where it is hashed beside the cipher. */
  readonly address: (() => ContentAddress) | undefined;
  /** Digest of what was encrypted: the layer's where it was known, else once the stage has ended. */
  plaintext(): Digest;
  /** The descriptor of the sealed layer, once the stage has ended: annotations kept, urls and embedded data left out. */
  finish(ciphertext: ContentAddress): Promise<Descriptor>;
  /** For {@link sealToFile} and {@link sealToStream}. */
  readonly layer: PlainLayer;
  readonly encryption: LayerEncryption;
  readonly threads: CipherThreads | undefined;
}

/**
 * Prepares the sealing of one layer. Where the layer's digest is known its key is wrapped now, so that a recipient
 * that cannot be wrapped for is found before gigabytes were encrypted. Throws `ERR_LAYER_ALREADY_ENCRYPTED`,
 * `ERR_LAYER_MARK_MISSING`, `ERR_LAYER_MEDIA_TYPE`, `ERR_LAYER_NO_RECIPIENT`, `ERR_LAYER_TOO_MANY_RECIPIENTS`, and what the wrappers throw.
 */
export async function sealLayer(request: SealRequest, options: KeywrapOptions = {}): Promise<LayerSealing> {
  const { layer, cipher, wrappers, engine, convergentSecret, threads } = request;
  if (isEncryptedMediaType(layer.mediaType)) {
    throw new LayerError("ERR_LAYER_ALREADY_ENCRYPTED", {
      message: `a layer of type ${layer.mediaType} is encrypted already`,
      hint: "change its recipients with: ociseal rewrap",
    });
  }
  checkEncryptionMark(layer);
  if (wrappers.length === 0) {
    throw new LayerError("ERR_LAYER_NO_RECIPIENT", {
      message: "a layer cannot be encrypted for nobody",
      hint: "name at least one recipient with -r",
    });
  }
  const mediaType = encryptedMediaType(layer.mediaType);
  const encryption = newEncryption({
    cipher,
    mediaType: sealedAs(layer.mediaType),
    plaintextSize: layer.size,
    engine,
    threads,
    convergent: convergentSecret === undefined ? undefined : { secret: convergentSecret, plaintextDigest: knownDigest(layer) },
  });
  const wrap = async (digest: Digest): Promise<readonly KeyPacket[]> => {
    const optsdata = serializePrivateOptions({ ...encryption.privateOptions, digest });
    const packets: KeyPacket[] = [];
    for (const wrapper of wrappers) packets.push(...(await wrapper.wrap(optsdata, options)));
    optsdata.fill(0);
    checkPackets(packets);
    return packets;
  };
  let packets = layer.digest === undefined ? undefined : await wrap(layer.digest);
  let computed: Digest | undefined;
  const hashing: ByteStage = async function* (source) {
    const hasher = newHasher();
    for await (const chunk of source) {
      hasher.update(chunk);
      yield chunk;
    }
    computed = hasher.digest();
  };
  const plaintext = (): Digest => {
    const digest = layer.digest ?? computed;
    if (digest === undefined) throw new InternalError({ message: "a sealed layer was finished before its last byte" });
    return digest;
  };
  return {
    mediaType,
    size: encryption.ciphertextSize,
    layer,
    encryption,
    threads,
    stage: layer.digest === undefined ? (source) => encryption.stage(hashing(source)) : encryption.stage,
    address: encryption.ciphertextAddress,
    plaintext,
    async finish(ciphertext) {
      packets ??= await wrap(plaintext());
      const annotations = writeEncryptionAnnotations(withoutEncryptionAnnotations(layer.annotations), encryption.publicOptions(), packets);
      return { mediaType, digest: ciphertext.digest, size: ciphertext.size, annotations };
    },
  };
}

function knownDigest(layer: PlainLayer): Digest {
  if (layer.digest !== undefined) return layer.digest;
  throw new InternalError({ message: "convergent encryption was asked for before the layer's digest was known" });
}
