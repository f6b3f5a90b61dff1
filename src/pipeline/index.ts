/** Whole images: encrypt, decrypt, rewrap, describe. */
export { pipelineErrors, PipelineError } from "./errors.ts";
export { encryptImage, type EncryptRequest } from "./encrypt-image.ts";
export { decryptImage, type DecryptRequest } from "./decrypt-image.ts";
export { rewrapImage, type RewrapImageRequest, type RewrapReport } from "./rewrap-image.ts";
export {
  describeImage,
  type ClearContent,
  type ImageDescription,
  type LayerDescription,
  type PlatformDescription,
} from "./describe-image.ts";
export type { Destination } from "./finish.ts";
export { imagesOf, labelOf, readImageTree, type ImageNode, type ManifestNode } from "./image-tree.ts";
export { lintImage, requireProfile, type LintFinding, type LintProfile } from "./lint-image.ts";
export { readLayer, type ReadLayerRequest } from "./read-layer.ts";
export { chosenPositions, parseLayerChoice, type LayerChoice } from "./select-layers.ts";
export type { ImageReport, LayerAddress, LayerOutcome, LayerReport } from "./layer-report.ts";
