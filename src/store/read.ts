import { collect, decodeBase64, digestAlgorithmOf, digestOf, BytesError } from "../bytes/index.ts";
import {
  isImageManifestMediaType,
  isIndexMediaType,
  manifestLimits,
  parseImageConfig,
  parseIndex,
  parseManifest,
  type Descriptor,
  type ImageConfig,
  type ImageIndex,
  type ImageManifest,
} from "../oci/index.ts";
import type { ContentReader, ReadOptions } from "./content-store.ts";

/** The part of a store that reading documents needs. */
export type BlobReader = Pick<ContentReader, "name" | "fetch">;

/** A manifest or index: its exact bytes, which are what its digest and every signature is of, and what they say. */
export type StoredDocument =
  | { readonly kind: "manifest"; readonly descriptor: Descriptor; readonly bytes: Buffer; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly descriptor: Descriptor; readonly bytes: Buffer; readonly index: ImageIndex };

/**
 * Small content whole: size and digest verified, at most `maxBytes`. Content inside the descriptor (`data`) saves the
 * request; when it does not match size and digest that is an error, not a reason to look elsewhere.
 * Throws `ERR_CONTENT_TOO_LARGE` before anything is read, `ERR_CONTENT_DIGEST_MISMATCH`, `ERR_STORE_NOT_FOUND`.
 * Source: OCI image-spec, descriptor.md, "Embedded Content".
 */
export async function readBlob(
  store: BlobReader,
  target: Descriptor,
  limits: { readonly maxBytes: number; readonly subject: string },
  options: ReadOptions = {},
): Promise<Buffer> {
  const subject = `${limits.subject} ${target.digest} of ${store.name}`;
  if (target.size > limits.maxBytes) {
    throw new BytesError("ERR_CONTENT_TOO_LARGE", {
      message: `${subject} has ${target.size} bytes, more than the limit of ${limits.maxBytes} for its kind`,
    });
  }
  if (target.data !== undefined) return embeddedContent(target, target.data, subject);
  return collect(await store.fetch(target, options), { maxBytes: target.size, subject });
}

function embeddedContent(target: Descriptor, data: string, subject: string): Buffer {
  const bytes = decodeBase64(data, `data member of the descriptor of ${subject}`);
  const digest = digestOf(bytes, digestAlgorithmOf(target.digest));
  if (bytes.length === target.size && digest === target.digest) return bytes;
  throw new BytesError("ERR_CONTENT_DIGEST_MISMATCH", {
    message: `content embedded in the descriptor of ${subject} does not match it (expected ${target.size} bytes of ${target.digest}, got ${bytes.length} of ${digest})`,
    hint: "the image was built or changed by something that does not follow the OCI image-spec; rebuild or re-push it",
  });
}

/** A manifest or index, told apart by the descriptor's media type. Throws `ERR_MANIFEST_UNSUPPORTED` for other types. */
export async function readDocument(store: BlobReader, target: Descriptor, options: ReadOptions = {}): Promise<StoredDocument> {
  if (isIndexMediaType(target.mediaType)) return { kind: "index", ...(await readIndex(store, target, options)) };
  return { kind: "manifest", ...(await readManifest(store, target, options)) };
}

/** An image manifest, at most 4 MiB. Throws `ERR_MANIFEST_MALFORMED`, `ERR_MANIFEST_UNSUPPORTED` and what reading throws. */
export async function readManifest(
  store: BlobReader,
  target: Descriptor,
  options: ReadOptions = {},
): Promise<{ readonly descriptor: Descriptor; readonly bytes: Buffer; readonly manifest: ImageManifest }> {
  // The type first: a foreign type is told as such, with its hint, before anything is read.
  if (!isImageManifestMediaType(target.mediaType)) parseManifest(Buffer.alloc(0), target.mediaType);
  const bytes = await readBlob(store, target, { maxBytes: manifestLimits.maxBytes, subject: "manifest" }, options);
  return { descriptor: target, bytes, manifest: parseManifest(bytes, target.mediaType) };
}

/** An image index, at most 4 MiB; as {@link readManifest}. */
export async function readIndex(
  store: BlobReader,
  target: Descriptor,
  options: ReadOptions = {},
): Promise<{ readonly descriptor: Descriptor; readonly bytes: Buffer; readonly index: ImageIndex }> {
  if (!isIndexMediaType(target.mediaType)) parseIndex(Buffer.alloc(0), target.mediaType);
  const bytes = await readBlob(store, target, { maxBytes: manifestLimits.maxBytes, subject: "index" }, options);
  return { descriptor: target, bytes, index: parseIndex(bytes, target.mediaType) };
}

/** An image configuration, at most 4 MiB. Throws `ERR_MANIFEST_MALFORMED` and what reading throws. */
export async function readConfig(
  store: BlobReader,
  target: Descriptor,
  options: ReadOptions = {},
): Promise<{ readonly bytes: Buffer; readonly config: ImageConfig }> {
  const bytes = await readBlob(store, target, { maxBytes: manifestLimits.maxBytes, subject: "image configuration" }, options);
  return { bytes, config: parseImageConfig(bytes) };
}
