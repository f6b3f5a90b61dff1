import { protocolPrefix } from "../protocol/messages.ts";
import { parseReferenceMessage } from "../policies/reference-values.ts";
import { administer, change } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { jsonBody } from "./key-routes.ts";
import { Refusal } from "./refusal.ts";
import type { Parameters, Route } from "./router.ts";

/** Reference values: Trustee's calls, and ours. */
export function referenceRoutes(context: ServiceContext): readonly Route[] {
  const ours = "/api/v1/reference-values";
  return [
    { method: "POST", pattern: `${protocolPrefix}/reference-value`, name: "reference-value", handle: (call) => register(context, call) },
    {
      method: "GET",
      pattern: `${protocolPrefix}/reference-value/:id`,
      name: "reference-value",
      handle: (call, parameters) => readOne(context, call, parameters),
    },
    {
      method: "DELETE",
      pattern: `${protocolPrefix}/reference-value/:id`,
      name: "reference-value",
      handle: (call, parameters) => remove(context, call, parameters),
    },
    { method: "GET", pattern: ours, name: "api-reference-values", handle: (call) => list(context, call) },
    { method: "PUT", pattern: `${ours}/:id`, name: "api-reference-value", handle: (call, parameters) => put(context, call, parameters) },
    {
      method: "DELETE",
      pattern: `${ours}/:id`,
      name: "api-reference-value",
      handle: (call, parameters) => remove(context, call, parameters),
    },
  ];
}

async function register(context: ServiceContext, call: Call): Promise<Reply> {
  const { maxBodyBytes } = context.limits;
  return change(context, call, { action: "reference.put", right: "reference:write", path: "" }, async (identity, note) => {
    const values = parseReferenceMessage(await call.body(maxBodyBytes), { maxBytes: maxBodyBytes });
    note.resource = Object.keys(values).join(",");
    return async () => {
      await context.referenceValues.register(values, { subject: identity.subject, now: context.now() });
      return { status: 200 };
    };
  });
}

/** `{"value": …, "expires_at"?: "RFC 3339"}`. */
async function put(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  const subject = { action: "reference.put", resource: id, right: "reference:write", path: id } as const;
  return change(context, call, subject, async (identity) => {
    const body = await jsonBody(call, ["value", "expires_at"]);
    if (!Object.hasOwn(body, "value")) throw new Refusal("request-malformed", "the body has no member value");
    const expires = body["expires_at"];
    const expiresAt = expires === undefined ? undefined : new Date(typeof expires === "string" ? expires : Number.NaN);
    if (expiresAt !== undefined && Number.isNaN(expiresAt.getTime())) throw new Refusal("request-malformed", "expires_at is not a time");
    return async () => {
      await context.referenceValues.register({ [id]: body["value"] }, { subject: identity.subject, now: context.now(), expiresAt });
      return { status: 200 };
    };
  });
}

async function readOne(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  return administer(
    context,
    call,
    { action: "reference.read", resource: id, record: "refusals", right: "reference:read", path: id },
    async () => {
      const lookup = await context.referenceValues.lookup(context.now());
      return jsonReply(lookup(id) ?? null);
    },
  );
}

async function list(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "reference.list", record: "refusals", right: "reference:read", path: undefined }, async () => {
    const values = await context.referenceValues.list();
    return jsonReply({
      reference_values: values.map(({ name, value, expiresAt, createdAt, createdBy }) => ({
        name,
        value,
        expires_at: expiresAt,
        created_at: createdAt,
        created_by: createdBy,
        expired: new Date(expiresAt) <= context.now(),
      })),
    });
  });
}

async function remove(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const id = parameters["id"] ?? "";
  const subject = { action: "reference.delete", resource: id, right: "reference:write", path: id } as const;
  return change(context, call, subject, () =>
    Promise.resolve(async () => {
      if ((await context.referenceValues.remove(id)) === "absent") throw new Refusal("object-not-found", `no reference value ${id}`);
      return { status: 200 };
    }),
  );
}
