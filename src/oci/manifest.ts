import { parseJson } from "../bytes/index.ts";
import { asObject, malformed, parseAnnotations, parseDescriptor, type Annotations, type Descriptor } from "./descriptor.ts";
import { OciError } from "./errors.ts";
import { isImageManifestMediaType, isIndexMediaType, mediaTypes, schema1MediaTypes } from "./media-types.ts";

/** Limits on documents that somebody else wrote. Source: OCI distribution-spec, "Pushing Manifests" (4 MiB). */
export const manifestLimits = { maxBytes: 4 * 1024 * 1024, maxLayers: 10_000, maxManifests: 10_000 } as const;

const schema1Hint =
  "this is Docker's old schema 1, which can be neither encrypted nor verified; push the image again with a current docker, podman or skopeo";

/** Source: OCI image-spec, manifest.md. Unknown members are kept. */
export interface ImageManifest {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Annotations;
}

/** Source: OCI image-spec, image-index.md. Unknown members are kept. */
export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Annotations;
}

/**
 * Parses an image manifest whose bytes were verified. `mediaType` is the descriptor's: a document that calls itself
 * something else is refused (CVE-2021-41190). Throws `ERR_MANIFEST_MALFORMED` or `ERR_MANIFEST_UNSUPPORTED`.
 */
export function parseManifest(bytes: Uint8Array, mediaType: string): ImageManifest {
  if (!isImageManifestMediaType(mediaType)) throw unsupported(mediaType, "an image manifest");
  const object = parseDocument(bytes, mediaType);
  if (object["manifests"] !== undefined) throw malformed("manifest has both layers and manifests");
  parseDescriptor(object["config"], "config");
  return { ...object, layers: listOf(object["layers"], "layers", manifestLimits.maxLayers) } as unknown as ImageManifest;
}

/** Parses an index whose bytes were verified; as {@link parseManifest}. */
export function parseIndex(bytes: Uint8Array, mediaType: string): ImageIndex {
  if (!isIndexMediaType(mediaType)) throw unsupported(mediaType, "an image index");
  const object = parseDocument(bytes, mediaType);
  if (object["layers"] !== undefined || object["config"] !== undefined) throw malformed("index has layers or config as well as manifests");
  return { ...object, manifests: listOf(object["manifests"], "manifests", manifestLimits.maxManifests) } as unknown as ImageIndex;
}

/** Compact JSON in member order, as bytes: what is hashed is what is sent. */
export function serializeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), "utf8");
}

/** What a manifest would need; see {@link checkManifestSize}. */
export interface ManifestMeasure {
  /** Bytes of the whole manifest as it would be sent. */
  readonly size: number;
  readonly layers: number;
  /** Recipients of each layer's key; 0 when nothing is encrypted. */
  readonly recipients: number;
  /** Bytes that the key packets and other encryption annotations take, of all layers together. */
  readonly annotationBytes?: number;
}

/**
 * Refuses a manifest that registries would refuse, before anything is uploaded: each recipient costs bytes per layer
 * (an RSA-2048 JWE about 1,000). Throws `ERR_MANIFEST_TOO_LARGE`. Source: OCI distribution-spec, "Pushing Manifests".
 */
export function checkManifestSize(measure: ManifestMeasure, subject = "the manifest"): void {
  const { size, layers, recipients, annotationBytes = 0 } = measure;
  if (size <= manifestLimits.maxBytes) return;
  const cost =
    recipients > 0 && layers > 0 && annotationBytes > 0
      ? `; ${layers} layers for ${recipients} recipients take ${annotationBytes} bytes of it, about ${Math.round(annotationBytes / layers / recipients)} per layer and recipient`
      : "";
  throw new OciError("ERR_MANIFEST_TOO_LARGE", {
    message: `${subject} would have ${size} bytes, registries accept at most ${manifestLimits.maxBytes}${cost}`,
    hint:
      recipients > 1
        ? "use fewer recipients (one kbs: key serves everybody whom the KBS admits), encrypt fewer layers, or build the image with fewer layers"
        : "encrypt fewer layers, or build the image with fewer layers",
    details: { size, limit: manifestLimits.maxBytes, layers, recipients },
  });
}

/**
 * The media type of a manifest that came without one (skopeo's `dir:`): its own `mediaType`, else by shape. Throws
 * `ERR_MANIFEST_MALFORMED`; `ERR_MANIFEST_UNSUPPORTED` for Docker schema 1.
 */
export function guessManifestMediaType(bytes: Uint8Array): string {
  const object = asObject(parseJson(bytes, { maxBytes: manifestLimits.maxBytes, subject: "manifest" }), "manifest");
  checkSchemaVersion(object);
  const own = object["mediaType"];
  if (typeof own === "string") return own;
  if (Array.isArray(object["manifests"])) return mediaTypes.index;
  if (Array.isArray(object["layers"])) return mediaTypes.manifest;
  throw malformed("manifest has neither layers nor manifests");
}

function checkSchemaVersion(object: Readonly<Record<string, unknown>>): void {
  if (object["schemaVersion"] === 2) return;
  throw new OciError("ERR_MANIFEST_UNSUPPORTED", {
    message: `manifest has schemaVersion ${JSON.stringify(object["schemaVersion"])?.slice(0, 20) ?? "(none)"}, only 2 is supported`,
    hint: schema1Hint,
  });
}

function parseDocument(bytes: Uint8Array, mediaType: string): Readonly<Record<string, unknown>> {
  const object = asObject(parseJson(bytes, { maxBytes: manifestLimits.maxBytes, subject: "manifest" }), "manifest");
  checkSchemaVersion(object);
  const own = object["mediaType"];
  // Docker schema 2 demands the member, OCI allows leaving it out.
  const required = mediaType === mediaTypes.dockerManifest || mediaType === mediaTypes.dockerIndex;
  if (own === undefined ? required : own !== mediaType) {
    throw malformed(`manifest calls itself ${JSON.stringify(own)?.slice(0, 120) ?? "nothing"}, its descriptor says ${mediaType}`);
  }
  if (object["subject"] !== undefined) parseDescriptor(object["subject"], "subject");
  if (object["annotations"] !== undefined) parseAnnotations(object["annotations"], "annotations");
  if (object["artifactType"] !== undefined && typeof object["artifactType"] !== "string") throw malformed("artifactType is not text");
  return object;
}

/** `null` is how Go writes an empty list: umoci's new layouts have `"manifests":null`. */
function listOf(value: unknown, name: string, max: number): readonly unknown[] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw malformed(`${name} is not a list`);
  if (value.length > max) throw malformed(`${name} has ${value.length} entries, more than the limit of ${max}`);
  value.forEach((item, i) => parseDescriptor(item, `${name}[${i}]`));
  return value;
}

function unsupported(mediaType: string, expected: string): OciError {
  return new OciError("ERR_MANIFEST_UNSUPPORTED", {
    message: `${mediaType.slice(0, 120)} is not ${expected}`,
    hint: schema1MediaTypes.has(mediaType) ? schema1Hint : undefined,
  });
}
