import { ToolError, type ErrorFacts, type ErrorTable } from "../errors/index.ts";

export const registryErrors = {
  ERR_REGISTRY_UNREACHABLE: { category: "unavailable", summary: "A registry cannot be reached: name resolution, connection or reset." },
  ERR_REGISTRY_TIMEOUT: { category: "unavailable", summary: "A registry did not answer, or stopped sending, within the time limit." },
  ERR_REGISTRY_UNAVAILABLE: { category: "unavailable", summary: "A registry answers that it cannot work now (5xx)." },
  ERR_REGISTRY_RATE_LIMITED: { category: "unavailable", summary: "A registry asks for fewer requests (429) for longer than we wait." },
  ERR_REGISTRY_UPLOAD_BROKEN: {
    category: "unavailable",
    summary: "An upload broke and its source cannot be read again; the layer must be made again.",
  },
  ERR_REGISTRY_REFERRERS_CONTENDED: {
    category: "unavailable",
    summary: "Other writers kept replacing a referrers tag and our entry could not be made to stay.",
  },
  ERR_REGISTRY_TLS: { category: "denied", summary: "A TLS connection was refused: certificate, name or protocol." },
  ERR_REGISTRY_UNAUTHORIZED: { category: "denied", summary: "A registry wants credentials, or refuses those that it got (401)." },
  ERR_REGISTRY_FORBIDDEN: { category: "denied", summary: "The credentials do not allow this operation (403)." },
  ERR_REGISTRY_REALM_REFUSED: { category: "denied", summary: "A registry names a token service that its credentials must not go to." },
  ERR_REGISTRY_REDIRECT_REFUSED: { category: "denied", summary: "A registry redirects to a place that we do not follow it to." },
  ERR_REGISTRY_BLOCKED: { category: "denied", summary: "registries.conf blocks this registry or namespace." },
  ERR_REGISTRY_REFUSED: { category: "integrity", summary: "A registry refuses a request as wrong (4xx)." },
  ERR_REGISTRY_BLOB_UNKNOWN: {
    category: "integrity",
    summary: "A registry refuses a manifest because a blob or child manifest is missing.",
  },
  ERR_REGISTRY_MANIFEST_TOO_LARGE: { category: "integrity", summary: "A manifest is larger than registries accept." },
  ERR_REGISTRY_PROTOCOL: {
    category: "integrity",
    summary: "An answer does not follow the distribution specification; perhaps no registry answers there.",
  },
  ERR_REGISTRY_UNSUPPORTED: { category: "usage", summary: "A registry does not support the operation, for example deleting." },
  ERR_REGISTRY_NAME_MALFORMED: { category: "usage", summary: "A registry host, repository or tag is malformed." },
  ERR_REGISTRY_CONFIG_MALFORMED: { category: "usage", summary: "registries.conf, certs.d or a proxy setting is malformed." },
  ERR_REGISTRY_CLOSED: { category: "internal", summary: "The registry transport was used after it had been closed." },
  ERR_CREDENTIALS_MALFORMED: { category: "usage", summary: "A credentials file is malformed." },
  ERR_CREDENTIALS_UNREADABLE: { category: "io", summary: "A credentials file cannot be read or written." },
  ERR_CREDENTIAL_HELPER_FAILED: { category: "denied", summary: "A credential helper is missing, failed, or answered nonsense." },
} as const satisfies ErrorTable;

export type RegistryErrorCode = keyof typeof registryErrors;

/** Every failure of this room that is not "not found" (`ERR_STORE_NOT_FOUND`) or wrong content (`ERR_CONTENT_…`). */
export class RegistryError extends ToolError<RegistryErrorCode> {
  constructor(code: RegistryErrorCode, facts: ErrorFacts) {
    super(code, registryErrors[code].category, facts);
  }
}
