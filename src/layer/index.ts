/** Encrypted layers: cipher, wrapped keys and annotations of one descriptor together. */
export { layerErrors, LayerError } from "./errors.ts";
export { compressionOf, encryptedMediaType, isEncryptedMediaType, isSealableMediaType, plainMediaType } from "./media-types.ts";
export { annotationLimits, checkEncryptionMark, encryptionAnnotations, isEncryptedLayer } from "./annotations.ts";
export { sealLayer, type LayerSealing, type PlainLayer, type SealRequest } from "./seal.ts";
export { checkSealedLayer, openLayer, type OpenedContent, type OpenedLayer, type OpenRequest, type SealedLayer } from "./open.ts";
export { describeEncryption, type EncryptionDescription } from "./describe.ts";
export { replacePackets, type PacketReplacer } from "./replace.ts";
export { rewrapLayer, type RewrappedLayer, type RewrapRequest } from "./rewrap.ts";
export { openToFile, sealToFile, sealToStream, type LayerFileRequest, type LayerWorkRequest, type SealedStream } from "./files.ts";
export { padLayer, paddedSize, padmeSize } from "./padding.ts";
