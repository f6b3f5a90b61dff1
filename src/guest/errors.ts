import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const guestErrors = {
  ERR_GUEST_TAR_MALFORMED: { category: "integrity", summary: "A layer's tar stream is malformed, ambiguous or cut." },
  ERR_GUEST_ENTRY_REFUSED: { category: "integrity", summary: "An entry of a layer breaks a safety rule; nothing of the image was kept." },
  ERR_GUEST_LIMIT_EXCEEDED: { category: "integrity", summary: "An image passed a limit on bytes, entries, depth, ratio or time." },
  ERR_GUEST_COMPRESSION_MALFORMED: {
    category: "integrity",
    summary: "A layer's gzip or zstd stream is malformed, cut, or not what its media type says.",
  },
  ERR_GUEST_LAYER_UNSUPPORTED: { category: "integrity", summary: "A layer has a media type that cannot be unpacked." },
  ERR_GUEST_DIFF_ID_MISMATCH: {
    category: "integrity",
    summary: "An uncompressed layer does not match its diffID in the image configuration.",
  },
  ERR_GUEST_CONFIG_REFUSED: { category: "integrity", summary: "The image configuration is malformed or would make an unsafe container." },
  ERR_GUEST_PLATFORM_MISMATCH: { category: "not-found", summary: "The image is for another platform than the one asked for." },
  ERR_GUEST_USER_UNKNOWN: { category: "integrity", summary: "The image's user or group is not in its own /etc/passwd or /etc/group." },
  ERR_GUEST_TARGET_EXISTS: { category: "io", summary: "The target of an unpack or pull already exists and is not an empty directory." },
  ERR_GUEST_RECORD_REFUSED: { category: "usage", summary: "The record of a pull was to be written into the target, or over a directory." },
  ERR_GUEST_STORAGE: { category: "io", summary: "The file system refused an operation while unpacking." },
  ERR_GUEST_MEASUREMENT: { category: "attestation", summary: "The pull could not be added to the guest's runtime measurements." },
  ERR_GUEST_HELPER_MISSING: { category: "io", summary: "A helper program for extended attributes or device nodes is missing or failed." },
  ERR_GUEST_SEAL_UNVERIFIABLE: { category: "integrity", summary: "A seal attestation was demanded and cannot be checked." },
} as const satisfies ErrorTable;

/** A failure of the guest room; nothing is left at the target when it is thrown. */
export class GuestError extends ToolError<keyof typeof guestErrors> {
  constructor(code: keyof typeof guestErrors, facts: ErrorFacts) {
    super(code, guestErrors[code].category, facts);
  }
}
