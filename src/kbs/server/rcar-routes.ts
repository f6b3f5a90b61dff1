import { parseResourcePath } from "../protocol/resource-path.ts";
import { parseAttestationRequest, parseAuthRequest, protocolPrefix, sessionCookieName } from "../protocol/messages.ts";
import { sealResponse } from "../protocol/response-jwe.ts";
import type { AttestationClaims } from "../tokens/attestation-tokens.ts";
import { bearerOf, cookieOf, jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal } from "./refusal.ts";
import type { Parameters, Route } from "./router.ts";
import type { Session } from "./sessions.ts";

/** The three steps of the handshake. Source: CoCo, KBS attestation protocol 0.4.0. */
export function rcarRoutes(context: ServiceContext): readonly Route[] {
  return [
    { method: "POST", pattern: `${protocolPrefix}/auth`, name: "auth", handle: (call) => challenge(context, call) },
    { method: "POST", pattern: `${protocolPrefix}/attest`, name: "attest", handle: (call) => attest(context, call) },
    {
      method: "GET",
      pattern: `${protocolPrefix}/resource/*path`,
      name: "resource",
      handle: (call, parameters) => release(context, call, parameters),
    },
  ];
}

async function challenge(context: ServiceContext, call: Call): Promise<Reply> {
  const request = parseAuthRequest(await call.body(context.limits.maxBodyBytes), { maxBytes: context.limits.maxBodyBytes });
  const session = context.sessions.begin(request, context.now());
  const cookie = context.sessions.cookieOf(session, context.transport);
  return jsonReply({ nonce: session.nonce, "extra-params": "" }, { "set-cookie": cookie });
}

async function attest(context: ServiceContext, call: Call): Promise<Reply> {
  const now = context.now();
  const session = requireSession(context, call, now);
  const body = await call.body(context.limits.maxBodyBytes);
  if (session.token !== undefined) return attested(context, session, session.token);
  const request = parseAttestationRequest(body, session.request.version, { maxBytes: context.limits.maxBodyBytes });
  const { token } = await context.attestation.attest({ session, request, now, maxBytes: context.limits.maxBodyBytes });
  return attested(context, context.sessions.attest(session, token, now), token);
}

function attested(context: ServiceContext, session: Session, token: string): Reply {
  return jsonReply({ token }, { "set-cookie": context.sessions.cookieOf(session, context.transport) });
}

function requireSession(context: ServiceContext, call: Call, now: Date): Session {
  const cookie = cookieOf(call, sessionCookieName);
  if (cookie === undefined) throw new Refusal("session-missing", "Attestation error: RCAR handshake Attest failed: no session cookie");
  const session = context.sessions.open(cookie, now);
  if (session === "malformed")
    throw new Refusal("session-missing", "Attestation error: RCAR handshake Attest failed: the session cookie is not of this service");
  if (session === "expired")
    throw new Refusal("session-expired", "Attestation error: RCAR handshake Attest failed: the session has expired");
  return session;
}

async function release(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const claims = await authorize(context, call);
  const path = parseResourcePath(parameters["path"] ?? "");
  const policy = await context.resourcePolicy();
  const decision = await policy.evaluate({
    plugin: "resource",
    resourcePath: [path.repository, path.type, path.tag],
    query: Object.fromEntries(call.query),
    claims: claims.claims,
    now: context.now(),
  });
  if (!decision.allow) throw new Refusal("policy-denied", "Access denied by policy", { reasons: decision.reasons });
  const found = await context.vault.read(path);
  // Only who may have it learns that it is not there.
  if (found === undefined) throw new Refusal("resource-not-found", "Plugin internal error: no such resource");
  return jsonReply(sealResponse(found.value, claims.teePublicKey));
}

/** The claims of an attested guest: of the cookie's session first, then of the bearer token. */
async function authorize(context: ServiceContext, call: Call): Promise<AttestationClaims> {
  const now = context.now();
  const cookie = cookieOf(call, sessionCookieName);
  const session = cookie === undefined ? undefined : context.sessions.open(cookie, now);
  const token = (typeof session === "object" ? session.token : undefined) ?? bearerOf(call);
  if (token === undefined) throw new Refusal("token-missing", "Attestation Token not found");
  return context.tokens.verify(token, now);
}
