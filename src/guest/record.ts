import type { Digest } from "../bytes/index.ts";
import type { PullReport } from "./pull-image.ts";

/** What a pull did, for whoever audits it later: plain JSON, no secrets, no times but the given one. */
export interface PullRecord {
  readonly version: 1;
  /** RFC 3339. */
  readonly time: string;
  readonly source: string;
  /** Digest of what the name pointed at: a manifest or an index. */
  readonly resolved: Digest;
  readonly manifest: Digest;
  readonly signature: {
    readonly basis: "signed" | "accepted-unsigned";
    /** Digest of the manifest or index that the signatures are of. */
    readonly of: Digest;
    readonly by: readonly { readonly location: string; readonly format: string; readonly signatory: unknown; readonly logged: unknown }[];
    readonly policy: unknown;
  };
  readonly layers: PullReport["layers"];
  readonly measurement: PullReport["measurement"];
  readonly result: PullReport["result"];
}

/** The record of a pull. */
export function recordOf(report: PullReport, now: Date): PullRecord {
  const { image, source, layers, measurement, result } = report;
  const { signature } = image;
  return {
    version: 1,
    time: now.toISOString(),
    source,
    resolved: image.target.digest,
    manifest: image.manifest.digest,
    signature: {
      basis: signature.basis,
      of: signature.target.digest,
      by: signature.signatures.map(({ location, format, signatory, evidence }) => ({ location, format, signatory, logged: evidence })),
      policy: signature.policy ?? null,
    },
    layers,
    measurement,
    result,
  };
}
