/** Streams, digests, limits and strict decoding: what every other room does with bytes. */
export { bytesErrors, BytesError } from "./errors.ts";
export { compose, closeStream, streamOf, type ByteStage, type ByteStream, type Chunks } from "./compose.ts";
export {
  digestAlgorithmOf,
  digestOf,
  digestStage,
  encodedOf,
  hashHere,
  isDigest,
  newHasher,
  parseDigest,
  type ContentHasher,
  type ContentHashing,
  type Digest,
  type DigestAlgorithm,
} from "./digest.ts";
export { verifyContent, type ContentAddress } from "./verify-content.ts";
export { collect, limitBytes, observeBytes } from "./limits.ts";
export { decodeBase64, decodeBase64Url, encodeBase64, encodeBase64Url, decodeHex } from "./base64.ts";
export { derOfP256Signature, rawOfP256Signature } from "./ecdsa.ts";
export { parseJson, type JsonLimits } from "./json.ts";
export { equalBytes } from "./equal.ts";
export { foreignText } from "./foreign-text.ts";
export { withoutOaepRemark } from "./pkcs11-tool.ts";
