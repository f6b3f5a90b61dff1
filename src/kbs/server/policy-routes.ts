import { decodeBase64Url, parseJson } from "../../bytes/index.ts";
import { protocolPrefix } from "../protocol/messages.ts";
import { formatResourcePath, parseResourcePath } from "../protocol/resource-path.ts";
import { isObject } from "../protocol/shape.ts";
import { policyLanguages, type PolicyPurpose, type PolicyRow, type PolicyUpload } from "../policies/policy-store.ts";
import type { AdminIdentity } from "../tokens/admin-tokens.ts";
import { covers } from "../tokens/grants.ts";
import { requireRight } from "./admin-access.ts";
import { administer, change } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { jsonBody } from "./key-routes.ts";
import { decide } from "./rcar-routes.ts";
import { Refusal } from "./refusal.ts";
import type { Parameters, Route } from "./router.ts";

/** The id under which Trustee's clients upload the one resource policy that they know. */
const trusteePolicyId = "resource-policy";
const maxBodyBytes = 2 << 20;

/** Policies: Trustee's three calls, and ours. */
export function policyRoutes(context: ServiceContext): readonly Route[] {
  const ours = (purpose: PolicyPurpose, base: string): readonly Route[] => [
    { method: "GET", pattern: base, name: "api-policies", handle: (call) => list(context, call, purpose) },
    { method: "GET", pattern: `${base}/:id`, name: "api-policy", handle: (call, parameters) => read(context, call, purpose, parameters) },
    { method: "PUT", pattern: `${base}/:id`, name: "api-policy", handle: (call, parameters) => put(context, call, purpose, parameters) },
    {
      method: "DELETE",
      pattern: `${base}/:id`,
      name: "api-policy",
      handle: (call, parameters) => remove(context, call, purpose, parameters),
    },
  ];
  return [
    {
      method: "POST",
      pattern: `${protocolPrefix}/resource-policy`,
      name: "resource-policy",
      handle: (call) => putTrusteeRelease(context, call),
    },
    {
      method: "GET",
      pattern: `${protocolPrefix}/resource-policy`,
      name: "resource-policy",
      handle: (call) => listForTrustee(context, call),
    },
    {
      method: "POST",
      pattern: `${protocolPrefix}/attestation-policy`,
      name: "attestation-policy",
      handle: (call) => putTrusteeAppraisal(context, call),
    },
    { method: "POST", pattern: "/api/v1/policies/evaluate", name: "api-policy-evaluate", handle: (call) => evaluate(context, call) },
    ...ours("release", "/api/v1/policies"),
    ...ours("appraisal", "/api/v1/attestation-policies"),
  ];
}

/** `{"policy": "<base64url of Rego>"}`. */
async function putTrusteeRelease(context: ServiceContext, call: Call): Promise<Reply> {
  return store(context, call, { purpose: "release", id: trusteePolicyId }, async () => {
    const body = await trusteeBody(call);
    return { id: trusteePolicyId, purpose: "release", language: "rego", resources: "**", text: textOf(body) };
  });
}

/** `{"type": "rego", "policy_id": "default_cpu", "policy": "<base64url>"}`. */
async function putTrusteeAppraisal(context: ServiceContext, call: Call): Promise<Reply> {
  return store(context, call, { purpose: "appraisal", id: undefined }, async () => {
    const body = await trusteeBody(call);
    const id = body["policy_id"];
    if (typeof id !== "string") throw new Refusal("request-malformed", "the body has no text member policy_id");
    return { id, purpose: "appraisal", language: "rego", resources: "**", text: textOf(body) };
  });
}

/** `{"language": "rego" | "json" | "wasm", "resources"?: "default/image-key/**", "policy": "<text>"}`. */
async function put(context: ServiceContext, call: Call, purpose: PolicyPurpose, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  return store(context, call, { purpose, id }, async () => {
    const body = await jsonBody(call, ["language", "resources", "policy"], maxBodyBytes);
    const { resources = "**", policy } = body;
    const language = policyLanguages.find((known) => known === body["language"]);
    if (language === undefined) throw new Refusal("request-malformed", `language is ${policyLanguages.join(" or ")}`);
    if (typeof policy !== "string" || typeof resources !== "string")
      throw new Refusal("request-malformed", "policy and resources are texts");
    return { id, purpose, language, resources, text: policy };
  });
}

/** Without an id in the path, the right is looked at twice: on anything before the body is read, then on what it names. */
async function store(
  context: ServiceContext,
  call: Call,
  target: { readonly purpose: PolicyPurpose; readonly id: string | undefined },
  upload: () => Promise<PolicyUpload>,
): Promise<Reply> {
  const subject = { action: `policy.put.${target.purpose}`, resource: target.id, right: "policy:write", path: target.id } as const;
  return change(context, call, subject, async (identity, note) => {
    const request = await upload();
    note.resource = request.id;
    requireRight(identity, "policy:write", request.id);
    await requireReach(context, identity, request.purpose, request.id, request.resources);
    note.policy = `${request.id} ${await context.policies.check(request)}`;
    return async () => {
      const stored = await context.policies.put(request, { subject: identity.subject, now: context.now() });
      note.version = stored.version;
      return { status: 200, headers: { etag: `"${stored.version}"` } };
    };
  });
}

/**
 * The closest release policy decides, so whoever may write one for a resource may open it: the right must cover the
 * resources that a policy governs, and those that its former text governed, not its id alone.
 */
async function requireReach(
  context: ServiceContext,
  identity: AdminIdentity,
  purpose: PolicyPurpose,
  id: string,
  resources?: string,
): Promise<void> {
  if (purpose !== "release") return;
  const former = (await context.policies.list(purpose)).find((policy) => policy.id === id)?.resources;
  const beyond = [resources, former].find(
    (pattern) => pattern !== undefined && !covers(identity.grants, [{ actions: ["policy:write"], paths: [pattern] }]),
  );
  if (beyond === undefined) return;
  throw new Refusal("admin-forbidden", `admin access denied: ${identity.subject} may not policy:write on ${beyond}, which ${id} governs`);
}

async function list(context: ServiceContext, call: Call, purpose: PolicyPurpose): Promise<Reply> {
  return administer(context, call, { action: "policy.list", record: "refusals", right: "policy:read", path: undefined }, async () => {
    const policies = await context.policies.list(purpose);
    return jsonReply({ policies: policies.map(viewOf), fallback: purpose === "release" ? context.fallbackPolicy.id : "default" });
  });
}

/** Trustee answers with ids alone. */
async function listForTrustee(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "policy.list", record: "refusals", right: "policy:read", path: undefined }, async () => {
    const policies = await context.policies.list("release");
    return jsonReply(policies.map(({ id }) => id));
  });
}

async function read(context: ServiceContext, call: Call, purpose: PolicyPurpose, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  return administer(
    context,
    call,
    { action: "policy.read", resource: id, record: "refusals", right: "policy:read", path: id },
    async () => {
      const policy = await context.policies.read(purpose, id);
      if (policy === undefined) throw new Refusal("object-not-found", `no policy ${id}`);
      return jsonReply({ ...viewOf(policy), policy: policy.text });
    },
  );
}

async function remove(context: ServiceContext, call: Call, purpose: PolicyPurpose, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  return change(context, call, { action: `policy.delete.${purpose}`, resource: id, right: "policy:write", path: id }, async (identity) => {
    await requireReach(context, identity, purpose, id);
    return async () => {
      if ((await context.policies.remove(purpose, id)) === "absent") throw new Refusal("object-not-found", `no policy ${id}`);
      return { status: 200 };
    };
  });
}

/**
 * A dry run: `{"resource": "a/b/c", "claims": {…}}` or with `"token": "<attestation token>"` in place of claims. Answers
 * what a guest with these claims would get, and why; nothing is released.
 */
async function evaluate(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "policy.evaluate", record: "refusals", right: "policy:read", path: undefined }, async () => {
    const body = await jsonBody(call, ["resource", "claims", "token", "query"], maxBodyBytes);
    const path = parseResourcePath(typeof body["resource"] === "string" ? body["resource"] : "");
    const claims = typeof body["token"] === "string" ? (await context.tokens.verify(body["token"], context.now())).claims : body["claims"];
    if (!isObject(claims)) throw new Refusal("request-malformed", "the body has neither claims nor a token");
    const query = isObject(body["query"])
      ? Object.fromEntries(Object.entries(body["query"]).map(([name, value]) => [name, String(value)]))
      : {};
    const named = await context.vault.nameOf(path);
    const policy = (await context.policies.governing(formatResourcePath(named))) ?? context.fallbackPolicy;
    const decision = await decide(context, policy, {
      plugin: "resource",
      resourcePath: [named.repository, named.type, named.tag],
      query,
      claims,
      now: context.now(),
    });
    const exists = (await context.vault.describe(path)) !== undefined;
    return jsonReply({
      allow: decision.allow,
      reasons: decision.reasons,
      policy: policy.id,
      digest: policy.digest,
      resource_exists: exists,
    });
  });
}

function viewOf(policy: PolicyRow): Readonly<Record<string, unknown>> {
  const { id, language, resources, digest, createdAt, createdBy, version } = policy;
  return { id, language, resources, digest, created_at: createdAt, created_by: createdBy, version };
}

async function trusteeBody(call: Call): Promise<Readonly<Record<string, unknown>>> {
  // Unknown members are passed over: Trustee's own clients differ in what they send.
  const value = parseJson(await call.body(maxBodyBytes), { maxBytes: maxBodyBytes, maxDepth: 8, subject: "the body" });
  if (!isObject(value)) throw new Refusal("request-malformed", "the body is not a JSON object");
  return value;
}

function textOf(body: Readonly<Record<string, unknown>>): string {
  const policy = body["policy"];
  if (typeof policy !== "string") throw new Refusal("request-malformed", "the body has no text member policy");
  return decodeBase64Url(policy, "policy").toString("utf8");
}
