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
  ReadOptions,
  ReferrersFilter,
  TakesBack,
} from "./content-store.ts";
export { bytesStream } from "./bytes-stream.ts";
export { ensureVerified, isVerifiedFor, markVerified, verifiedStream } from "./verified-stream.ts";
export { readBlob, readConfig, readDocument, readIndex, readManifest, type BlobReader, type StoredDocument } from "./read.ts";
export { asReferrer, companionSuffixes, fallbackTagOf, isReferrersTag, type ReferrerFacts } from "./referrers.ts";
export { BlobFiles, type BlobFilesRequest, type Durability, type StagedBlob } from "./disk/blob-files.ts";
export { writeFileAtomic } from "./disk/atomic-file.ts";
export { withFileLock } from "./disk/file-lock.ts";
export { memoryStore } from "./memory-store.ts";
export { openLayout, type LayoutRequest, type LayoutStore } from "./disk/layout-store.ts";
export { openOciArchive, type ArchiveRequest } from "./archive/oci-archive.ts";
export { openDockerArchive, type DockerArchiveRequest } from "./archive/docker-archive.ts";
export { openDir, type DirRequest } from "./disk/dir-store.ts";
export type { ArchiveLimits } from "./archive/open-tar.ts";
export { newLimiter, runAll, type Limiter } from "./copy/limiter.ts";
export { copyGraph, graphLimits, type CopyRequest } from "./copy/copy-graph.ts";
export type { CopyEvent, CopyOutcome, CopySummary } from "./copy/copy-events.ts";
export { observeReader } from "./copy/observed-reader.ts";
export { selectPlatforms, type Selection } from "./copy/select-platforms.ts";
