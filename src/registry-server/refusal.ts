/**
 * Error codes on the wire with the status that goes with them unless a handler says otherwise.
 *
 * Source: OCI distribution-spec, "Error Codes".
 */
const statuses = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
} as const;

export type WireCode = keyof typeof statuses;

export interface RefusalFacts {
  readonly message: string;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly detail?: unknown;
}

/** One request refused: becomes an error document. Never leaves the room. */
export class Refusal extends Error {
  readonly code: WireCode;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly detail: unknown;

  constructor(code: WireCode, facts: RefusalFacts) {
    super(facts.message);
    this.name = "Refusal";
    this.code = code;
    this.status = facts.status ?? statuses[code];
    this.headers = facts.headers ?? {};
    this.detail = facts.detail;
  }
}

/** A text that a client sent, safe to repeat in a message: short, quoted, control characters escaped. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}...` : text);
}
