/** References, descriptors, manifests, media types: the OCI vocabulary, without any input or output. */
export { ociErrors, OciError } from "./errors.ts";
export { mediaTypes, isIndexMediaType, isManifestMediaType, isImageManifestMediaType } from "./media-types.ts";
export { parseDescriptor, type Annotations, type Descriptor, type Platform } from "./descriptor.ts";
export { parseIndex, parseManifest, serializeJson, manifestLimits, type ImageIndex, type ImageManifest } from "./manifest.ts";
