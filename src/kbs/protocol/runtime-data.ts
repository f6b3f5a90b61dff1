import { createHash } from "node:crypto";
import { canonicalJson } from "./canonical-json.ts";
import type { TeePublicKey } from "./tee-key.ts";

/** Protocol versions that both of our sides speak, best first. */
export const protocolVersions = ["0.4.0", "0.2.0"] as const;

export type ProtocolVersion = (typeof protocolVersions)[number];

/** What a guest binds to its evidence. */
export interface RuntimeData {
  readonly nonce: string;
  readonly teePublicKey: TeePublicKey;
  /** The JSON text of the evidence of further devices; empty when there are none. Part of the hash since 0.3.0. */
  readonly additionalEvidence: string;
}

/**
 * The 48 bytes that the primary TEE reports: SHA-384 over the canonical JSON of nonce and key, since 0.3.0 with the
 * additional evidence. Source: CoCo, KBS attestation protocol, "runtime-data"; RFC 8785.
 */
export function primaryReportData(data: RuntimeData, version: ProtocolVersion): Buffer {
  const base = { nonce: data.nonce, "tee-pubkey": data.teePublicKey };
  return sha384(version === "0.2.0" ? base : { ...base, "additional-evidence": data.additionalEvidence });
}

/** The 48 bytes that additional devices report: nonce and key alone, for their evidence enters the primary's hash. */
export function deviceReportData(data: Pick<RuntimeData, "nonce" | "teePublicKey">): Buffer {
  return sha384({ nonce: data.nonce, "tee-pubkey": data.teePublicKey });
}

/** SHA-384 of the canonical JSON. */
export function sha384(value: unknown): Buffer {
  return createHash("sha384").update(canonicalJson(value)).digest();
}

/** Fits a digest to a TEE's field: zeros at the end, or cut. */
export function fitToField(digest: Uint8Array, size: number): Buffer {
  const field = Buffer.alloc(size);
  field.set(digest.subarray(0, size));
  return field;
}
