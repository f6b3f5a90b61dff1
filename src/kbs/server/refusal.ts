import { ToolError } from "../../errors/index.ts";
import { problemTypePrefix, wireErrors, type WireErrorCode } from "../protocol/wire-errors.ts";

/** A request that is answered with an error. The detail is shown to whoever asked. */
export class Refusal extends Error {
  readonly code: WireErrorCode;
  readonly detail: string;
  readonly reasons: readonly string[];
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: WireErrorCode,
    detail: string,
    more: { readonly reasons?: readonly string[]; readonly cause?: unknown; readonly retryAfterSeconds?: number } = {},
  ) {
    super(detail, { cause: more.cause });
    this.name = "Refusal";
    this.code = code;
    this.detail = detail;
    this.reasons = more.reasons ?? [];
    this.retryAfterSeconds = more.retryAfterSeconds;
  }

  get status(): number {
    return wireErrors[this.code].status;
  }

  /** The error body; `type` and `detail` are what real guests read. */
  body(requestId: string): string {
    const { type } = wireErrors[this.code];
    return JSON.stringify({
      type: `${problemTypePrefix}${type}`,
      detail: this.detail,
      code: this.code,
      request_id: requestId,
      ...(this.reasons.length === 0 ? {} : { reasons: this.reasons }),
    });
  }
}

/** The status that Trustee gives: 404 for an unknown path or plugin, 401 for everything else. Source: Trustee, kbs/src/error.rs. */
export function trusteeStatusOf(refusal: Refusal): number {
  const { type } = wireErrors[refusal.code];
  return type === "InvalidRequestPath" || type === "PluginNotFound" ? 404 : 401;
}

/** How an error of the parts below is answered. Anything unexpected is an internal error without detail. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!(error instanceof ToolError)) return new Refusal("internal-error", "internal error", { cause: error });
  switch (error.code) {
    case "ERR_JSON_MALFORMED":
    case "ERR_ENCODING_MALFORMED":
    case "ERR_KBS_REQUEST_REFUSED":
      return new Refusal("request-malformed", error.message, { cause: error });
    case "ERR_KBS_URI_MALFORMED":
      return new Refusal("path-malformed", error.message, { cause: error });
    case "ERR_KBS_VERSION_UNSUPPORTED":
      return new Refusal("protocol-version", error.message, { cause: error });
    case "ERR_KBS_EVIDENCE_INVALID":
      return new Refusal("evidence-refused", `Attestation error: RCAR handshake Attest failed: ${error.message}`, { cause: error });
    case "ERR_KBS_ATTESTATION_REFUSED":
      return new Refusal("token-invalid", `Token Verifier error: ${error.message}`, { cause: error });
    case "ERR_KBS_KEY_UNAVAILABLE":
      return new Refusal("key-disabled", error.message, { cause: error });
    case "ERR_KBS_NOT_FOUND":
      return new Refusal("object-not-found", error.message, { cause: error });
    case "ERR_KBS_CONFLICT":
      return new Refusal("resource-changed", error.message, { cause: error });
    case "ERR_KBS_STORE_READ_ONLY":
      return new Refusal("read-only", error.message, { cause: error });
    case "ERR_KBS_STORE_CONFLICT":
    case "ERR_KBS_STORE_UNAVAILABLE":
    case "ERR_KBS_STORE_LOCKED":
      return new Refusal(
        "storage-unavailable",
        "what this service stands on (storage, root key or token issuer) does not answer; try again",
        {
          cause: error,
          retryAfterSeconds: 1,
        },
      );
    default:
      // Policies are refused at upload with the place in their text, by whichever engine reads them.
      if (error.category === "usage") return new Refusal("policy-malformed", error.message, { cause: error });
      return error.category === "unavailable"
        ? new Refusal("overloaded", "a part of this service is not available; try again", { cause: error, retryAfterSeconds: 5 })
        : new Refusal("internal-error", "internal error", { cause: error });
  }
}
