import { BytesError } from "../bytes/index.ts";
import { describeCause, ToolError } from "../errors/index.ts";
import { RegistryError, type RegistryErrorCode } from "./errors.ts";
import { redactText } from "./redact.ts";

/** Codes of Node.js and undici after which the same request can succeed, and the code that we report them under. */
const transient: Readonly<Record<string, "ERR_REGISTRY_UNREACHABLE" | "ERR_REGISTRY_TIMEOUT">> = {
  ECONNRESET: "ERR_REGISTRY_UNREACHABLE",
  ECONNREFUSED: "ERR_REGISTRY_UNREACHABLE",
  ECONNABORTED: "ERR_REGISTRY_UNREACHABLE",
  EPIPE: "ERR_REGISTRY_UNREACHABLE",
  ENETUNREACH: "ERR_REGISTRY_UNREACHABLE",
  ENETDOWN: "ERR_REGISTRY_UNREACHABLE",
  EHOSTUNREACH: "ERR_REGISTRY_UNREACHABLE",
  EHOSTDOWN: "ERR_REGISTRY_UNREACHABLE",
  EAI_AGAIN: "ERR_REGISTRY_UNREACHABLE",
  ETIMEDOUT: "ERR_REGISTRY_TIMEOUT",
  UND_ERR_SOCKET: "ERR_REGISTRY_UNREACHABLE",
  UND_ERR_PRX_CONN: "ERR_REGISTRY_UNREACHABLE",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "ERR_REGISTRY_UNREACHABLE",
  UND_ERR_CONNECT_TIMEOUT: "ERR_REGISTRY_TIMEOUT",
  UND_ERR_HEADERS_TIMEOUT: "ERR_REGISTRY_TIMEOUT",
  UND_ERR_BODY_TIMEOUT: "ERR_REGISTRY_TIMEOUT",
  ERR_REGISTRY_STALLED: "ERR_REGISTRY_TIMEOUT",
};

/** The code of whatever Node.js or undici threw; of the first inner error where several addresses were tried. */
function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  if ("code" in error && typeof error.code === "string") return error.code;
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  return "";
}

/** Whether repeating may help. Errors of ours are judged by their code. */
export function isTransient(error: unknown): boolean {
  if (error instanceof RegistryError) return error.code === "ERR_REGISTRY_UNREACHABLE" || error.code === "ERR_REGISTRY_TIMEOUT";
  return !(error instanceof ToolError) && codeOf(error) in transient;
}

const unknownIssuer: ReadonlySet<string> = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
]);

/** Whether a handshake failed only because the certificate's issuer is not among the trusted ones. */
export function isUnknownIssuer(error: unknown): boolean {
  return unknownIssuer.has(codeOf(error));
}

/** Whether an answer or the network says "not now": the work can be begun again after a pause. */
export function isPassing(error: unknown): boolean {
  return (
    isTransient(error) ||
    (error instanceof RegistryError && (error.code === "ERR_REGISTRY_UNAVAILABLE" || error.code === "ERR_REGISTRY_RATE_LIMITED"))
  );
}

/** Turns what Node.js or undici threw into an error of ours. `what` says which request: "GET /v2/… at host". */
export function networkError(error: unknown, what: string, signal: AbortSignal | undefined): ToolError {
  if (error instanceof ToolError) return error;
  if (signal?.aborted === true) {
    return signal.reason instanceof ToolError
      ? signal.reason
      : new BytesError("ERR_INTERRUPTED", { message: `${what} was interrupted`, cause: signal.reason });
  }
  const code = codeOf(error);
  const text = redactText(describeCause(error instanceof AggregateError ? (error.errors[0] ?? error) : error));
  const refused = proxyRefusal(text, what, error);
  if (refused !== undefined) return refused;
  const known = transient[code];
  if (known === "ERR_REGISTRY_TIMEOUT") {
    return new RegistryError(known, {
      message: `${what} took too long (${text})`,
      cause: error,
      hint: "check the network and the registry's load, then run the same command again",
    });
  }
  if (code === "ENOTFOUND") {
    return new RegistryError("ERR_REGISTRY_UNREACHABLE", {
      message: `${what}: the host name does not exist (${text})`,
      cause: error,
      hint: "check the spelling of the host in the image name, and the DNS settings",
    });
  }
  if (known !== undefined) {
    return new RegistryError(known, {
      message: `${what} failed (${text})`,
      cause: error,
      hint: "check that the registry runs and that the network (or proxy) lets you reach it",
    });
  }
  if (/^(ERR_TLS_|ERR_SSL_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|EPROTO$|ERR_OSSL_|HOSTNAME_MISMATCH|UND_ERR_PRX_TLS)/.test(code)) {
    // Behind the semicolon Node.js advises its own flags.
    const [reason = text] = text.split(";");
    return new RegistryError("ERR_REGISTRY_TLS", { message: `${what}: TLS was refused (${reason})`, cause: error, hint: tlsHint(code) });
  }
  if (code.startsWith("HPE_") || code === "UND_ERR_HEADERS_OVERFLOW") {
    return new RegistryError("ERR_REGISTRY_PROTOCOL", {
      message: `${what}: the answer is not proper HTTP (${text})`,
      cause: error,
      hint: "check host and port: something else than a registry may answer there",
    });
  }
  return new RegistryError("ERR_REGISTRY_UNREACHABLE", { message: `${what} failed (${text})`, cause: error });
}

/** A proxy that will not open a tunnel says so with a status, which undici only puts into its message. */
const proxyRefusals: ReadonlyMap<string, { readonly code: RegistryErrorCode; readonly what: string; readonly hint: string }> = new Map([
  [
    "407",
    {
      code: "ERR_REGISTRY_UNAUTHORIZED",
      what: "the proxy wants credentials, or others (407)",
      hint: "put user and password into the proxy's URL, or leave the host out with NO_PROXY",
    },
  ],
  [
    "403",
    {
      code: "ERR_REGISTRY_FORBIDDEN",
      what: "the proxy does not allow this host (403)",
      hint: "ask whoever runs the proxy, or leave the host out with NO_PROXY",
    },
  ],
]);

function proxyRefusal(text: string, what: string, cause: unknown): RegistryError | undefined {
  const refusal = proxyRefusals.get(/^Proxy response \((\d{3})\)/.exec(text)?.[1] ?? "");
  if (refusal === undefined) return undefined;
  return new RegistryError(refusal.code, { message: `${what}: ${refusal.what}`, cause, hint: refusal.hint });
}

function tlsHint(code: string): string {
  if (code === "EPROTO" || code.startsWith("ERR_SSL_WRONG_VERSION")) {
    return "the registry seems to speak plain HTTP; allow that for this host with --plain-http if you mean it";
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "the certificate is for another name; use the name that it carries";
  if (code === "CERT_HAS_EXPIRED") return "the registry's certificate has expired; its owner must renew it";
  return "if the registry uses its own CA, give it with --tls-ca or put it into certs.d";
}
