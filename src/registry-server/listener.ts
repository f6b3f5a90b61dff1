import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import type { ByteStage, Chunks } from "../bytes/index.ts";
import { describeCause } from "../errors/index.ts";
import { needsOf, type Principal } from "./auth.ts";
import type { Authenticator } from "./authenticator.ts";
import { assertMethod, dispatch } from "./dispatch.ts";
import type { Exchange, RegistryCore } from "./exchange.ts";
import {
  applyToReply,
  beforeHandling,
  ConnectionCut,
  requestStages,
  type Delivery,
  type FaultPlan,
  type FaultRequest,
} from "./fault-plan.ts";
import { operationOf, type FaultAction } from "./fault-rule.ts";
import type { ObservedRequest, RequestRecord } from "./options.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { Refusal } from "./refusal.ts";
import { emptyReply, refusalReply, sizeOfBody, type Reply } from "./reply.ts";
import { parseRoute, type Route } from "./route.ts";

interface ListenerParts {
  readonly core: RegistryCore;
  readonly faults: FaultPlan;
  readonly authenticator: Authenticator;
  readonly scheme: "http" | "https";
  readonly log: ((record: RequestRecord) => void) | undefined;
  readonly observe: ((request: ObservedRequest) => void) | undefined;
}

export interface Listener {
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  /** For `Expect: 100-continue`: the body is asked for only when a handler wants it. */
  readonly onRequestThatWaits: (request: IncomingMessage, response: ServerResponse) => void;
  readonly close: () => void;
}

const hostGrammar = /^(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;

/** Turns requests into exchanges, and replies into responses. */
export function newListener(parts: ListenerParts): Listener {
  const limiter = new RateLimiter(parts.core.quirks, parts.core.now);
  const stopping = new AbortController();
  const handle = (request: IncomingMessage, response: ServerResponse, waits: "waits" | "sends") => {
    // Kept apart: a request that was destroyed has no socket any more.
    const { socket } = request;
    const served = new Request(parts, limiter, stopping.signal, request, response, waits);
    // Nothing may escape: a failure of one request must not end the server.
    served.serve().catch(() => socket.destroy());
  };
  return {
    onRequest: (request, response) => handle(request, response, "sends"),
    onRequestThatWaits: (request, response) => handle(request, response, "waits"),
    close: () => stopping.abort(),
  };
}

/** One request from its header to the end of the answer. */
class Request {
  readonly #parts: ListenerParts;
  readonly #limiter: RateLimiter;
  readonly #stopping: AbortSignal;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #socket: Socket;
  readonly #path: string;
  readonly #queryText: string;
  readonly #origin: string;
  #waits: "waits" | "sends";
  #failure: string | undefined;
  #code: string | undefined;

  constructor(
    parts: ListenerParts,
    limiter: RateLimiter,
    stopping: AbortSignal,
    request: IncomingMessage,
    response: ServerResponse,
    waits: "waits" | "sends",
  ) {
    this.#parts = parts;
    this.#limiter = limiter;
    this.#stopping = stopping;
    this.#request = request;
    this.#response = response;
    this.#socket = request.socket;
    this.#waits = waits;
    const target = request.url ?? "/";
    const mark = target.indexOf("?");
    this.#path = mark === -1 ? target : target.slice(0, mark);
    this.#queryText = mark === -1 ? "" : target.slice(mark + 1);
    const host = request.headers.host ?? "";
    this.#origin = `${parts.scheme}://${hostGrammar.test(host) ? host : `${request.socket.localAddress}:${request.socket.localPort}`}`;
  }

  async serve(): Promise<void> {
    const { method = "GET", headers, url = "/" } = this.#request;
    const socket = this.#socket;
    const startedAt = performance.now();
    this.#parts.observe?.({ method, url, headers, remotePort: socket.remotePort });
    let status = 0;
    try {
      const route = this.#route();
      const facts: FaultRequest = {
        method,
        path: this.#path,
        query: this.#queryText,
        origin: this.#origin,
        operation: route === undefined || route instanceof Refusal ? undefined : operationOf(method, route),
      };
      const actions = this.#parts.faults.actionsFor(facts);
      const raw = actions.find((action) => action.kind === "raw");
      if (raw !== undefined) {
        socket.end(raw.text);
        return;
      }
      const instead = await beforeHandling(actions, facts, (ms) => sleep(ms, this.#stopping));
      const reply = instead ?? (await this.#answer(route, actions));
      const delivery: Delivery =
        instead === undefined ? await applyToReply(actions, facts, reply) : { reply, stages: [], announcedSize: undefined };
      status = delivery.reply.status;
      await this.#send(delivery).catch(async (error: unknown) => {
        if (!(error instanceof Refusal) || this.#response.headersSent) throw error;
        status = error.status;
        this.#code = error.code;
        for (const header of this.#response.getHeaderNames()) this.#response.removeHeader(header);
        await this.#send({ reply: refusalReply(error), stages: [], announcedSize: undefined });
      });
    } catch (error) {
      this.#cut(error);
    } finally {
      const durationMs = Math.round(performance.now() - startedAt);
      this.#parts.log?.({ method, path: this.#path, status, durationMs, code: this.#code, failure: this.#failure });
    }
  }

  #route(): Route | undefined | Refusal {
    try {
      return parseRoute(this.#path);
    } catch (error) {
      if (error instanceof Refusal) return error;
      throw error;
    }
  }

  /** The registry's own answer; every failure becomes one. */
  async #answer(route: Route | undefined | Refusal, actions: readonly FaultAction[]): Promise<Reply> {
    try {
      if (route instanceof Refusal) throw route;
      if (route === undefined) return emptyReply(404, { "docker-distribution-api-version": "registry/2.0" });
      return await this.#handle(route, actions);
    } catch (error) {
      if (error instanceof ConnectionCut) throw error;
      if (error instanceof Refusal) {
        this.#code = error.code;
        return refusalReply(error);
      }
      // A client that went away is no failure of ours; nobody reads the answer.
      if (this.#request.destroyed && !this.#request.complete) throw new ConnectionCut("reset");
      this.#failure = describeCause(error);
      return refusalReply(new Refusal("UNSUPPORTED", { status: 500, message: "the registry failed; its log says why" }));
    }
  }

  async #handle(route: Route, actions: readonly FaultAction[]): Promise<Reply> {
    const { method = "GET", headers } = this.#request;
    assertMethod(method, route);
    const query = new URLSearchParams(this.#queryText);
    const { authenticator, core } = this.#parts;
    const auth = { method, authorization: headers.authorization, query, origin: this.#origin };
    const body = () => this.#body(requestStages(actions));
    if (route.kind === "token" && authenticator.issue !== undefined) return authenticator.issue(auth, body);
    const principal: Principal = await authenticator.authorize(auth, needsOf(method, route));
    const exchange: Exchange = {
      method,
      path: this.#path,
      query,
      headers: actions.some((action) => action.kind === "ignore-range") ? { ...headers, range: undefined } : headers,
      origin: this.#origin,
      principal: principal.user,
      mayPull: (repository) => principal.may({ repository, action: "pull" }),
      body,
    };
    const limits = this.#limiter.count(method, route, principal.user ?? this.#socket.remoteAddress ?? "");
    const reply = await dispatch(core, exchange, route, () => this.#request.destroy());
    return { ...reply, headers: { "docker-distribution-api-version": "registry/2.0", ...reply.headers, ...limits } };
  }

  #body(stages: readonly ByteStage[]): Chunks {
    if (this.#waits === "waits") {
      this.#waits = "sends";
      this.#response.writeContinue();
    }
    // A body that is refused in the middle must not take the connection with it: the answer has to go out.
    let chunks: Chunks = this.#request.iterator({ destroyOnReturn: false });
    for (const stage of stages) chunks = stage(chunks);
    return chunks;
  }

  async #send({ reply, stages, announcedSize }: Delivery): Promise<void> {
    const response = this.#response;
    if (response.destroyed) return;
    response.statusCode = reply.status;
    for (const [name, value] of Object.entries(reply.headers)) {
      if (value.length > 0) response.setHeader(name, typeof value === "string" ? value : [...value]);
    }
    const bodyless = reply.status === 204 || reply.status === 304;
    if (!bodyless && reply.headers["content-length"] === undefined)
      response.setHeader("content-length", announcedSize ?? sizeOfBody(reply.body));
    // A lie about the size must be able to leave the process.
    if (stages.length > 0) response.strictContentLength = false;
    // A body that nobody will read would hold the connection up.
    if (!this.#request.complete && this.#waits === "waits") response.setHeader("connection", "close");
    const { body } = reply;
    if (this.#request.method === "HEAD" || bodyless || (body.kind === "none" && stages.length === 0)) {
      response.end();
      return;
    }
    if (body.kind !== "stream" && stages.length === 0) {
      response.end(body.kind === "bytes" ? body.bytes : undefined);
      return;
    }
    if (body.kind === "stream" && stages.length === 0) {
      if (body.size > 0) await body.copyTo((piece) => this.#write(piece));
      response.end();
      return;
    }
    const pieces = body.kind === "bytes" ? [body.bytes] : [];
    const source = body.kind === "stream" && body.size > 0 ? await body.open() : Readable.from(pieces, { objectMode: false });
    response.flushHeaders();
    let chunks: Chunks = source;
    for (const stage of stages) chunks = stage(chunks);
    try {
      // Neither pipeline nor a joined stream: they drop what is on its way when a stage throws, and end the connection in
      // order before a rule can reset it.
      for await (const piece of chunks) await this.#write(piece);
    } finally {
      source.destroy();
    }
    response.end();
  }

  /** Settled when the piece has left for the kernel, so its memory is free again; fails when the connection is gone. */
  async #write(piece: Uint8Array): Promise<void> {
    const response = this.#response;
    await new Promise<void>((resolve, reject) => {
      const gone = () => reject(new ConnectionCut("reset"));
      if (response.destroyed) return gone();
      response.once("close", gone);
      response.write(piece, (error) => {
        response.off("close", gone);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  /** Ends the connection as a fault rule says, or because an answer broke off in the middle. */
  #cut(error: unknown): void {
    const socket = this.#socket;
    if (!(error instanceof ConnectionCut)) {
      if (!isClientGone(error)) this.#failure = describeCause(error);
      socket.destroy();
      return;
    }
    switch (error.how) {
      case "reset":
        socket.resetAndDestroy();
        return;
      case "close":
        socket.end();
        return;
      case "silence":
        // The server's idle timeout ends it, or its close.
        return;
    }
  }
}

function isClientGone(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    (error.code === "ERR_STREAM_PREMATURE_CLOSE" || error.code === "ECONNRESET" || error.code === "EPIPE")
  );
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
