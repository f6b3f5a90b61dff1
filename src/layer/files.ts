import { unlink } from "node:fs/promises";
import { BytesError, digestAlgorithmOf, type ContentAddress, type Digest } from "../bytes/index.ts";
import { decryptFile, encryptFile, type Compression } from "../cipher/index.ts";
import { InternalError } from "../errors/index.ts";
import type { Descriptor } from "../oci/index.ts";
import { digestMismatch, type OpenedLayer } from "./open.ts";
import type { LayerSealing } from "./seal.ts";

export interface LayerFileRequest {
  /** The blob's file; its digest is verified. */
  readonly sourcePath: string;
  /** Must not exist; the caller renames it into place. Removed again when anything fails. */
  readonly targetPath: string;
  /** Told the bytes read of each piece. */
  readonly progress?: ((size: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Seals a layer from file to file, the fast way: reading, hashing both sides, encrypting and writing overlap. The
 * source is verified against the layer's size and digest. Throws `ERR_CONTENT_DIGEST_MISMATCH`,
 * `ERR_CIPHER_SIZE_MISMATCH`, `ERR_CIPHER_FILE`.
 */
export async function sealFile(sealing: LayerSealing, request: LayerFileRequest): Promise<Descriptor> {
  const { digest, size } = sealing.layer;
  if (digest === undefined || size === undefined)
    throw new InternalError({ message: "a layer of unknown size or digest cannot be sealed from its file" });
  const { plaintext, ciphertext } = await encryptFile(sealing.encryption, {
    ...request,
    size,
    threads: sealing.threads,
    sourceAlgorithm: digestAlgorithmOf(digest),
  });
  await keepOnlyIf(plaintext, digest, request.targetPath, "the layer to encrypt");
  return sealing.finish(ciphertext);
}

export interface OpenedFile {
  readonly plaintext: ContentAddress;
  /** Digest of the uncompressed tar, for comparison with the image's diff_ids. */
  readonly diffId: Digest;
}

/**
 * Opens a layer from file to file, the fast way. The source is verified against the layer's digest, the plaintext
 * against a binding digest, and the tar's digest is computed on the way, from verified plaintext only. Throws
 * `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_LAYER_DIGEST_MISMATCH`, `ERR_CIPHER_*`.
 */
export async function openFile(opened: OpenedLayer, request: LayerFileRequest): Promise<OpenedFile> {
  const { layer, digest } = opened;
  const { plaintext, ciphertext, uncompressed } = await decryptFile(opened.decryption, {
    ...request,
    threads: opened.threads,
    compression: compressionOf(opened.mediaType),
    sourceAlgorithm: digestAlgorithmOf(layer.digest),
    targetAlgorithm: digest === undefined ? undefined : digestAlgorithmOf(digest),
  });
  await keepOnlyIf(ciphertext, layer.digest, request.targetPath, "the encrypted layer");
  if (digest !== undefined && plaintext.digest !== digest) {
    await unlink(request.targetPath);
    throw digestMismatch(`the decrypted layer does not match its digest (expected ${digest}, got ${plaintext.digest})`);
  }
  if (uncompressed === undefined) throw new InternalError({ message: "a layer was opened without its diff_id" });
  return { plaintext, diffId: uncompressed };
}

async function keepOnlyIf(address: ContentAddress, expected: Digest, path: string, subject: string): Promise<void> {
  if (address.digest === expected) return;
  await unlink(path);
  throw new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
    message: `${subject} does not match its digest (expected ${expected}, got ${address.digest})`,
    hint: "the registry, a proxy or the disk changed the content; fetch it again, then report the digest to its owner",
  });
}

/** How the tar of a layer type is stored. Source: OCI image-spec, layer.md; Docker's types are gzip by name. */
function compressionOf(mediaType: string): Compression {
  if (/[+.]gzip$/.test(mediaType)) return "gzip";
  return /[+.]zstd$/.test(mediaType) ? "zstd" : "none";
}
