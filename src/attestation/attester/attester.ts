import type { TeeName } from "../tee.ts";
import type { JsonObject } from "./json.ts";

/** Bounds on one collection of evidence. */
export interface CollectOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Produces evidence about the guest that it runs in. RFC 9334 calls it the Attester.
 *
 * `collect` takes the bytes to bind (a digest of 48 bytes in RCAR; at most 64 for hardware TEEs), fits them to the
 * TEE's field itself, and gives the evidence as RCAR carries it (reference B 1.11). It throws `ERR_REPORT_DATA_LENGTH`,
 * `ERR_ATTESTER_UNAVAILABLE` or `ERR_ATTESTER_FAILED`. One attester may be asked many times, one call at a time.
 */
export interface Attester {
  readonly tee: TeeName;
  collect(reportData: Uint8Array, options?: CollectOptions): Promise<JsonObject>;
}
