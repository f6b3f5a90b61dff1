import { unlink } from "node:fs/promises";
import { BytesError, digestAlgorithmOf, type ByteStream, type ContentAddress, type Digest } from "../bytes/index.ts";
import { decryptToFile, encryptToFile, encryptToStream, type LayerSource } from "../cipher/index.ts";
import { InternalError } from "../errors/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { compressionOf } from "./media-types.ts";
import { checkBinding, type OpenedContent, type OpenedLayer } from "./open.ts";
import type { LayerSealing } from "./seal.ts";

export interface LayerWorkRequest {
  /** The blob: a file, whose digest is verified, or a stream that verifies itself. */
  readonly source: LayerSource;
  /** Told the bytes read of each piece. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface LayerFileRequest extends LayerWorkRequest {
  /** Must not exist; the caller renames it into place. Removed again when anything fails. */
  readonly targetPath: string;
}

/**
 * Seals a layer into a file, the fast way: reading, hashing both sides, encrypting and writing overlap. The source is
 * verified against the layer's size and digest. Throws `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_CIPHER_SIZE_MISMATCH`,
 * `ERR_CIPHER_FILE`.
 */
export async function sealToFile(sealing: LayerSealing, request: LayerFileRequest): Promise<Descriptor> {
  const { digest, size } = knownLayer(sealing);
  const { plaintext, ciphertext } = await encryptToFile(sealing.encryption, {
    ...request,
    size,
    threads: sealing.threads,
    sourceAlgorithm: digestAlgorithmOf(digest),
  });
  await removedUnless(request.targetPath, () => checkDigest(plaintext, digest, "the layer to encrypt"));
  return sealing.finish(ciphertext);
}

/** A sealed layer on its way. */
export interface SealedStream {
  /** Ends only when the source was what it should be; its last bytes are held back until then. */
  readonly stream: ByteStream;
  /** What it was, once it has ended. */
  readonly address: () => ContentAddress;
}

/** Seals a layer into a stream, for whoever sends it on. The stream fails as {@link sealToFile} does. */
export function sealToStream(sealing: LayerSealing, request: LayerWorkRequest): SealedStream {
  const { digest, size } = knownLayer(sealing);
  let found: ContentAddress | undefined;
  const stream = encryptToStream(sealing.encryption, {
    ...request,
    size,
    threads: sealing.threads,
    sourceAlgorithm: digestAlgorithmOf(digest),
    check({ plaintext, ciphertext }) {
      checkDigest(plaintext, digest, "the layer to encrypt");
      found = ciphertext;
    },
  });
  const address = (): ContentAddress => {
    if (found === undefined) throw new InternalError({ message: "the address of an encrypted layer was asked for before its last byte" });
    return found;
  };
  return { stream, address };
}

/**
 * Opens a layer into a file, the fast way. The source is verified against the layer's digest, the plaintext against a
 * binding digest, and the tar's digest is computed on the way, from verified plaintext only. Throws
 * `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_LAYER_DIGEST_MISMATCH`, `ERR_CIPHER_*`.
 */
export async function openToFile(opened: OpenedLayer, request: LayerFileRequest): Promise<OpenedContent> {
  const { layer, digest } = opened;
  const { plaintext, ciphertext, uncompressed } = await decryptToFile(opened.decryption, {
    ...request,
    threads: opened.threads,
    compression: compressionOf(opened.mediaType),
    sourceAlgorithm: digestAlgorithmOf(layer.digest),
    targetAlgorithm: digest === undefined ? undefined : digestAlgorithmOf(digest),
  });
  await removedUnless(request.targetPath, () => {
    checkDigest(ciphertext, layer.digest, "the encrypted layer");
    checkBinding(digest, plaintext.digest);
  });
  if (uncompressed === undefined) throw new InternalError({ message: "a layer was opened without its diff_id" });
  return { plaintext, diffId: uncompressed };
}

function knownLayer({ layer: { digest, size } }: LayerSealing): { readonly digest: Digest; readonly size: number } {
  if (digest !== undefined && size !== undefined) return { digest, size };
  throw new InternalError({ message: "a layer of unknown size or digest cannot be sealed this way" });
}

async function removedUnless(path: string, check: () => void): Promise<void> {
  try {
    check();
  } catch (cause) {
    await unlink(path);
    throw cause;
  }
}

/** Of a stream that verifies itself there is no address, and nothing left to check. */
function checkDigest(address: ContentAddress | undefined, expected: Digest, subject: string): void {
  if (address === undefined || address.digest === expected) return;
  throw new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
    message: `${subject} does not match its digest (expected ${expected}, got ${address.digest})`,
    hint: "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner",
  });
}
