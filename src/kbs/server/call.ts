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

/** The token of an `Authorization: Bearer` header. */
export function bearerOf(call: Call): string | undefined {
  const match = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(call.headers.authorization ?? "");
  return match?.[1];
}

/** The value of a cookie. */
export function cookieOf(call: Call, name: string): string | undefined {
  for (const part of (call.headers.cookie ?? "").split(";")) {
    const [key = "", ...value] = part.trim().split("=");
    if (key === name) return value.join("=");
  }
  return undefined;
}

/** Reads a body of bounded size. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    // Whoever sends too much is still to get an answer.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge(maxBytes);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof Refusal) throw cause;
    throw new Refusal("request-malformed", "the body ended early", { cause });
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(maxBytes: number): Refusal {
  return new Refusal("body-too-large", `the body is larger than the limit of ${maxBytes} bytes`);
}
