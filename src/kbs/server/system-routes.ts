import { resealEverything } from "../keys/reseal.ts";
import { isObject } from "../protocol/shape.ts";
import { adminActions, covers, type AdminAction, type Grant } from "../tokens/grants.ts";
import { ownIssuer, type AdminIdentity } from "../tokens/admin-tokens.ts";
import { administer, change, type AuditNote } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { SigningKeys } from "../tokens/signing-keys.ts";
import type { ServiceContext } from "./context.ts";
import { jsonBody } from "./key-routes.ts";
import { Refusal } from "./refusal.ts";
import type { Route } from "./router.ts";

export const maxTokenLifetimeSeconds = 366 * 24 * 3600;
const successorLifetimeSeconds = 3600;

/** The service itself: health, public keys, metrics, tokens, and its own keys. */
export function systemRoutes(context: ServiceContext): readonly Route[] {
  return [
    {
      method: "GET",
      pattern: "/.well-known/jwks.json",
      name: "jwks",
      handle: () => jsonReply({ keys: jwksOf(context) }, { "cache-control": "max-age=60" }),
    },
    { method: "GET", pattern: "/healthz", name: "healthz", handle: () => jsonReply({ status: "ok" }) },
    { method: "GET", pattern: "/readyz", name: "readyz", handle: () => ready(context) },
    { method: "GET", pattern: "/metrics", name: "metrics", handle: (call) => metrics(context, call) },
    { method: "POST", pattern: "/api/v1/tokens", name: "api-tokens", handle: (call) => issueToken(context, call) },
    { method: "GET", pattern: "/api/v1/system", name: "api-system", handle: (call) => describe(context, call) },
    {
      method: "POST",
      pattern: "/api/v1/system/rotate-encryption-key",
      name: "api-system",
      handle: (call) => rotateEncryptionKey(context, call),
    },
    { method: "POST", pattern: "/api/v1/system/rotate-root-key", name: "api-system", handle: (call) => rotateRootKey(context, call) },
    { method: "POST", pattern: "/api/v1/system/reseal", name: "api-system", handle: (call) => reseal(context, call) },
    { method: "POST", pattern: "/api/v1/system/rotate-signing-key", name: "api-system", handle: (call) => rotateSigningKey(context, call) },
  ];
}

async function ready(context: ServiceContext): Promise<Reply> {
  await context.store.probe();
  return jsonReply({ status: "ready" });
}

async function metrics(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "metrics.read", record: "refusals", right: "metrics:read", path: "" }, async () => {
    await updateGauges(context);
    return { status: 200, headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" }, body: context.metrics.text() };
  });
}

/** What is looked up only when somebody asks. */
async function updateGauges(context: ServiceContext): Promise<void> {
  if (context.auditLog !== undefined) context.metrics.auditHead({}, context.auditLog.head.seq);
  const due = await context.dueKeys.count();
  if (due !== undefined) context.metrics.keysDue({}, due);
}

/** `{"subject", "role", "grants"?: [{"actions", "paths"}], "lifetime_seconds"?}`. Nobody can grant more than they have. */
async function issueToken(context: ServiceContext, call: Call): Promise<Reply> {
  return change(context, call, { action: "token.create", right: "token:create", path: "" }, async (identity, note) => {
    const request = tokenRequestOf(await jsonBody(call, ["subject", "role", "grants", "lifetime_seconds"]));
    const { subject, role, grants, lifetimeSeconds } = request;
    note.resource = subject;
    note.reasons = [`role ${role}`, ...(grants ?? []).map(({ actions, paths }) => `${actions.join(",")} on ${paths.join(",")}`)];
    if (!covers(identity.grants, grants ?? context.ownTokens.grantsOf(role))) {
      throw new Refusal("admin-forbidden", "a token cannot do what its issuer may not");
    }
    return () =>
      Promise.resolve(jsonReply({ token: context.ownTokens.issue({ subject, role, grants, now: context.now(), lifetimeSeconds }) }));
  });
}

function tokenRequestOf(body: Readonly<Record<string, unknown>>) {
  const { subject, role, lifetime_seconds: lifetime = 3600 } = body;
  if (typeof subject !== "string" || !/^[\w.:@/+-]{1,200}$/.test(subject))
    throw new Refusal("request-malformed", "subject is a name of at most 200 characters");
  if (typeof role !== "string" || !/^[\w.-]{1,60}$/.test(role))
    throw new Refusal("request-malformed", "role is a name of at most 60 characters");
  if (typeof lifetime !== "number" || !Number.isInteger(lifetime) || lifetime < 1 || lifetime > maxTokenLifetimeSeconds) {
    throw new Refusal("request-malformed", `lifetime_seconds is 1 to ${maxTokenLifetimeSeconds}`);
  }
  const grants = body["grants"] === undefined ? undefined : parseGrants(body["grants"]);
  return { subject, role, grants, lifetimeSeconds: lifetime };
}

function parseGrants(value: unknown): readonly Grant[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > 100)
    throw new Refusal("request-malformed", "grants is a list of 1 to 100");
  return value.map((grant: unknown) => {
    if (!isObject(grant) || !Array.isArray(grant["actions"]) || !Array.isArray(grant["paths"]))
      throw new Refusal("request-malformed", "a grant has actions and paths");
    const actions = grant["actions"].map((action: unknown) => {
      if (action !== "*" && !adminActions.includes(action as AdminAction))
        throw new Refusal("request-malformed", `unknown action ${JSON.stringify(action)?.slice(0, 60)}`);
      return action as AdminAction | "*";
    });
    const paths = grant["paths"].map((path: unknown) => {
      if (typeof path !== "string" || !/^[a-zA-Z0-9_.*/-]{1,500}$/.test(path))
        throw new Refusal("request-malformed", "a path pattern has segments of letters, digits, _ . - and *");
      return path;
    });
    return { actions, paths };
  });
}

async function describe(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "system.read", record: "refusals", right: "audit:read", path: "" }, async () =>
    jsonReply({
      mode: context.mode,
      store: context.store.name,
      encryption_keys: context.keyring.list().map(({ id, createdAt, root, active }) => ({ id, created_at: createdAt, root, active })),
      signing_keys: signingKeysOf(context.tokenKeys),
      admin_signing_keys: signingKeysOf(context.adminKeys),
      audit: context.auditLog === undefined ? null : context.auditLog.head,
      now: context.now().toISOString(),
    }),
  );
}

function signingKeysOf({ active, former }: SigningKeys): readonly unknown[] {
  return [
    { kid: active.key.kid, created_at: active.createdAt, state: "signing", active: true },
    ...former.map(({ key, createdAt, retiredAt, state }) => ({
      kid: key.kid,
      created_at: createdAt,
      retired_at: retiredAt,
      state,
      active: false,
    })),
  ];
}

/** A new key-encryption key, under which every record is sealed again. Former keys are forgotten by a later reseal. */
async function rotateEncryptionKey(context: ServiceContext, call: Call): Promise<Reply> {
  const subject = { action: "system.rotate-encryption-key", right: "system:manage", path: "" } as const;
  return change(context, call, subject, (_identity, note) =>
    Promise.resolve(async () => {
      const added = await context.keyring.addKey();
      note.reasons = [`new key ${added.id}`];
      return resealAll(context, note);
    }),
  );
}

/** Wraps the key-encryption keys under the first of the configured root keys; the others open nothing any more afterwards. */
async function rotateRootKey(context: ServiceContext, call: Call): Promise<Reply> {
  const subject = { action: "system.rotate-root-key", right: "system:manage", path: "" } as const;
  return change(context, call, subject, (_identity, note) =>
    Promise.resolve(async () => {
      const rewrapped = await context.keyring.rewrapUnderFirstRoot();
      const root = context.keyring.list().find(({ active }) => active)?.root ?? "";
      note.reasons = [`${rewrapped} keys wrapped under the root key ${root}`];
      return jsonReply({ root, rewrapped });
    }),
  );
}

/** Goes on with a reseal, and forgets keys under which nothing is sealed any more. */
async function reseal(context: ServiceContext, call: Call): Promise<Reply> {
  const subject = { action: "system.reseal", right: "system:manage", path: "" } as const;
  return change(context, call, subject, (_identity, note) => Promise.resolve(() => resealAll(context, note)));
}

async function resealAll(context: ServiceContext, note: AuditNote): Promise<Reply> {
  const { store, records, vault, keyring } = context;
  const outcome = await resealEverything({ store, records, vault, keyring, now: context.now() });
  note.reasons = [...(note.reasons ?? []), `${outcome.resealed} records resealed`, `${outcome.dropped} former keys dropped`];
  return jsonReply({ key: keyring.list().find(({ active }) => active)?.id, resealed: outcome.resealed, dropped: outcome.dropped });
}

/**
 * A new signing key, `{"purpose"?: "attestation" | "admin", "former"?: "keep" | "revoke"}`. Kept ones verify as long as
 * their tokens live; revoked ones verify nothing from now on, at other replicas some seconds later.
 */
async function rotateSigningKey(context: ServiceContext, call: Call): Promise<Reply> {
  const subject = { action: "system.rotate-signing-key", right: "system:manage", path: "" } as const;
  return change(context, call, subject, async (identity, note) => {
    const { purpose = "attestation", former = "keep" } = await jsonBody(call, ["purpose", "former"]);
    if (purpose !== "attestation" && purpose !== "admin") throw new Refusal("request-malformed", "purpose is attestation or admin");
    if (former !== "keep" && former !== "revoke") throw new Refusal("request-malformed", "former is keep or revoke");
    note.resource = purpose;
    note.reasons = [`former keys: ${former}`];
    return async () => {
      const keys = purpose === "admin" ? context.adminKeys : context.tokenKeys;
      const { key } = await keys.rotate({ former, now: context.now() });
      note.reasons = [...(note.reasons ?? []), `new key ${key.kid}`];
      const token = purpose === "admin" && former === "revoke" ? successorOf(context, identity) : undefined;
      return jsonReply({ kid: key.kid, ...(token === undefined ? {} : { token }) });
    };
  });
}

/** Whoever revokes the key of their own token gets another with the same rights, or nobody could administer any more. */
function successorOf(context: ServiceContext, { issuer, subject, roles, grants }: AdminIdentity): string | undefined {
  if (issuer !== ownIssuer) return undefined;
  return context.ownTokens.issue({ subject, role: roles[0] ?? "", grants, now: context.now(), lifetimeSeconds: successorLifetimeSeconds });
}

function jwksOf(context: ServiceContext): readonly unknown[] {
  return context.tokenKeys.published(context.now()).map(({ key, x5c }) => ({
    ...key.jwk,
    kid: key.kid,
    use: "sig",
    ...(x5c.length === 0 ? {} : { x5c }),
  }));
}
