/** One interface for everything that holds images, so that copying, signing and pulling are written once. */
export { storeErrors, StoreError } from "./errors.ts";
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
