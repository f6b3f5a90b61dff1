/** How one refusal looks on the wire. */
export interface WireErrorRow {
  readonly status: number;
  /** The last part of Trustee's problem type, which real guests print. */
  readonly type: string;
}

/**
 * Every refusal that our server can answer. The `code` member is ours; real clients ignore it.
 *
 * Statuses are proper ones where Trustee says 401 to nearly everything: real guests stop at once on anything but 401,
 * and attest again on 401. Source: Trustee, kbs/src/error.rs, for the types.
 */
export const wireErrors = {
  "request-malformed": { status: 400, type: "SerdeError" },
  "path-malformed": { status: 400, type: "InvalidRequestPath" },
  "policy-malformed": { status: 400, type: "ParsePolicyError" },
  "protocol-version": { status: 401, type: "AttestationError" },
  "session-missing": { status: 401, type: "AttestationError" },
  "session-expired": { status: 401, type: "AttestationError" },
  "nonce-mismatch": { status: 401, type: "AttestationError" },
  "evidence-refused": { status: 401, type: "AttestationError" },
  "token-missing": { status: 401, type: "TokenNotFound" },
  "token-invalid": { status: 401, type: "TokenVerifierError" },
  "admin-token-missing": { status: 401, type: "AdminAuthAccess" },
  "admin-token-invalid": { status: 401, type: "AdminAuthAccess" },
  "admin-forbidden": { status: 403, type: "AdminAuthAccess" },
  "policy-denied": { status: 403, type: "PolicyDeny" },
  "key-disabled": { status: 403, type: "PolicyDeny" },
  "resource-not-found": { status: 404, type: "PluginInternalError" },
  "object-not-found": { status: 404, type: "PluginInternalError" },
  "plugin-not-found": { status: 404, type: "PluginNotFound" },
  "route-not-found": { status: 404, type: "InvalidRequestPath" },
  "method-not-allowed": { status: 405, type: "InvalidRequestPath" },
  "request-timeout": { status: 408, type: "HTTPFailed" },
  "resource-exists": { status: 409, type: "PluginInternalError" },
  "resource-changed": { status: 409, type: "PluginInternalError" },
  "body-too-large": { status: 413, type: "HTTPFailed" },
  "rate-limited": { status: 429, type: "HTTPFailed" },
  "head-too-large": { status: 431, type: "HTTPFailed" },
  "internal-error": { status: 500, type: "PluginInternalError" },
  "read-only": { status: 501, type: "PluginInternalError" },
  "storage-unavailable": { status: 503, type: "StorageBackendInitialization" },
  "audit-unavailable": { status: 503, type: "PluginInternalError" },
  overloaded: { status: 503, type: "HTTPFailed" },
  "shutting-down": { status: 503, type: "HTTPFailed" },
} as const satisfies Readonly<Record<string, WireErrorRow>>;

export type WireErrorCode = keyof typeof wireErrors;

/** Prefix of `type` in every error body. */
export const problemTypePrefix = "https://github.com/confidential-containers/kbs/errors/";
