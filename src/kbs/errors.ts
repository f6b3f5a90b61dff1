import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const kbsErrors = {
  ERR_KBS_URI_MALFORMED: { category: "usage", summary: "A resource URI or path is not kbs:///repository/type/tag." },
  ERR_KBS_CONFIG_INVALID: { category: "usage", summary: "The configuration of a Key Broker Service, or of a client of it, is not usable." },
  ERR_KBS_TRANSPORT_INSECURE: { category: "usage", summary: "Plain HTTP to a host that is not loopback was refused." },
  ERR_KBS_PACKAGE_MISSING: { category: "usage", summary: "An optional package that this feature needs is not installed." },
  ERR_KBS_UNREACHABLE: { category: "unavailable", summary: "The Key Broker Service could not be reached, or broke the connection." },
  ERR_KBS_OVERLOADED: { category: "unavailable", summary: "The Key Broker Service answered that it is busy or that its storage is away." },
  ERR_KBS_VERSION_UNSUPPORTED: { category: "attestation", summary: "Client and Key Broker Service share no protocol version." },
  ERR_KBS_ATTESTATION_REFUSED: { category: "attestation", summary: "The Key Broker Service refused the evidence." },
  ERR_KBS_EVIDENCE_INVALID: {
    category: "attestation",
    summary: "Evidence is malformed, or does not bind the nonce and key of this handshake.",
  },
  ERR_KBS_RELEASE_DENIED: { category: "denied", summary: "The resource policy does not release the resource to this guest." },
  ERR_KBS_ADMIN_DENIED: { category: "denied", summary: "The administration token was refused, or does not grant the action." },
  ERR_KBS_NOT_FOUND: { category: "not-found", summary: "The Key Broker Service does not hold the resource." },
  ERR_KBS_CONFLICT: { category: "denied", summary: "The object exists already, or changed since it was read." },
  ERR_KBS_REQUEST_REFUSED: { category: "usage", summary: "The Key Broker Service found the request malformed or too large." },
  ERR_KBS_RESPONSE_MALFORMED: { category: "integrity", summary: "An answer of the Key Broker Service does not follow the protocol." },
  ERR_KBS_RESPONSE_UNSEALED: {
    category: "integrity",
    summary: "The encrypted answer of the Key Broker Service could not be opened with the key of this handshake.",
  },
  ERR_KBS_REGISTRATION_UNPROVED: {
    category: "integrity",
    summary: "The Key Broker Service did not prove that it holds the value that was registered.",
  },
  ERR_KBS_KEY_UNAVAILABLE: { category: "no-key", summary: "A key version is disabled or destroyed." },
  ERR_KBS_STORE_CONFLICT: { category: "unavailable", summary: "Another writer changed the record first." },
  ERR_KBS_STORE_LOCKED: { category: "unavailable", summary: "Another process holds the store." },
  ERR_KBS_STORE_UNAVAILABLE: { category: "unavailable", summary: "The storage behind the Key Broker Service does not answer." },
  ERR_KBS_STORE_READ_ONLY: { category: "denied", summary: "The storage behind the Key Broker Service cannot be written." },
  ERR_KBS_STORE_FAILED: { category: "io", summary: "The storage behind the Key Broker Service failed." },
  ERR_KBS_RECORD_CORRUPT: {
    category: "integrity",
    summary: "A stored record is damaged, was moved, or was sealed under another root key.",
  },
  ERR_KBS_ROOT_KEY_UNUSABLE: {
    category: "no-key",
    summary: "The root key is missing, malformed, or not the one this store was sealed with.",
  },
  ERR_KBS_AUDIT_UNWRITABLE: { category: "unavailable", summary: "The audit log of the Key Broker Service cannot be written." },
  ERR_KBS_AUDIT_BROKEN: { category: "integrity", summary: "The audit log was edited, cut or reordered." },
  ERR_KBS_LISTEN_FAILED: { category: "io", summary: "The Key Broker Service could not listen on its address." },
} as const satisfies ErrorTable;

export type KbsErrorCode = keyof typeof kbsErrors;

/** Every failure of this room, on either side of the wire. */
export class KbsError extends ToolError<KbsErrorCode> {
  constructor(code: KbsErrorCode, facts: ErrorFacts) {
    super(code, kbsErrors[code].category, facts);
  }
}
