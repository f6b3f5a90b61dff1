import type { JsonObject } from "./attester/json.ts";
import type { Finding } from "./findings.ts";
import type { TeeName } from "./tee.ts";

/** Intel's status words, in the spelling of the 2026 quote verification library. AMD has none. */
export type TcbStatus =
  | "UpToDate"
  | "SWHardeningNeeded"
  | "ConfigurationNeeded"
  | "ConfigurationAndSWHardeningNeeded"
  | "OutOfDate"
  | "OutOfDateConfigurationNeeded"
  | "TDRelaunchAdvised"
  | "TDRelaunchAdvisedConfigurationNeeded"
  | "Revoked";

/** Evidence that holds: every signature, chain, list and binding. What it says still has to be appraised against a policy. */
export interface Verified {
  readonly verdict: "accept";
  readonly tee: TeeName;
  /** Converged status of platform, module and quoting enclave; `undefined` for TEEs whose vendor publishes none. */
  readonly tcbStatus: TcbStatus | undefined;
  readonly advisoryIds: readonly string[];
  /** Claims under the names of Trustee's verifiers, plus `debug` and `secureBoot` (`null`: not proved either way). */
  readonly claims: JsonObject;
  /** The bytes that the evidence binds, whole field. */
  readonly reportData: Buffer;
  /** What the host configured: HOST_DATA, MRCONFIGID, CONFIGID. */
  readonly initData: Buffer | undefined;
  /** The facts that policies are appraised against, typed per TEE. */
  readonly detail: VerifiedDetail;
  /** Warnings and notes. */
  readonly findings: readonly Finding[];
}

/** Evidence that does not hold, with every reason that could be established. */
export interface Refused {
  readonly verdict: "reject";
  readonly tee: TeeName | undefined;
  readonly tcbStatus: TcbStatus | undefined;
  readonly advisoryIds: readonly string[];
  /** What the evidence says of itself. Nothing of it is proved; for display only. */
  readonly unverifiedClaims?: JsonObject | undefined;
  /** At least one of severity `refusal`. */
  readonly findings: readonly Finding[];
}

/** The outcome of verification, before policy. */
export type VerificationResult = Verified | Refused;

/** Facts per TEE. */
export type VerifiedDetail = { readonly kind: "sample" };
