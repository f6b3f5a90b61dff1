import { jsonDigest, runtimeDataDigest } from "../../attestation/index.ts";
import type { TeePublicKey } from "./tee-key.ts";

/** Protocol versions that both of our sides speak, best first. */
export const protocolVersions = ["0.4.0", "0.2.0"] as const;

export type ProtocolVersion = (typeof protocolVersions)[number];

/** What a guest binds to its evidence. */
export interface HandshakeData {
  readonly nonce: string;
  readonly teePublicKey: TeePublicKey;
  /** The JSON text of the evidence of further devices; empty when there are none. Part of the hash since 0.3.0. */
  readonly additionalEvidence: string;
}

/** The 48 bytes that the primary TEE reports. Source: CoCo, KBS attestation protocol, "runtime-data". */
export function primaryReportData(data: HandshakeData, version: ProtocolVersion): Buffer {
  const { nonce, teePublicKey: teePubkey, additionalEvidence } = data;
  return runtimeDataDigest({ nonce, teePubkey, additionalEvidence }, version);
}

/** The 48 bytes that additional devices report: nonce and key alone, for their evidence enters the primary's hash. */
export function deviceReportData(data: Pick<HandshakeData, "nonce" | "teePublicKey">): Buffer {
  return jsonDigest({ nonce: data.nonce, "tee-pubkey": { ...data.teePublicKey } });
}
