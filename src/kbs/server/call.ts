import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { Refusal } from "./refusal.ts";

/** What a client's certificate says about it. */
export interface ClientCertificate {
  readonly commonName: string;
  /** `URI:spiffe://…`, `DNS:…`, as Node prints subject alternative names. */
  readonly alternativeNames: readonly string[];
  /** SHA-256, lower-case hex. */
  readonly fingerprint: string;
}

/** One request, parsed as far as the router needs. */
export interface Call {
  readonly requestId: string;
  readonly method: string;
  /** Path without query, exactly as sent. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  /** Address of the caller; behind a trusted proxy, the one that it names. */
  readonly remote: string;
  /** The certificate of a client that one of the configured authorities vouches for. */
  readonly clientCertificate: ClientCertificate | undefined;
  /** The body, whole. Throws a `body-too-large` refusal. */
  body(maxBytes: number): Promise<Buffer>;
  /** The raw request, for the parts that need its socket. */
  readonly raw: IncomingMessage;
}

export interface Reply {
  readonly status: number;
  readonly headers?: OutgoingHttpHeaders | undefined;
  readonly body?: string | Buffer | undefined;
}

/** A JSON answer. */
export function jsonReply(value: unknown, headers: OutgoingHttpHeaders = {}): Reply {
  return { status: 200, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(value) };
}

const bearerScheme = /^Bearer +/i;
/** Source: RFC 6750 section 2.1, `b64token`. */
const bearerToken = /^[A-Za-z0-9._~+/-]+=*$/;

/** The token of an `Authorization: Bearer` header. */
export function bearerOf(call: Call): string | undefined {
  const text = call.headers.authorization ?? "";
  const scheme = bearerScheme.exec(text)?.[0];
  if (scheme === undefined) return undefined;
  const token = text.slice(scheme.length);
  return bearerToken.test(token) ? token : undefined;
}

/** The value of a cookie. */
export function cookieOf(call: Call, name: string): string | undefined {
  for (const part of (call.headers.cookie ?? "").split(";")) {
    const cookie = part.trim();
    if (cookie.startsWith(name) && cookie[name.length] === "=") return cookie.slice(name.length + 1);
  }
  return undefined;
}

/** Reads a body of bounded size. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  if (request.readableEnded) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let size = 0;
  // Listeners, not an iterator: for the small bodies of a handshake that would cost more than reading them.
  await new Promise<void>((resolve, reject) => {
    const early = (cause?: unknown): void => reject(new Refusal("request-malformed", "the body ended early", { cause }));
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      chunks.push(chunk);
      if (size <= maxBytes) return;
      request.off("data", take);
      request.pause();
      reject(tooLarge(maxBytes));
    };
    request.on("data", take);
    request.once("end", resolve);
    request.once("error", early);
    request.once("aborted", early);
  });
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, size);
}

function tooLarge(maxBytes: number): Refusal {
  return new Refusal("body-too-large", `the body is larger than the limit of ${maxBytes} bytes`);
}
