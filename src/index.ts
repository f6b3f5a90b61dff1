/**
 * Everything the command line can do, as a library. Each room is also a subpath of its own: `ociseal/registry`,
 * `ociseal/cipher`, `ociseal/keywrap`, `ociseal/keyprovider`, `ociseal/kbs`, `ociseal/attestation`, `ociseal/signing`, `ociseal/guest`.
 */
export { ToolError, InternalError, type ErrorCategory, type ErrorFacts } from "./errors/index.ts";
export type { ByteStream, ContentAddress, Digest } from "./bytes/index.ts";
export { formatImageName, parseImageName, parsePlatform, type Descriptor, type ImageName, type Platform } from "./oci/index.ts";
export { copyGraph, memoryStore, openLayout, type ContentStore } from "./store/index.ts";
export { copyImage, openImage, type OpenedImage } from "./transport/index.ts";
export { RegistryTransport } from "./registry/index.ts";
export {
  jweWrapper,
  kbsWrapper,
  keksAtHand,
  brokerUnwrapper,
  parsePrivateKey,
  parsePublicKey,
  privateKeyUnwrapper,
  type KeyUnwrapper,
  type KeyWrapper,
} from "./keywrap/index.ts";
export {
  decryptImage,
  describeImage,
  encryptImage,
  parseLayerChoice,
  rewrapImage,
  type DecryptRequest,
  type EncryptRequest,
  type ImageDescription,
  type ImageReport,
  type RewrapImageRequest,
} from "./pipeline/index.ts";
export { pullImage, unpackImage, type PullReport, type PullRequest, type UnpackReport, type UnpackRequest } from "./guest/index.ts";
export { loadPublicKey, loadSigner, signImage, signImageTree, verifyImage, type VerifiedSignature } from "./signing/index.ts";
export {
  decodeLayer,
  keyProvider,
  parsePayload,
  serveKeyProvider,
  type KeyProvider,
  type KeyProviderOptions,
} from "./keyprovider/index.ts";
