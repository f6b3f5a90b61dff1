import { digestAlgorithmOf, encodedOf, type Digest } from "../bytes/index.ts";
import { mediaTypes, parseManifest, serializeJson, type Annotations, type Descriptor, type ImageManifest } from "../oci/index.ts";
import type { CallOptions, ContentReader } from "../store/index.ts";
import { describe, fetchManifestBytes, resolveIfPresent } from "./content.ts";
import { legacyAnnotations, signatureTypes } from "./formats.ts";
import { malformedSignature } from "./shape.ts";

/** What stands under a `.sig` tag. */
export interface LegacyManifest {
  readonly descriptor: Descriptor;
  readonly manifest: ImageManifest;
}

export type AttachmentSuffix = "sig" | "att";

/**
 * `sha256-<hex>.sig`. `undefined` for SHA-512: such a name would be longer than the 128 characters of a tag.
 * Source: sigstore/cosign specs/SIGNATURE_SPEC.md, "Discovery"; OCI distribution-spec, tag grammar.
 */
export function attachmentTagOf(digest: Digest, suffix: AttachmentSuffix): string | undefined {
  const tag = `${digestAlgorithmOf(digest)}-${encodedOf(digest)}.${suffix}`;
  return tag.length > 128 ? undefined : tag;
}

/** Reads what stands under a `.sig` tag now; `undefined` when there is none. */
export async function readLegacyManifest(store: ContentReader, tag: string, options: CallOptions): Promise<LegacyManifest | undefined> {
  const descriptor = await resolveIfPresent(store, tag, options);
  if (descriptor === undefined) return undefined;
  return { descriptor, manifest: parseManifest(await fetchManifestBytes(store, descriptor, options), descriptor.mediaType) };
}

/** Config and manifest in the form of cosign 2.5 and 3.1, byte for byte, with the given layers. */
export function buildLegacyManifest(layers: readonly Descriptor[], existing: ImageManifest | undefined): LegacyDocuments {
  const config = serializeJson({
    architecture: "",
    created: goZeroTime,
    history: layers.map(() => ({ created: goZeroTime })),
    os: "",
    rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
    config: {},
  });
  const configDescriptor = describe(mediaTypes.config, config);
  const manifest = serializeJson({
    ...(existing ?? { schemaVersion: 2, mediaType: mediaTypes.manifest }),
    config: configDescriptor,
    layers,
  });
  return { config, configDescriptor, manifest, manifestDescriptor: describe(mediaTypes.manifest, manifest) };
}

export interface LegacyDocuments {
  readonly config: Buffer;
  readonly configDescriptor: Descriptor;
  readonly manifest: Buffer;
  readonly manifestDescriptor: Descriptor;
}

/** Go's zero time, as cosign writes it without `--record-creation-timestamp`. */
const goZeroTime = "0001-01-01T00:00:00Z";

/** The layer of a signature: the payload's descriptor, with the signature beside it. */
export function legacyLayer(payload: Uint8Array, annotations: Annotations): Descriptor {
  return { ...describe(signatureTypes.simpleSigning, payload), annotations };
}

/** Two layers are one signature when payload and annotations agree. */
export function layerKey({ mediaType, digest, annotations }: Descriptor): string {
  const pairs = Object.entries(annotations ?? {}).sort(([left], [right]) => (left < right ? -1 : 1));
  return JSON.stringify([mediaType, digest, pairs]);
}

/** The raw signature of a layer. Line breaks are passed over, as cosign, skopeo and image-rs do. */
export function signatureOf(annotations: Annotations): Buffer {
  const text = annotations[legacyAnnotations.signature];
  if (text === undefined) throw malformedSignature(`layer lacks the annotation ${legacyAnnotations.signature}`);
  const compact = text.replace(/[\r\n]/g, "");
  const bytes = Buffer.from(compact, "base64");
  if (compact === "" || bytes.toString("base64") !== compact)
    throw malformedSignature(`annotation ${legacyAnnotations.signature} is not base64`);
  return bytes;
}
