import { equalBytes } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import type { TeePublicKey } from "../protocol/tee-key.ts";
import { tees } from "../protocol/tee-names.ts";

/** What the token of another attestation service must say of the session that it is used in. */
export interface ForeignExpectation {
  readonly mode: "production" | "development";
  /** Whether a nonce is the one of the session; later, whether it is one that this service gave. */
  readonly isNonce: (nonce: string) => boolean;
  /** The key of the session's guest; unknown when a token comes back. */
  readonly teePublicKey?: TeePublicKey | undefined;
  /** The digests that the devices of the session report. */
  readonly reportData?: readonly Buffer[] | undefined;
}

const evidenceMember = "ear.veraison.annotated-evidence";
/** A TPM quote carries 32 bytes of the 48. Source: reference B 1.7. */
const minReportData = 32;

/**
 * Checks that a token which another service signed speaks of a challenge of ours: its service also judges evidence for
 * others, and a good token for their challenge must open nothing here. Every device must carry our nonce and one and the
 * same key, and where it gives its report data, the digest of both. A sample TEE is refused in production, whatever the
 * other service thinks of it. Throws `ERR_KBS_ATTESTATION_REFUSED`.
 */
export function requireOwnChallenge(claims: Readonly<Record<string, unknown>>, expected: ForeignExpectation): void {
  const devices = devicesOf(claims);
  if (devices.length === 0) throw refused("it says nothing of the challenge that the evidence answered");
  for (const { name, evidence, runtimeData } of devices) {
    if (expected.mode === "production" && isSample(evidence))
      throw refused(`${name} is a sample TEE, which proves nothing, or does not say what it is`);
    const nonce = memberAt(runtimeData, "nonce");
    if (typeof nonce !== "string" || !expected.isNonce(nonce)) throw refused(`${name} answered another challenge`);
    const key = memberAt(runtimeData, "tee-pubkey");
    if (!isObject(key) || !isSameKey(key, expected.teePublicKey ?? memberAt(devices[0]?.runtimeData, "tee-pubkey"))) {
      throw refused(`${name} is bound to another key`);
    }
    const reported = memberAt(evidence, "report_data");
    if (expected.reportData !== undefined && typeof reported === "string" && !reports(reported, expected.reportData)) {
      throw refused(`${name} reports other data than the digest of nonce and key`);
    }
  }
}

interface Device {
  readonly name: string;
  /** Claims of the TEE, with report data beside them. */
  readonly evidence: unknown;
  readonly runtimeData: unknown;
}

/** Devices of an EAR token, or the one of a former "simple" token. Source: Trustee, attestation-service, ear_token and simple. */
function devicesOf(claims: Readonly<Record<string, unknown>>): readonly Device[] {
  const { submods } = claims;
  if (isObject(submods)) {
    return Object.entries(submods).map(([name, submod]) => {
      const evidence = memberAt(submod, evidenceMember);
      return { name, evidence, runtimeData: memberAt(evidence, "runtime_data_claims") };
    });
  }
  const runtimeData = memberAt(claims, "customized_claims", "runtime_data");
  return runtimeData === undefined ? [] : [{ name: "the guest", evidence: claims["tcb-status"], runtimeData }];
}

/** Members are named after the TEE; in simple tokens flattened, `sample.svn`. */
function isSample(evidence: unknown): boolean {
  if (!isObject(evidence)) return true;
  return Object.keys(evidence).some((member) =>
    Object.entries(tees).some(([tee, { sample }]) => sample && (member === tee || member.startsWith(`${tee}.`))),
  );
}

function isSameKey(key: Readonly<Record<string, unknown>>, other: unknown): boolean {
  if (!isObject(other)) return false;
  const names = Object.keys(other);
  return Object.keys(key).length === names.length && names.every((name) => typeof key[name] === "string" && key[name] === other[name]);
}

/** Verifiers write hex or base64, zero-padded to the field of the TEE, or cut to it. */
function reports(text: string, digests: readonly Buffer[]): boolean {
  const bytes = /^(?:[0-9a-fA-F]{2})+$/.test(text) ? Buffer.from(text, "hex") : Buffer.from(text, "base64");
  return digests.some((digest) => {
    if (bytes.length < minReportData) return false;
    const size = Math.min(bytes.length, digest.length);
    return equalBytes(bytes.subarray(0, size), digest.subarray(0, size)) && bytes.subarray(size).every((byte) => byte === 0);
  });
}

function refused(why: string): KbsError {
  return new KbsError("ERR_KBS_ATTESTATION_REFUSED", { message: `the token of the attestation service is not for this challenge: ${why}` });
}
