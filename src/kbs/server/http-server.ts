import { randomUUID } from "node:crypto";
import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions as TlsOptions } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { readBody, type Call, type ClientCertificate, type Reply } from "./call.ts";
import type { ClientAddress } from "./client-address.ts";
import type { ServerLimits } from "./limits.ts";
import { Refusal, refusalOf } from "./refusal.ts";

/** Certificates as PEM. */
export interface TlsMaterial {
  readonly certificate: string;
  readonly privateKey: string;
  /** Certificates of authorities whose clients are let in; asked for, not demanded. */
  readonly clientAuthorities?: string | undefined;
}

export interface HttpServerRequest {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsMaterial | undefined;
  readonly limits: ServerLimits;
  /** Answers one request; whatever it throws becomes an error body. */
  readonly answer: (call: Call) => Promise<Reply>;
  /** Who sent a request, when proxies stand before us. */
  readonly clientAddress: ClientAddress;
  /** The status of a refusal; its own one unless somebody compares us with Trustee. */
  readonly statusOf: (refusal: Refusal) => number;
  /** Hears of each finished request. */
  readonly observe: (event: RequestEvent) => void;
}

export interface RequestEvent {
  readonly call: Call;
  readonly status: number;
  readonly durationMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly refusal: Refusal | undefined;
}

export interface HttpServer {
  readonly address: AddressInfo;
  readonly connections: () => number;
  /** New certificates, for connections from now on. */
  reloadTls(tls: TlsMaterial): void;
  /** Takes no new requests, ends those under way, then returns. */
  close(graceMs: number): Promise<void>;
}

const maxDiscardMs = 500;
const maxDiscardedBytes = 8 << 20;
const requestIdGrammar = /^[A-Za-z0-9._-]{1,64}$/;
const traceparentGrammar = /^00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Listens. Throws `ERR_KBS_LISTEN_FAILED`. */
export async function startHttpServer(request: HttpServerRequest): Promise<HttpServer> {
  const { limits } = request;
  const options: ServerOptions = {
    maxHeaderSize: limits.maxHeadBytes,
    headersTimeout: limits.headTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, limits.headTimeoutMs),
    insecureHTTPParser: false,
  };
  const state = { closing: false };
  const listener = (message: IncomingMessage, response: ServerResponse) => void serveOne(request, state, message, response);
  const tls = request.tls;
  const server: Server =
    tls === undefined ? createPlainServer(options, listener) : createTlsServer({ ...options, ...tlsOptionsOf(tls) }, listener);
  server.maxConnections = limits.maxConnections;
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => answerBrokenRequest(error, socket));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new KbsError("ERR_KBS_LISTEN_FAILED", {
          message: `the Key Broker Service cannot listen on ${request.host}:${request.port}: ${describeCause(cause)}`,
          hint: "choose another address, or port 0 for a free one",
          cause,
        }),
      ),
    );
    server.listen(request.port, request.host, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new KbsError("ERR_KBS_LISTEN_FAILED", { message: "no address to listen on" });
  const open = new Set<Socket>();
  server.on("connection", (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  return {
    address,
    connections: () => open.size,
    reloadTls: (material) => {
      if ("setSecureContext" in server && typeof server.setSecureContext === "function") server.setSecureContext(tlsOptionsOf(material));
    },
    close: async (graceMs) => {
      state.closing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

function tlsOptionsOf(tls: TlsMaterial): TlsOptions {
  return {
    cert: tls.certificate,
    key: tls.privateKey,
    minVersion: "TLSv1.2",
    ...(tls.clientAuthorities === undefined ? {} : { ca: tls.clientAuthorities, requestCert: true, rejectUnauthorized: false }),
  };
}

async function serveOne(
  server: HttpServerRequest,
  state: { closing: boolean },
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const start = performance.now();
  // Kept here: a message whose peer went away has no socket any more.
  const { socket } = message;
  const call = callOf(server, message);
  let reply: Reply;
  let refusal: Refusal | undefined;
  try {
    if (state.closing) throw new Refusal("shutting-down", "the service is shutting down", { retryAfterSeconds: 1 });
    reply = await server.answer(call);
  } catch (error) {
    refusal = refusalOf(error);
    reply = replyOf(refusal, server.statusOf(refusal), call.requestId);
  }
  if (!message.complete) await discardRest(message);
  // A text goes out in one write with the head, a buffer in two.
  const body = reply.body ?? "";
  const responseBytes = Buffer.byteLength(body);
  const unread = !message.complete;
  response.writeHead(reply.status, {
    ...reply.headers,
    "content-length": responseBytes,
    "x-request-id": call.requestId,
    "cache-control": "no-store",
    "ociseal-kbs": "1",
    // Whoever did not get to send the whole body must not have its rest read as the next request.
    ...(unread || state.closing ? { connection: "close" } : {}),
  });
  // Latin-1 of what is ASCII is the same bytes, and written several times as fast.
  const encoding = typeof body === "string" && body.length === responseBytes ? "latin1" : "utf8";
  response.end(body, encoding);
  if (unread) response.once("finish", () => void (socket.destroyed || socket.destroySoon()));
  server.observe({
    call,
    status: reply.status,
    durationMs: performance.now() - start,
    requestBytes: Number(message.headers["content-length"] ?? 0),
    responseBytes,
    refusal,
  });
}

/**
 * Reads into nothing what a peer is still sending to somebody who will not read it. Closed at once, its kernel would be
 * told that nobody listens, and throw the answer away before the peer has seen it. Bounded: whoever sends more or more
 * slowly loses the connection.
 */
async function discardRest(message: IncomingMessage): Promise<void> {
  if (message.complete || message.destroyed) return;
  let left = maxDiscardedBytes;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, maxDiscardMs);
    const done = (): void => {
      clearTimeout(timer);
      resolve();
    };
    message.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    });
    message.once("end", done);
    message.once("error", done);
    message.once("close", done);
  });
  if (!message.complete) message.pause();
}

const noQuery = new URLSearchParams();

function callOf(server: HttpServerRequest, message: IncomingMessage): Call {
  const [path, query] = splitOnce(message.url ?? "", "?");
  let parsed: URLSearchParams | undefined;
  return {
    requestId: requestIdOf(message),
    method: message.method ?? "",
    path,
    // Most requests have none, and nobody looks.
    get query() {
      parsed ??= query === "" ? noQuery : new URLSearchParams(query);
      return parsed;
    },
    headers: message.headers,
    remote: server.clientAddress(message.socket.remoteAddress ?? "", headerText(message, "x-forwarded-for")),
    clientCertificate: certificateOf(message.socket),
    raw: message,
    body: (maxBytes) => readBody(message, maxBytes),
  };
}

/** The id that a proxy or a tracer gave the request, when it is harmless in a log line; a new one otherwise. */
function requestIdOf(message: IncomingMessage): string {
  const given = message.headers["x-request-id"];
  if (typeof given === "string" && requestIdGrammar.test(given)) return given;
  const trace = traceparentGrammar.exec(String(message.headers["traceparent"] ?? ""))?.[1];
  return trace ?? randomUUID();
}

function replyOf(refusal: Refusal, status: number, requestId: string): Reply {
  const retryAfter = refusal.retryAfterSeconds;
  return {
    status,
    headers: { "content-type": "application/json", ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }) },
    body: refusal.body(requestId),
  };
}

/** The certificate of a peer, when one of the configured authorities vouches for it. */
function certificateOf(socket: Socket): ClientCertificate | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  const commonName = /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? "";
  const alternativeNames = (certificate.subjectAltName ?? "").split(", ").filter((name) => name !== "");
  return { commonName, alternativeNames, fingerprint: certificate.fingerprint256.replaceAll(":", "").toLowerCase() };
}

function headerText(message: IncomingMessage, name: string): string | undefined {
  const value = message.headers[name];
  return Array.isArray(value) ? value.join(",") : value;
}

/** A request that never became one: too long a head, too slow, not HTTP. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const refusal =
    error.code === "HPE_HEADER_OVERFLOW"
      ? new Refusal("head-too-large", "the head of the request is too large")
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? new Refusal("request-timeout", "the request did not arrive in time")
        : new Refusal("request-malformed", "this is not HTTP/1.1");
  const body = refusal.body(randomUUID());
  const status = { 400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large" }[refusal.status] ?? "Bad Request";
  socket.end(
    `HTTP/1.1 ${refusal.status} ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function splitOnce(text: string, separator: string): readonly [string, string] {
  const index = text.indexOf(separator);
  return index < 0 ? [text, ""] : [text.slice(0, index), text.slice(index + 1)];
}
