import { memberAt } from "../protocol/shape.ts";
import { KbsError } from "../errors.ts";
import { digestOfEvidence, parseAttestationRequest, parseAuthRequest, protocolPrefix, sessionCookieName } from "../protocol/messages.ts";
import type { PolicyDecision, ReleaseInput, ResourcePolicy } from "../protocol/policy-seam.ts";
import { formatResourcePath, parseResourcePath } from "../protocol/resource-path.ts";
import { sealResponse } from "../protocol/response-jwe.ts";
import type { AttestationClaims } from "../tokens/attestation-tokens.ts";
import { audited, refusedStranger, type AuditNote } from "./audited.ts";
import { bearerOf, cookieOf, jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal, refusalOf } from "./refusal.ts";
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
    // Last of all routes: whatever else stands where a plugin's name would.
    {
      method: "GET",
      pattern: `${protocolPrefix}/:plugin/*path`,
      name: "plugin",
      handle: (call, parameters) => noPlugin(context, call, parameters),
    },
  ];
}

async function challenge(context: ServiceContext, call: Call): Promise<Reply> {
  context.metrics.authRequests();
  try {
    const request = parseAuthRequest(await call.body(context.limits.maxBodyBytes), { maxBytes: context.limits.maxBodyBytes });
    const session = context.sessions.begin(request, context.now());
    const cookie = context.sessions.cookieOf(session, context.transport);
    context.metrics.authSuccesses();
    return jsonReply({ nonce: session.nonce, "extra-params": "" }, { "set-cookie": cookie });
  } catch (cause) {
    context.metrics.authErrors();
    throw cause;
  }
}

async function attest(context: ServiceContext, call: Call): Promise<Reply> {
  const now = context.now();
  const session = requireSession(context, call, now);
  const body = await call.body(context.limits.maxBodyBytes);
  if (session.token !== undefined) return attested(context, session, session.token);
  if (context.sessions.isAttested(session)) throw usedUp(context, call, "the session was attested already");
  const reply = await context.sessions.judging(session, () => judge(context, call, { session, body, now }));
  if (reply === "taken") throw usedUp(context, call, "other evidence of the session is being judged");
  return reply;
}

interface Submission {
  readonly session: Session;
  readonly body: Uint8Array;
  readonly now: Date;
}

async function judge(context: ServiceContext, call: Call, { session, body, now }: Submission): Promise<Reply> {
  const { tee } = session.request;
  const start = performance.now();
  context.metrics.attestationRequests();
  try {
    const token = await audited(context, call, { action: "attest", record: "always" }, async (note) => {
      note.actor = `guest:${tee}`;
      note.evidence = digestOfEvidence(body);
      const request = parseAttestationRequest(body, session.request.version, { maxBytes: context.limits.maxBodyBytes });
      const { mode, limits } = context;
      const outcome = await context.attestationSlots.run(() =>
        context.attestation.attest({ session, request, mode, now, maxBytes: limits.maxBodyBytes }),
      );
      note.caller = "proved";
      note.token = outcome.tokenId;
      note.reasons = [...outcome.devices, ...outcome.reasons];
      return outcome.token;
    });
    context.metrics.attestationSuccesses({ tee_type: tee });
    return attested(context, context.sessions.attest(session, token, now), token);
  } catch (cause) {
    if (refusalOf(cause).status < 500) context.metrics.attestationFailures({ tee_type: tee });
    else context.metrics.attestationErrors();
    throw cause;
  } finally {
    context.metrics.attestationDuration({ tee }, (performance.now() - start) / 1000);
  }
}

function attested(context: ServiceContext, session: Session, token: string): Reply {
  return jsonReply({ token }, { "set-cookie": context.sessions.cookieOf(session, context.transport) });
}

/** The nonce has served. Of a session that was attested so many guests came meanwhile that its token is not kept any more. */
function usedUp(context: ServiceContext, call: Call, why: string): Refusal {
  const text = `Attestation error: RCAR handshake Attest failed: ${why}; begin another one`;
  return refusedStranger(context, call, "attest", new Refusal("session-expired", text));
}

function requireSession(context: ServiceContext, call: Call, now: Date): Session {
  const failed = "Attestation error: RCAR handshake Attest failed:";
  const refused = (code: "session-missing" | "session-expired", why: string) =>
    refusedStranger(context, call, "attest", new Refusal(code, `${failed} ${why}`));
  const cookie = cookieOf(call, sessionCookieName);
  if (cookie === undefined) throw refused("session-missing", "no session cookie");
  const session = context.sessions.open(cookie, now);
  if (session === "malformed") throw refused("session-missing", "the session cookie is not of this service");
  if (session === "expired") throw refused("session-expired", "the session has expired");
  return session;
}

async function release(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const resource = parameters["path"] ?? "";
  const bearer = bearerOf(call);
  if (bearer === undefined && cookieOf(call, sessionCookieName) === undefined) {
    context.metrics.keyAccessRefused({ reason: "token-missing" });
    throw refusedStranger(context, call, "release", new Refusal("token-missing", "Attestation Token not found"));
  }
  try {
    const reply = await audited(context, call, { action: "release", resource, record: "always" }, (note) =>
      releaseTo({ context, call, bearer }, resource, note),
    );
    context.metrics.resourceReads();
    return reply;
  } catch (cause) {
    context.metrics.keyAccessRefused({ reason: refusalOf(cause).code });
    throw cause;
  }
}

/** A request for something that an attested guest may have. */
interface GuestCall {
  readonly context: ServiceContext;
  readonly call: Call;
  readonly bearer: string | undefined;
}

async function releaseTo({ context, call, bearer }: GuestCall, resource: string, note: AuditNote): Promise<Reply> {
  const guest = await authorize({ context, call, bearer });
  note.caller = "proved";
  note.actor = nameOfGuest(guest);
  if (guest.tokenId !== undefined) note.token = guest.tokenId;
  const path = parseResourcePath(resource);
  const named = await context.vault.nameOf(path);
  const policy = (await context.policies.governing(formatResourcePath(named))) ?? context.fallbackPolicy;
  note.policy = `${policy.id} ${policy.digest}`;
  const decision = await decide(context, policy, {
    plugin: "resource",
    resourcePath: [named.repository, named.type, named.tag],
    query: Object.fromEntries(call.query),
    claims: guest.claims,
    now: context.now(),
  });
  if (!decision.allow) throw new Refusal("policy-denied", "Access denied by policy", { reasons: decision.reasons });
  if (decision.reasons.length > 0) note.reasons = decision.reasons;
  const found = await context.vault.read(path);
  // Only who may have it learns that it is not there.
  if (found === undefined) throw new Refusal("resource-not-found", "Plugin internal error: no such resource");
  note.version = found.version;
  return jsonReply(sealResponse(found.value, guest.teePublicKey));
}

/** Evaluates a policy; one that fails to evaluate denies. */
export async function decide(context: ServiceContext, policy: ResourcePolicy, input: ReleaseInput): Promise<PolicyDecision> {
  context.metrics.policyEvaluations();
  try {
    const decision = await policy.evaluate(input);
    if (decision.allow) context.metrics.policyApprovals();
    else context.metrics.policyViolations();
    return decision;
  } catch (cause) {
    context.metrics.policyErrors();
    const why = cause instanceof KbsError ? cause.message : "it failed to evaluate";
    return { allow: false, reasons: [`the policy ${policy.id} denies: ${why}`] };
  }
}

/** The claims of an attested guest: of the cookie's session first, then of the bearer token. */
async function authorize({ context, call, bearer }: GuestCall): Promise<AttestationClaims> {
  const now = context.now();
  const cookie = cookieOf(call, sessionCookieName);
  const session = cookie === undefined ? undefined : context.sessions.open(cookie, now);
  const token = (typeof session === "object" ? session.token : undefined) ?? bearer;
  if (token === undefined) throw new Refusal("token-missing", "Attestation Token not found");
  return context.tokens.verify(token, now);
}

/** The name of a guest in the audit: its TEE and measurement. */
function nameOfGuest(guest: AttestationClaims): string {
  const evidence = memberAt(guest.claims, "submods", "cpu0", "ear.veraison.annotated-evidence");
  for (const [tee, ...path] of [
    ["snp", "measurement"],
    ["tdx", "quote", "body", "mr_td"],
    ["sgx", "body", "mr_enclave"],
    ["az-snp-vtpm", "measurement"],
    ["sample", "launch_digest"],
  ] as const) {
    const measurement = memberAt(evidence, tee, ...path);
    if (typeof measurement === "string") return `guest:${tee}:${measurement.slice(0, 128)}`;
  }
  return "guest:unidentified";
}

async function noPlugin(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  await authorize({ context, call, bearer: bearerOf(call) });
  throw new Refusal("plugin-not-found", `Plugin ${(parameters["plugin"] ?? "").slice(0, 60)} not found`);
}
