/** One interface for everything that holds images, so that copying, signing and pulling are written once. */
export { checkSignal, CopyError, ioError, storeErrors, StoreError, type CopySide } from "./errors.ts";
export type {
  BlobSource,
  CallOptions,
  ContentReader,
  ContentStore,
  ContentWriter,
  FetchOptions,
  IngestRequest,
  PushOutcome,
  ReferrersFilter,
} from "./content-store.ts";
export { bytesStream } from "./bytes-stream.ts";
export { ensureVerified, isVerifiedFor, markVerified, verifiedStream } from "./verified-stream.ts";
export { readBlob, readConfig, readDocument, readIndex, readManifest, type BlobReader, type StoredDocument } from "./read.ts";
export { asReferrer, companionSuffixes, fallbackTagOf, isReferrersTag, type ReferrerFacts } from "./referrers.ts";
export { BlobFiles, type BlobFilesRequest, type Durability, type StagedBlob } from "./blob-files.ts";
export { writeFileAtomic } from "./atomic-file.ts";
export { withFileLock } from "./file-lock.ts";
export { memoryStore } from "./memory-store.ts";
export { openLayout, type LayoutRequest, type LayoutStore } from "./layout-store.ts";
export { openOciArchive, type ArchiveRequest } from "./oci-archive.ts";
export { openDockerArchive, type DockerArchiveRequest } from "./docker-archive.ts";
export { openDir, type DirRequest } from "./dir-store.ts";
export type { ArchiveLimits } from "./open-tar.ts";
export { newLimiter, runAll, type Limiter } from "./limiter.ts";
export { copyGraph, graphLimits, type CopyRequest } from "./copy-graph.ts";
export type { CopyEvent, CopyOutcome, CopySummary } from "./copy-events.ts";
