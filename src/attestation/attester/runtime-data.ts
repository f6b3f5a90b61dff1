import { hash } from "node:crypto";
import { AttestationError } from "../errors.ts";
import type { TeeName } from "../tee.ts";
import { canonicalJson, type JsonObject, type JsonValue } from "./json.ts";

/** The guest's public key as RCAR carries it: exactly these members, or both sides hash different bytes. */
export type TeePubkey =
  | { readonly kty: "EC"; readonly crv: string; readonly alg: string; readonly x: string; readonly y: string }
  | { readonly kty: "RSA"; readonly alg: string; readonly n: string; readonly e: string }
  | { readonly kty: "AKP"; readonly alg: string; readonly pub: string };

/** What the RCAR versions hash. 0.1.x hashes what 0.2.0 does. */
export type RuntimeDataVersion = "0.2.0" | "0.3.0" | "0.4.0";

/** The statement that the evidence binds: who will receive the secret, for which challenge. */
export interface RuntimeData {
  readonly nonce: string;
  readonly teePubkey: TeePubkey;
  /** The JSON *text* of the additional devices' evidence; `""` when there is none. Only hashed since 0.3.0. */
  readonly additionalEvidence?: string | undefined;
}

const pubkeyMembers = {
  EC: ["kty", "crv", "alg", "x", "y"],
  RSA: ["kty", "alg", "n", "e"],
  AKP: ["kty", "alg", "pub"],
} as const;

/**
 * Checks a `tee-pubkey`: exactly the members that the server of the reference keeps when it rebuilds the object for
 * hashing. One member more (`use`, `kid`, `ext` of a WebCrypto export) and the two digests differ without a word, so it
 * is refused aloud. Throws `ERR_RUNTIME_DATA_MALFORMED`.
 */
export function parseTeePubkey(value: unknown): TeePubkey {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed("tee-pubkey is not a JSON object");
  const record = value as Readonly<Record<string, unknown>>;
  const kty = record["kty"];
  if (kty !== "EC" && kty !== "RSA" && kty !== "AKP") throw malformed('tee-pubkey has no kty of "EC", "RSA" or "AKP"');
  const members: readonly string[] = pubkeyMembers[kty];
  const unknown = Object.keys(record).filter((name) => !members.includes(name));
  if (unknown.length > 0) {
    throw malformed(
      `tee-pubkey has the extra member ${JSON.stringify(unknown[0])} (an ${kty} key has exactly ${members.join(", ")})`,
      "send the key with exactly these members: they are hashed into the evidence",
    );
  }
  for (const name of members) {
    if (typeof record[name] !== "string") throw malformed(`tee-pubkey has no text member ${JSON.stringify(name)}`);
  }
  return record as TeePubkey;
}

/**
 * The digest that the evidence must carry: SHA-384 (48 bytes) over the canonical JSON of the runtime data.
 *
 * Source: confidential-containers trustee, kbs_attestation_protocol.md 0.4.0; reference B 1.7.
 */
export function runtimeDataDigest(data: RuntimeData, version: RuntimeDataVersion): Buffer {
  const pubkey: JsonObject = { ...data.teePubkey };
  const object: JsonObject =
    version === "0.2.0"
      ? { nonce: data.nonce, "tee-pubkey": pubkey }
      : { "additional-evidence": data.additionalEvidence ?? "", nonce: data.nonce, "tee-pubkey": pubkey };
  return jsonDigest(object);
}

/** SHA-384 over the canonical JSON of any value: what the additional devices bind. */
export function jsonDigest(value: JsonValue): Buffer {
  return hash("sha384", canonicalJson(value), "buffer");
}

/** Sizes of the report data field, in bytes. The sample TEE carries the digest as it is. */
const fieldSizes: Readonly<Record<TeeName, number | "as-is">> = {
  tdx: 64,
  snp: 64,
  sgx: 64,
  "az-snp-vtpm": "as-is",
  "az-tdx-vtpm": "as-is",
  sample: "as-is",
  sampledevice: "as-is",
};

/**
 * Report data fitted to the field of a TEE: zero-padded at the end.
 *
 * Longer input is refused (`ERR_REPORT_DATA_LENGTH`), never cut: what is cut off would not be bound. (The reference's
 * server cuts silently.)
 */
export function reportDataField(tee: TeeName, data: Uint8Array): Buffer {
  const size = fieldSizes[tee];
  if (size === "as-is") return Buffer.from(data);
  if (data.length > size) {
    throw new AttestationError("ERR_REPORT_DATA_LENGTH", {
      message: `report data has ${data.length} bytes, the field of ${tee} holds ${size}`,
      hint: "hash the data first (SHA-384 or SHA-512) and bind the digest",
    });
  }
  const field = Buffer.alloc(size);
  field.set(data);
  return field;
}

function malformed(message: string, hint?: string): AttestationError {
  return new AttestationError("ERR_RUNTIME_DATA_MALFORMED", { message, hint });
}
