import type { Digest } from "../bytes/index.ts";
import type { Descriptor } from "../oci/index.ts";

/** What became of a layer. */
export type LayerOutcome = "encrypted" | "decrypted" | "rewrapped" | "kept";

/** One layer of the final report. */
export interface LayerReport {
  /** Platform, or the start of the manifest's digest. */
  readonly image: string;
  /** Zero-based. */
  readonly position: number;
  readonly outcome: LayerOutcome;
  /** Why a layer was kept as it was. */
  readonly reason?: string;
  readonly cipher?: string;
  readonly recipients?: readonly string[];
  readonly source: LayerAddress;
  /** Digest of what was encrypted, where that is not the source: the padded layer. */
  readonly plaintext?: Digest;
  readonly result: LayerAddress;
}

export interface LayerAddress {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

export function addressOf({ mediaType, digest, size }: Descriptor): LayerAddress {
  return { mediaType, digest, size };
}

/** What encrypting, decrypting or rewrapping an image did. */
export interface ImageReport {
  readonly source: LayerAddress;
  /** The new root; the source's own with a dry run. */
  readonly result: LayerAddress;
  readonly layers: readonly LayerReport[];
  /** Nothing was written; the outcomes are what would be done. */
  readonly dryRun: boolean;
}
