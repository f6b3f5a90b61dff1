import type { Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";

/** Entries that are being added to one tag by this process. */
export interface ReferrersBatch {
  readonly wanted: Map<Digest, Descriptor>;
  readonly done: Promise<void>;
}
