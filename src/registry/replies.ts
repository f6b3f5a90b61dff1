import { setImmediate } from "node:timers/promises";
import { collect } from "../bytes/index.ts";
import type { ToolError } from "../errors/index.ts";
import { StoreError } from "../store/index.ts";
import { RegistryError, type RegistryErrorCode } from "./errors.ts";
import { networkError } from "./network-errors.ts";
import { registryLimits } from "./options.ts";
import { redactText, type SentSecrets } from "./redact.ts";
import { parseRetryAfter } from "./retry.ts";
import type { Method, Reply } from "./transport.ts";

/** Ends an answer whose body nobody wants: read when it is short, so that the connection can be used again, else cut. */
export async function discard(reply: Reply): Promise<void> {
  const length = reply.method === "HEAD" ? 0 : reply.headers.contentLength();
  // docker-registry 2.8 announces the whole blob with a 416 and sends nothing.
  if (length !== undefined && length <= registryLimits.errorBody && reply.status !== 416) await readPrefix(reply);
  else {
    reply.body.destroy();
    await connectionIsFree();
  }
}

/** A small answer, whole. Throws `ERR_CONTENT_TOO_LARGE`, or what the network says. */
export async function readDocument(reply: Reply, maxBytes: number, subject: string, timeoutMs: number): Promise<Buffer> {
  const timer = setTimeout(() => reply.body.destroy(tooSlow(subject, timeoutMs)), timeoutMs);
  try {
    const bytes = await collect(reply.body, { maxBytes, subject });
    await connectionIsFree();
    return bytes;
  } catch (error) {
    throw networkError(error, `reading ${subject}`, undefined);
  } finally {
    clearTimeout(timer);
    reply.body.destroy();
  }
}

/**
 * undici takes a connection back one turn of the event loop after its answer has ended; who asks for one sooner gets
 * another connection opened.
 */
async function connectionIsFree(): Promise<void> {
  await setImmediate();
}

function tooSlow(subject: string, timeoutMs: number): RegistryError {
  return new RegistryError("ERR_REGISTRY_TIMEOUT", {
    message: `${subject}: the answer took longer than ${timeoutMs} ms`,
    hint: "check the network and the registry's load, then run the same command again",
  });
}

/** What failed, for the message. */
export interface FailureContext {
  readonly method: Method;
  /** The object: "manifest 1.0 of docker://localhost:5000/app". */
  readonly subject: string;
  /** Whether credentials were sent, which decides the hint of a 401. */
  readonly signedIn: boolean;
  /** Takes what we sent out of what the registry says. */
  readonly secrets: SentSecrets;
  /** Files in which credentials were looked for. */
  readonly lookedIn: readonly string[] | undefined;
}

interface WireError {
  readonly code: string;
  readonly text: string;
}

/** The error for an answer that was not what we asked for; reads its body (a few KiB at most) and ends it. */
export async function failureOf(reply: Reply, context: FailureContext): Promise<ToolError> {
  const { status } = reply;
  const { code, text } = await readWireError(reply, context.secrets);
  const said = [code, text].filter((part) => part !== "").join(": ");
  const message = `${context.subject}: ${context.method} was answered with ${status}${said === "" ? "" : ` (${said})`}`;
  const details = { status, ...(code === "" ? {} : { registryCode: code }), host: reply.url.host };
  if (status === 404) return notFound(said, code, context, details);
  const row = rowFor(status, code);
  const wait = parseRetryAfter(reply.headers.one("retry-after"), Date.now());
  const waitText = wait === undefined ? "" : `; the registry asks to wait ${Math.ceil(wait / 1000)} s`;
  const limit = status === 429 ? limitText(reply) : "";
  return new RegistryError(row.code, { message: `${message}${limit}${waitText}`, hint: hintFor(row, context), details });
}

function notFound(said: string, code: string, context: FailureContext, details: Readonly<Record<string, unknown>>): ToolError {
  const reason = said === "" ? "" : ` (${said})`;
  if (code.startsWith("BLOB_UPLOAD_")) {
    return new RegistryError("ERR_REGISTRY_UPLOAD_BROKEN", {
      message: `${context.subject}: the registry does not know the upload session any more${reason}`,
      hint: "run the same command again; what is uploaded already is not sent twice",
      details,
    });
  }
  const writing = context.method === "POST" || context.method === "PUT" || context.method === "PATCH";
  return new StoreError("ERR_STORE_NOT_FOUND", {
    message: `${context.subject} was not found${reason}`,
    details,
    hint: writing
      ? "check registry and repository; some registries want the repository to be created first"
      : "check registry, repository and tag; a private repository can look absent until you log in",
  });
}

/** How many requests a registry allows, where it says so. Source: Docker Hub, "Pull usage and limits": `100;w=21600`. */
function limitText(reply: Reply): string {
  const match = /^(\d{1,9})(?:;w=(\d{1,9}))?$/.exec(reply.headers.all("ratelimit-limit")[0] ?? "");
  if (match === null) return "";
  return `; its limit is ${match[1]} requests${match[2] === undefined ? "" : ` in ${Math.ceil(Number(match[2]) / 60)} min`}`;
}

interface FailureRow {
  readonly code: RegistryErrorCode;
  readonly hint: string | undefined;
}

const unexpected: FailureRow = {
  code: "ERR_REGISTRY_PROTOCOL",
  hint: "check host and port: what answers there does not behave as a registry",
};

/** By status; the registry's own code decides first where it says more. Source: distribution-spec, "Error Codes". */
const byStatus: Readonly<Record<number, FailureRow>> = {
  400: { code: "ERR_REGISTRY_REFUSED", hint: undefined },
  401: { code: "ERR_REGISTRY_UNAUTHORIZED", hint: undefined },
  403: { code: "ERR_REGISTRY_FORBIDDEN", hint: "use an account that has this right on the repository" },
  405: { code: "ERR_REGISTRY_UNSUPPORTED", hint: "this registry does not offer the operation, or it is switched off" },
  407: { code: "ERR_REGISTRY_UNAUTHORIZED", hint: "the proxy wants credentials: put them into its URL" },
  413: { code: "ERR_REGISTRY_REFUSED", hint: "the registry, or a proxy before it, limits the size of requests" },
  429: { code: "ERR_REGISTRY_RATE_LIMITED", hint: "wait, or log in: signed-in accounts usually have a higher limit" },
};

const byCode: Readonly<Record<string, FailureRow>> = {
  MANIFEST_BLOB_UNKNOWN: {
    code: "ERR_REGISTRY_BLOB_UNKNOWN",
    hint: "the registry lost, or never got, something that the manifest names; push again",
  },
  BLOB_UNKNOWN: {
    code: "ERR_REGISTRY_BLOB_UNKNOWN",
    hint: "the registry lost, or never got, something that the manifest names; push again",
  },
  DENIED: { code: "ERR_REGISTRY_FORBIDDEN", hint: "use an account that has this right on the repository" },
  TOOMANYREQUESTS: { code: "ERR_REGISTRY_RATE_LIMITED", hint: "wait, or log in: signed-in accounts usually have a higher limit" },
  UNSUPPORTED: { code: "ERR_REGISTRY_UNSUPPORTED", hint: "this registry does not offer the operation, or it is switched off" },
};

function rowFor(status: number, code: string): FailureRow {
  if (status === 401) return byStatus[401] ?? unexpected;
  const row = byCode[code] ?? byStatus[status];
  if (row !== undefined && status >= 400) return row;
  if (status >= 500)
    return { code: "ERR_REGISTRY_UNAVAILABLE", hint: "the registry has a problem of its own; try again later or tell its owner" };
  return status >= 400 ? { code: "ERR_REGISTRY_REFUSED", hint: undefined } : unexpected;
}

function hintFor(row: FailureRow, context: FailureContext): string | undefined {
  if (row.hint !== undefined || row.code !== "ERR_REGISTRY_UNAUTHORIZED") return row.hint;
  if (context.signedIn) return "the registry refuses these credentials for this repository; log in again, or ask for the right";
  const { lookedIn = [] } = context;
  const where = lookedIn.length === 0 ? "" : ` in ${lookedIn.join(", ")}`;
  return `no credentials were found for this registry${where}; log in first`;
}

/** Source: distribution-spec, "Error Codes": `{"errors":[{"code","message","detail"}]}`. */
async function readWireError(reply: Reply, secrets: SentSecrets): Promise<WireError> {
  const none = { code: "", text: "" };
  if (reply.status === 416 || reply.headers.mediaType() === "text/html") {
    await discard(reply);
    return none;
  }
  const bytes = await readPrefix(reply);
  try {
    const document = JSON.parse(bytes.toString("utf8")) as {
      readonly errors?: readonly unknown[];
      readonly details?: unknown;
      readonly message?: unknown;
    };
    const first = document.errors?.[0] as { readonly code?: unknown; readonly message?: unknown } | undefined;
    const text = first?.message ?? document.details ?? document.message;
    return {
      code: typeof first?.code === "string" && /^[A-Z0-9_]{1,64}$/.test(first.code) ? first.code : "",
      text: typeof text === "string" ? redactText(secrets.hide(text), 200) : "",
    };
  } catch {
    return { code: "", text: redactText(secrets.hide(bytes.toString("utf8")), 120) };
  }
}

/** An explanation that takes longer than this is not waited for. */
const errorBodyMs = 5000;

/** The beginning of a body that only explains a status; never fails. */
async function readPrefix(reply: Reply): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const timer = setTimeout(() => reply.body.destroy(), errorBodyMs);
  try {
    for await (const chunk of reply.body as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size >= registryLimits.errorBody) break;
    }
  } catch {
    // The status is the message; the text would only have explained it.
  } finally {
    clearTimeout(timer);
    reply.body.destroy();
  }
  await connectionIsFree();
  return Buffer.concat(chunks).subarray(0, registryLimits.errorBody);
}
