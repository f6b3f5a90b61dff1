import { parseJson } from "../bytes/index.ts";
import type { Credential } from "./credentials.ts";
import { RegistryError } from "./errors.ts";
import { readDocument, discard, failureOf } from "./replies.ts";
import { registryLimits } from "./options.ts";
import { redactUrl } from "./redact.ts";
import { Backoff, parseRetryAfter, pause, transientStatuses } from "./retry.ts";
import type { Token } from "./token-cache.ts";
import type { ConnectionPurpose } from "./pools.ts";
import type { RegistryTransport, Reply } from "./transport.ts";
import { isTransient } from "./network-errors.ts";

/** What a token service is asked. */
export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  readonly credential: Credential | undefined;
  readonly purpose: ConnectionPurpose;
  /** `content`: over the registry's own connections, whose number is bounded, because it is the token service itself. */
  readonly use: "content" | "token";
  /** Told when the service exchanges the refresh token for a new one. */
  readonly onRefreshToken: (token: string) => void;
}

const clientId = "ociseal";

/**
 * Gets a bearer token: GET with Basic (or nothing) as distribution's "Token Authentication Specification" says; POST
 * as its "Oauth2" page says for identity tokens, and where GET is not allowed. Redirects are not followed.
 */
export async function requestToken(transport: RegistryTransport, request: TokenRequest): Promise<Token> {
  if (request.credential?.kind === "identity-token") return readToken(transport, await ask(transport, request, "POST"), request);
  const reply = await ask(transport, request, "GET");
  if (reply.status !== 405 || request.credential === undefined) return readToken(transport, reply, request);
  await discard(reply);
  return readToken(transport, await ask(transport, request, "POST"), request);
}

async function ask(transport: RegistryTransport, request: TokenRequest, method: "GET" | "POST"): Promise<Reply> {
  const backoff = new Backoff(transport.retry);
  for (;;) {
    let asked: number | undefined;
    try {
      const reply = await send(transport, request, method);
      asked = parseRetryAfter(reply.headers.one("retry-after"), Date.now());
      if (!transientStatuses.has(reply.status)) return reply;
      const waitMs = backoff.next(asked);
      if (waitMs === undefined) return reply;
      await discard(reply);
      await pause(waitMs, undefined);
    } catch (error) {
      const waitMs = isTransient(error) ? backoff.next() : undefined;
      if (waitMs === undefined) throw error;
      await pause(waitMs, undefined);
    }
  }
}

function send(transport: RegistryTransport, request: TokenRequest, method: "GET" | "POST"): Promise<Reply> {
  const { credential, service, scopes } = request;
  const url = new URL(request.realm);
  const headers: Record<string, string> = { accept: "application/json", "accept-encoding": "identity" };
  let body: Uint8Array | undefined;
  if (method === "GET") {
    if (service !== undefined) url.searchParams.set("service", service);
    for (const scope of scopes) url.searchParams.append("scope", scope);
    if (credential?.kind === "basic") {
      url.searchParams.set("account", credential.username);
      headers["authorization"] = basicAuthorization(credential.username, credential.password);
    }
  } else {
    const form = new URLSearchParams({ client_id: clientId, scope: scopes.join(" ") });
    if (service !== undefined) form.set("service", service);
    if (credential?.kind === "identity-token") {
      form.set("grant_type", "refresh_token");
      form.set("refresh_token", credential.token);
    } else if (credential?.kind === "basic") {
      form.set("grant_type", "password");
      form.set("username", credential.username);
      form.set("password", credential.password);
    }
    body = Buffer.from(form.toString());
    headers["content-type"] = "application/x-www-form-urlencoded";
  }
  return transport.exchange({
    method,
    url,
    headers,
    body,
    purpose: request.purpose,
    use: request.use,
    headersMs: transport.timeouts.headersMs,
    deadlineMs: transport.timeouts.documentMs,
  });
}

async function readToken(transport: RegistryTransport, reply: Reply, request: TokenRequest): Promise<Token> {
  const where = `token service ${redactUrl(request.realm)}`;
  if (reply.status >= 300 && reply.status < 400) {
    await discard(reply);
    throw new RegistryError("ERR_REGISTRY_REDIRECT_REFUSED", {
      message: `${where} answers with a redirect (${reply.status}); credentials are not carried on`,
      hint: "tell the registry's owner: the realm must name the token service itself",
    });
  }
  if (reply.status !== 200) {
    const signedIn = request.credential !== undefined;
    const { secrets, options } = transport;
    throw await failureOf(reply, { method: "GET", subject: where, signedIn, secrets, lookedIn: options.credentialPlaces });
  }
  const document = parseJson(await readDocument(reply, registryLimits.tokenBody, where, transport.timeouts.documentMs), {
    maxBytes: registryLimits.tokenBody,
    subject: `answer of ${where}`,
  });
  const fields = typeof document === "object" && document !== null ? (document as Readonly<Record<string, unknown>>) : {};
  // Both are allowed; some services leave one of them empty.
  const value = fields["token"] === "" ? fields["access_token"] : (fields["token"] ?? fields["access_token"]);
  // Anything else in the value could smuggle a second header line into our requests.
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value)) {
    throw new RegistryError("ERR_REGISTRY_PROTOCOL", { message: `${where} answered without a usable token` });
  }
  transport.secrets.add(value);
  if (typeof fields["refresh_token"] === "string" && request.credential?.kind === "identity-token")
    request.onRefreshToken(fields["refresh_token"]);
  const seconds = typeof fields["expires_in"] === "number" && fields["expires_in"] >= 60 ? Math.min(fields["expires_in"], 86_400) : 60;
  // A tenth early, so that a token does not run out between our check and the registry's. The clock is ours alone:
  // `issued_at` is the server's idea of the time and is not needed.
  return { value, until: Date.now() + seconds * 900 };
}

/** Source: RFC 7617. */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}
