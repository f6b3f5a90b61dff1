import type { ByteStream } from "../bytes/index.ts";
import type { ToolError } from "../errors/index.ts";
import { Authorizer, type AuthorizerTarget } from "./authorizer.ts";
import { RegistryError } from "./errors.ts";
import { networkError, isTransient } from "./network-errors.ts";
import type { ConnectionPurpose } from "./pools.ts";
import { nextHop } from "./redirects.ts";
import { redactText, redactUrl } from "./redact.ts";
import { discard, failureOf, readDocument } from "./replies.ts";
import { Backoff, parseRetryAfter, pause, transientStatuses } from "./retry.ts";
import type { Scopes } from "./scopes.ts";
import type { ReplyHeaders } from "./headers.ts";
import type { Method, RegistryTransport, Reply } from "./transport.ts";

/** A request to the registry about one repository. */
export interface Call {
  readonly method: Method;
  /** What follows `/v2/<repository>/`, already safe for a URL; or a location on the registry's own origin that it gave us. */
  readonly target: string | URL;
  /** The object, for messages. */
  readonly subject: string;
  readonly expect: readonly number[];
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Bytes can be sent again; a stream cannot, and its call is never repeated here. */
  readonly body?: Uint8Array | { readonly stream: ByteStream; readonly size: number | undefined } | undefined;
  /** Scopes that only this request needs. */
  readonly scopes?: Scopes | undefined;
  /** Unless told, `retry.attempts` tries; `once` for requests whose repetition the caller must decide. */
  readonly repeat?: "once" | undefined;
  readonly headersMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A small answer, read whole. */
export interface DocumentReply {
  readonly status: number;
  readonly headers: ReplyHeaders;
  readonly bytes: Buffer;
  readonly url: URL;
}

/** A streamed request met a 401, and a new token was obtained: the caller can start over from its source. */
export class FreshTokenNeeded extends RegistryError {
  constructor(subject: string) {
    super("ERR_REGISTRY_UPLOAD_BROKEN", {
      message: `${subject}: the registry wanted a new token in the middle of the upload, and the source cannot be read again`,
      hint: "run the same command again",
    });
  }
}

/** A repository, and for whose images it is a mirror. */
export interface ClientTarget extends AuthorizerTarget {
  /** The host that stands in the images' names; a proxy of several registries tells by it which is meant. */
  readonly namespace?: string | undefined;
}

/** Requests about one repository, with authorization, redirects, retries and limits. */
export class RepositoryClient {
  readonly transport: RegistryTransport;
  readonly repository: string;
  readonly origin: URL;
  readonly auth: Authorizer;
  readonly #purpose: ConnectionPurpose;
  readonly #namespace: string | undefined;

  constructor(target: ClientTarget) {
    this.#namespace = target.namespace;
    this.transport = target.transport;
    this.repository = target.repository ?? "";
    this.origin = target.access.origin;
    this.auth = new Authorizer(target);
    this.#purpose = { kind: "named", verify: target.access.verify };
  }

  /** The absolute URL of a path under `/v2/<repository>/`. Source of `ns`: distribution-spec, "Registry Proxying". */
  url(path: string): URL {
    const namespace = this.#namespace === undefined ? "" : `${path.includes("?") ? "&" : "?"}ns=${encodeURIComponent(this.#namespace)}`;
    return new URL(`/v2/${this.repository}/${path}${namespace}`, this.origin);
  }

  /** A request whose answer is small; the answer is read whole. */
  async document(call: Call, maxBytes: number): Promise<DocumentReply> {
    let release: (() => void) | undefined;
    try {
      release = await this.transport.enter(this.origin.origin, "other", call.signal);
      return await this.#repeat(call, async () => {
        const { documentMs } = this.transport.timeouts;
        // An upload takes the time that it takes, and is watched for stalls; its answer is as short as any other.
        const reply = await this.#send(call, isStream(call.body) ? undefined : (call.deadlineMs ?? documentMs));
        const bytes = await readDocument(reply, maxBytes, call.subject, documentMs);
        return { status: reply.status, headers: reply.headers, bytes, url: reply.url };
      });
    } catch (error) {
      throw about(call.subject, networkError(error, call.subject, call.signal));
    } finally {
      if (isStream(call.body)) call.body.stream.destroy();
      release?.();
    }
  }

  /**
   * A request whose answer is a blob; its body must be read or destroyed. The caller holds a place in the download lane
   * for as long as the whole transfer takes, breaks included.
   */
  async download(call: Call): Promise<Reply> {
    try {
      return await this.#repeat(call, () => this.#send(call, undefined));
    } catch (error) {
      throw about(call.subject, networkError(error, call.subject, call.signal));
    }
  }

  async #repeat<Result>(call: Call, attempt: () => Promise<Result>): Promise<Result> {
    const backoff = new Backoff(this.transport.retry);
    const { origin } = this.origin;
    for (;;) {
      const gateMs = this.transport.gate(origin) - Date.now();
      if (gateMs > this.transport.retry.budgetMs) throw gateClosed(call, gateMs);
      if (gateMs > 0) await pause(gateMs, call.signal);
      try {
        return await attempt();
      } catch (error) {
        const asked = error instanceof TransientAnswer ? error.askedMs : undefined;
        if (asked !== undefined) this.transport.closeGate(origin, Date.now() + asked);
        const repeatable = call.repeat !== "once" && !isStream(call.body) && (error instanceof TransientAnswer || isTransient(error));
        const waitMs = repeatable ? backoff.next(asked) : undefined;
        if (waitMs === undefined) throw error instanceof TransientAnswer ? error.failure : error;
        const reason = (error instanceof TransientAnswer ? error.failure : networkError(error, call.subject, call.signal)).message;
        this.transport.notify({ kind: "retry", host: this.origin.host, attempt: backoff.attempt, waitMs, reason });
        await pause(waitMs, call.signal);
      }
    }
  }

  /** One try: authorization with at most one renewal, redirects, and the check of the status. */
  async #send(call: Call, deadlineMs: number | undefined): Promise<Reply> {
    let authorization = await this.auth.authorize(call.scopes);
    let reply = await this.#follow(call, authorization.header, deadlineMs);
    if (reply.status === 401 && reply.url.origin === this.origin.origin) {
      // Read before a token is asked for: the token service of the same origin may need this very connection.
      const refusal = await this.#failureOf(reply, call);
      if ((await this.auth.learn(reply, authorization, call.scopes)) === "refused") throw refusal;
      if (isStream(call.body)) throw new FreshTokenNeeded(call.subject);
      authorization = await this.auth.authorize(call.scopes);
      reply = await this.#follow(call, authorization.header, deadlineMs);
    }
    if (call.expect.includes(reply.status)) return refuseEncoded(reply, call);
    const asked = parseRetryAfter(reply.headers.one("retry-after"), Date.now());
    const { status } = reply;
    const failure = await this.#failureOf(reply, call);
    throw transientStatuses.has(status) ? new TransientAnswer(failure, asked) : failure;
  }

  async #failureOf(reply: Reply, { method, subject }: Call): Promise<ToolError> {
    // An anonymous token is no login.
    const signedIn = await this.auth.signedIn();
    const { secrets, options } = this.transport;
    return failureOf(reply, { method, subject, signedIn, secrets, lookedIn: options.credentialPlaces });
  }

  async #follow(call: Call, authorization: string | undefined, deadlineMs: number | undefined): Promise<Reply> {
    const { method, body } = call;
    const own = typeof call.target === "string" ? this.url(call.target) : call.target;
    let url = own;
    let purpose = this.#purpose;
    let header = authorization;
    for (let hops = 0; ; hops += 1) {
      const reply = await this.transport.exchange({
        method,
        url,
        purpose,
        // A compressed answer would be other bytes than the digest is of.
        headers: { "accept-encoding": "identity", ...call.headers, ...(header === undefined ? {} : { authorization: header }) },
        body: isStream(body) ? body.stream : body,
        size: isStream(body) ? body.size : undefined,
        headersMs: call.headersMs ?? this.transport.timeouts.headersMs,
        deadlineMs,
        signal: call.signal,
      });
      const next = nextHop(reply, { method, hops, subject: call.subject });
      if (next === undefined) return reply;
      await discard(reply);
      // Once away from the registry's own origin nothing of ours goes along, not even when the way leads back.
      if (next.origin !== url.origin || purpose.kind === "pointed-to") {
        purpose = { kind: "pointed-to", from: await this.transport.reach(this.origin) };
        header = undefined;
      }
      url = next;
    }
  }
}

/** The same error, saying which object of which registry it was about: a connection or a token service knows neither. */
function about(subject: string, error: ToolError): ToolError {
  if (!(error instanceof RegistryError) || error.message.includes(subject)) return error;
  const { code, hint, details, cause } = error;
  return new RegistryError(code, { message: `${subject}: ${error.message}`, hint, details, cause });
}

/** A digest is of the stored bytes; an answer that was compressed on the way (some proxies do, unasked) is other bytes. */
function refuseEncoded(reply: Reply, call: Call): Reply {
  const encoding = reply.headers.one("content-encoding") ?? "identity";
  if (call.method === "HEAD" || encoding.toLowerCase() === "identity") return reply;
  reply.body.destroy();
  throw new RegistryError("ERR_REGISTRY_PROTOCOL", {
    message: `${call.subject}: the answer is encoded (${redactText(encoding, 40)}) although we did not accept that`,
    hint: "switch compression off in the proxy before the registry",
  });
}

/** A status that may go away; internal to the retry loop. */
class TransientAnswer extends Error {
  readonly failure: Error;
  readonly askedMs: number | undefined;

  constructor(failure: Error, askedMs: number | undefined) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.askedMs = askedMs;
  }
}

function isStream(body: Call["body"]): body is { readonly stream: ByteStream; readonly size: number | undefined } {
  return body !== undefined && !(body instanceof Uint8Array);
}

function gateClosed(call: Call, gateMs: number): RegistryError {
  const where = typeof call.target === "string" ? call.subject : redactUrl(call.target);
  return new RegistryError("ERR_REGISTRY_RATE_LIMITED", {
    message: `${where}: the registry asked to wait ${Math.ceil(gateMs / 1000)} s more`,
    hint: "wait that long, or log in: signed-in accounts usually have a higher limit",
  });
}
