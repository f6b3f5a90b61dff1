/** References, descriptors, manifests, media types: the OCI vocabulary, without any input or output. */
export { ociErrors, OciError } from "./errors.ts";
export { isForeignLayerMediaType, isImageManifestMediaType, isIndexMediaType, isManifestMediaType, mediaTypes } from "./media-types.ts";
export { parseDescriptor, type Annotations, type Descriptor, type Platform } from "./descriptor.ts";
export {
  checkManifestSize,
  guessManifestMediaType,
  manifestLimits,
  parseIndex,
  parseManifest,
  serializeJson,
  type ImageIndex,
  type ImageManifest,
} from "./manifest.ts";
export { dockerHub, isTag, type DockerName, type RepositoryName } from "./docker-name.ts";
export {
  formatImageName,
  isRefName,
  parseImageName,
  parseRepositoryName,
  type DirName,
  type DockerArchiveName,
  type ImageName,
  type LayoutName,
} from "./image-name.ts";
export {
  formatPlatform,
  hostPlatform,
  isAttestationManifest,
  normalizePlatform,
  parsePlatform,
  platformDistance,
  selectPlatform,
} from "./platform.ts";
export { parseImageConfig, type ExecutionConfig, type HistoryEntry, type ImageConfig } from "./image-config.ts";
