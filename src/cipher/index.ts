/** Layer ciphers: encryption and decryption of blobs, size arithmetic, ranges. */
export { cipherErrors, CipherError } from "./errors.ts";
export {
  ciphers,
  cipherNames,
  isCipherName,
  parseCipherName,
  parseCipherSpelling,
  type CipherName,
  type CipherSpelling,
  type Engine,
} from "./names.ts";
export { ciphertextSize, plaintextSize } from "./sizes.ts";
export { checkPrivateOptions, checkPublicOptions, type CipherOptions, type PrivateOptions, type PublicOptions } from "./options.ts";
export { newEncryption, type EncryptionRequest, type LayerEncryption } from "./encryption.ts";
export { newDecryption, type BlobOpener, type ByteRange, type DecryptionRequest, type LayerDecryption } from "./decryption.ts";
export type { ConvergentRequest } from "./kdf.ts";
export {
  decryptToFile,
  encryptToFile,
  encryptToStream,
  type DecryptedContent,
  type DecryptRequest,
  type EncryptedContent,
  type FileRequest,
  type LayerSource,
  type LayerWorkRequest,
} from "./files.ts";
export { endThread } from "./end-thread.ts";
export { minorCollector } from "./minor-collector.ts";
export { hashingFor } from "./thread-hasher.ts";
export { CipherThreads, type CipherThreadsRequest } from "./threads.ts";
export { uncompressedHasher, type Compression, type UncompressedHasher } from "./uncompressed.ts";
export { ZstdFrameSplitter } from "./zstd-frames.ts";
