import { createSecureServer, createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { InternalError, ToolError } from "../../errors/index.ts";
import { KeyproviderError } from "../errors.ts";
import { orAborted } from "../kek-source.ts";
import type { KeyProvider } from "../provider.ts";
import type { ProviderOperation } from "../protocol.ts";
import { GrpcFailure, isGrpc, methods, readMessage, sendMessage, sendStatus } from "./call.ts";
import { checkAddress, startListening, type ProviderAddress, type ProviderTls } from "./listen.ts";
import { deadlineOf, grpcCodes, statusOf } from "./status.ts";

export interface ServeRequest {
  readonly listen: ProviderAddress;
  readonly tls?: ProviderTls | undefined;
  readonly provider: KeyProvider;
  /** Told how each call ended; never what it carried. */
  readonly log?: ((event: CallEvent) => void) | undefined;
  readonly limits?: Partial<ServeLimits> | undefined;
}

/** One call, as a log may show it. */
export interface CallEvent {
  readonly method: string;
  /** A code of gRPC's table; 0 is success. */
  readonly status: number;
  /** The code of the error, where there was one. */
  readonly code: string | undefined;
  readonly durationMs: number;
}

export interface ServeLimits {
  /** For one call, whatever deadline the caller sets. */
  readonly callMs: number;
  /** A connection without a call is closed after this time. */
  readonly idleMs: number;
  readonly maxCalls: number;
  readonly maxConnections: number;
  /** How long {@link KeyProviderServer.close} waits for calls under way. */
  readonly graceMs: number;
}

const defaults: ServeLimits = { callMs: 120_000, idleMs: 300_000, maxCalls: 128, maxConnections: 256, graceMs: 5000 };

/** A running service. */
export interface KeyProviderServer {
  /** As a key provider configuration names it: `127.0.0.1:50000` or `unix:///run/provider.sock`. */
  readonly target: string;
  /** Lets calls under way finish, for a while, and ends. */
  close(): Promise<void>;
}

/**
 * Serves a key provider over gRPC (HTTP/2): plain on loopback and sockets, with TLS where a certificate is given. Throws
 * `ERR_KEYPROVIDER_LISTEN` and system errors. Source: ocicrypt `keyprovider.proto`; gRPC over HTTP/2.
 */
export async function serveKeyProvider(request: ServeRequest): Promise<KeyProviderServer> {
  const { listen, tls, provider, log } = request;
  const limits = { ...defaults, ...request.limits };
  checkAddress(listen, tls);
  const settings = { maxConcurrentStreams: 64, enablePush: false, maxHeaderListSize: 16_384 };
  const server =
    tls === undefined
      ? createServer({ settings })
      : createSecureServer({
          settings,
          key: Buffer.from(tls.privateKey),
          cert: Buffer.from(tls.certificate),
          minVersion: "TLSv1.2",
          ALPNProtocols: ["h2"],
          ...(tls.clientAuthorities === undefined
            ? {}
            : { ca: Buffer.from(tls.clientAuthorities), requestCert: true, rejectUnauthorized: true }),
        });
  server.maxConnections = limits.maxConnections;
  const sessions = new Set<ServerHttp2Session>();
  const closing = new AbortController();
  let calls = 0;

  server.on("session", (session) => {
    sessions.add(session);
    session.setTimeout(limits.idleMs, () => session.close());
    session.once("close", () => sessions.delete(session));
    // A broken connection ends its calls through their own signals.
    session.on("error", () => undefined);
  });
  server.on("sessionError", () => undefined);
  server.on("stream", (stream, headers) => {
    const started = performance.now();
    const method = (headers[":path"] ?? "").slice(0, 120);
    const finish = (status: number, code?: string): void => log?.({ method, status, code, durationMs: performance.now() - started });
    stream.on("error", () => undefined);
    if (calls >= limits.maxCalls) {
      const refusal = new KeyproviderError("ERR_KEYPROVIDER_OVERLOADED", {
        message: `${calls} calls are under way, the limit`,
        hint: "call again a little later",
      });
      sendStatus(stream, statusOf(refusal));
      return finish(grpcCodes.unavailable, refusal.code);
    }
    calls += 1;
    void answerCall(stream, headers, { provider, callMs: limits.callMs, closing: closing.signal })
      .then(({ status, code }) => finish(status, code))
      .finally(() => (calls -= 1));
  });
  const target = await startListening(server, listen);

  return {
    target,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      const impatience = setTimeout(() => {
        closing.abort(new InternalError({ message: "the service is being stopped" }));
        for (const session of sessions) session.destroy();
      }, limits.graceMs);
      await closed;
      clearTimeout(impatience);
      provider.close();
    },
  };
}

interface CallSurroundings {
  readonly provider: KeyProvider;
  readonly callMs: number;
  readonly closing: AbortSignal;
}

interface CallEnd {
  readonly status: number;
  readonly code?: string;
}

async function answerCall(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, surroundings: CallSurroundings): Promise<CallEnd> {
  const refusal = refusalOf(stream, headers);
  if (refusal !== undefined) return refusal;
  const operation = methods.get(headers[":path"] ?? "");
  const deadlineMs = deadlineOf(headers["grpc-timeout"]?.toString(), surroundings.callMs);
  if (operation === undefined || deadlineMs === undefined) {
    const status =
      operation === undefined
        ? { code: grpcCodes.unimplemented, message: "the service has the methods WrapKey and UnWrapKey" }
        : { code: grpcCodes.invalidArgument, message: "grpc-timeout is malformed" };
    sendStatus(stream, status);
    return { status: status.code };
  }
  return runCall(stream, headers, { ...surroundings, operation, deadlineMs });
}

/** What is not gRPC at all is answered in HTTP. Source: gRPC over HTTP/2, "Requests". */
function refusalOf(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): CallEnd | undefined {
  if (headers[":method"] === "POST" && isGrpc(headers)) return undefined;
  const status = headers[":method"] === "POST" ? 415 : 405;
  stream.respond({ ":status": status }, { endStream: true });
  return { status: grpcCodes.internal, code: `HTTP ${status}` };
}

async function runCall(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  call: CallSurroundings & { readonly operation: ProviderOperation; readonly deadlineMs: number },
): Promise<CallEnd> {
  const gone = new AbortController();
  stream.once("close", () => gone.abort(new GrpcFailure(grpcCodes.cancelled, "the caller has left")));
  const deadline = setTimeout(
    () => gone.abort(new GrpcFailure(grpcCodes.deadlineExceeded, `the call took longer than ${call.deadlineMs} ms`)),
    call.deadlineMs,
  );
  const signal = AbortSignal.any([gone.signal, call.closing]);
  try {
    const request = await orAborted(readMessage(stream, headers), signal);
    const reply = await orAborted(call.provider.answer(request, { operation: call.operation, signal }), signal);
    if (stream.destroyed) return { status: grpcCodes.cancelled };
    sendMessage(stream, Buffer.from(reply, "utf8"));
    return { status: grpcCodes.ok };
  } catch (thrown) {
    const status = thrown instanceof GrpcFailure ? thrown.status : statusOf(thrown);
    sendStatus(stream, status);
    return { status: status.code, ...(thrown instanceof ToolError ? { code: thrown.code } : {}) };
  } finally {
    clearTimeout(deadline);
  }
}
