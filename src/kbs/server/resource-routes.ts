import { decodeBase64Url, parseJson } from "../../bytes/index.ts";
import { challengeSize, confirmationOf, minConfirmedSize } from "../protocol/confirmation.ts";
import { protocolPrefix } from "../protocol/messages.ts";
import { formatResourcePath, parseResourcePath, type ResourcePath } from "../protocol/resource-path.ts";
import { memberAt } from "../protocol/shape.ts";
import { maxListPage } from "../stores/secret-store.ts";
import type { AdminIdentity } from "../tokens/admin-tokens.ts";
import { allows } from "../tokens/grants.ts";
import { requireRight } from "./admin-access.ts";
import { administer, change } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal } from "./refusal.ts";
import type { Parameters, Route } from "./router.ts";

/** Administration of resources: Trustee's calls, and ours below `/api/v1`. */
export function resourceRoutes(context: ServiceContext): readonly Route[] {
  const put: Route["handle"] = (call, parameters) => putResource(context, call, parameters);
  const remove: Route["handle"] = (call, parameters) => removeResource(context, call, parameters);
  const one = "/api/v1/resources/:repository/:type/:tag";
  return [
    { method: "POST", pattern: `${protocolPrefix}/resource/*path`, name: "resource", handle: put },
    { method: "DELETE", pattern: `${protocolPrefix}/resource/*path`, name: "resource", handle: remove },
    { method: "GET", pattern: `${protocolPrefix}/resource`, name: "resource-list", handle: (call) => listForTrustee(context, call) },
    { method: "GET", pattern: "/api/v1/resources", name: "api-resources", handle: (call) => listResources(context, call) },
    { method: "PUT", pattern: one, name: "api-resource", handle: put },
    { method: "GET", pattern: one, name: "api-resource", handle: (call, parameters) => readResource(context, call, parameters) },
    { method: "DELETE", pattern: one, name: "api-resource", handle: remove },
    {
      method: "POST",
      pattern: `${one}/confirm`,
      name: "api-resource-confirm",
      handle: (call, parameters) => confirmResource(context, call, parameters),
    },
  ];
}

/**
 * Stores a value. `If-None-Match: *` creates only; `If-Match: "N"` replaces version N only. The answer is 200 with an
 * empty body, as Trustee's clients demand, and the version in `ETag`.
 */
async function putResource(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  const condition = conditionOf(call);
  // Creating needs less than overwriting: a build pipeline may register new keys and touch no other.
  return change(context, call, { action: "resource.put", resource: name, right: "resource:create", path: name }, async (identity, note) => {
    const mayWrite = allows(identity.grants, "resource:write", name);
    const value = await call.body(context.limits.maxBodyBytes);
    return async () => {
      const outcome = await context.vault.put({
        path,
        value,
        condition: mayWrite ? condition : "absent",
        by: identity.subject,
        now: context.now(),
      });
      if (outcome === "conflict") {
        if (typeof condition === "object") throw new Refusal("resource-changed", `${name} is not at version ${condition.version}`);
        if (condition === "any" && !mayWrite) requireRight(identity, "resource:write", name);
        throw new Refusal("resource-exists", `${name} exists already`);
      }
      note.version = outcome.version;
      context.metrics.resourceWrites();
      return { status: 200, headers: { etag: `"${outcome.version}"` } };
    };
  });
}

function conditionOf(call: Call): "any" | "absent" | { readonly version: number } {
  if (call.headers["if-none-match"] !== undefined) {
    if (call.headers["if-none-match"] !== "*") throw new Refusal("request-malformed", "If-None-Match takes * only");
    return "absent";
  }
  if (call.headers["if-match"] === undefined) return "any";
  const match = /^"([1-9][0-9]{0,8})"$/.exec(call.headers["if-match"]);
  if (match === null) throw new Refusal("request-malformed", 'If-Match takes one version: "3"');
  return { version: Number(match[1]) };
}

async function removeResource(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  const subject = { action: "resource.delete", resource: name, right: "resource:delete", path: name } as const;
  return change(context, call, subject, () =>
    Promise.resolve(async () => {
      if ((await context.vault.remove(path)) === "absent") throw new Refusal("resource-not-found", `no resource ${name}`);
      context.metrics.resourceDeletes();
      return { status: 200 };
    }),
  );
}

/** The newest value; `Ociseal-Released-Version` says which one the plain name releases to guests. */
async function readResource(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  return administer(
    context,
    call,
    { action: "resource.read", resource: name, record: "always", right: "resource:read", path: name },
    async (_identity, note) => {
      const found = await context.vault.readCurrent(path);
      if (found === undefined) throw new Refusal("resource-not-found", `no resource ${name}`);
      note.version = found.version;
      const headers = {
        "content-type": "application/octet-stream",
        etag: `"${found.version}"`,
        "ociseal-released-version": String(found.info.released),
      };
      return { status: 200, headers, body: found.value };
    },
  );
}

/**
 * Proves that the stored value is what somebody registered, to whoever created it or may read it: the value is read from
 * the store again, and its HMAC over a fresh challenge is the answer.
 */
async function confirmResource(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  return administer(
    context,
    call,
    { action: "resource.confirm", resource: name, record: "always", right: "resource:confirm", path: name },
    async (identity, note) => {
      const body = parseJson(await call.body(4096), { maxBytes: 4096, maxDepth: 2, subject: "the body" });
      const text = memberAt(body, "challenge");
      const challenge = decodeBase64Url(typeof text === "string" ? text : "", "challenge");
      if (challenge.length !== challengeSize) throw new Refusal("request-malformed", `the challenge must have ${challengeSize} bytes`);
      const found = await context.vault.readCurrent(path);
      const created = found?.info.versions.find(({ version }) => version === found.version)?.createdBy;
      // To anybody else the answer would be a test for guesses.
      if (found === undefined || (created !== identity.subject && !allows(identity.grants, "resource:read", name))) {
        throw new Refusal("resource-not-found", `no resource ${name} that ${identity.subject} registered`);
      }
      if (found.value.length < minConfirmedSize)
        throw new Refusal("request-malformed", `values under ${minConfirmedSize} bytes are not confirmed`);
      note.version = found.version;
      return jsonReply({
        path: name,
        version: found.version,
        confirmation: confirmationOf(found.value, { path: name, version: found.version, challenge }),
      });
    },
  );
}

async function listResources(context: ServiceContext, call: Call): Promise<Reply> {
  const { prefix, limit, after } = pageRequestOf(call);
  return administer(
    context,
    call,
    { action: "resource.list", record: "refusals", right: "resource:list", path: undefined },
    async (identity) => {
      const page = await context.vault.list({ prefix, limit, after });
      return jsonReply({ resources: visible(identity, page.paths), ...(page.next === undefined ? {} : { next: page.next }) });
    },
  );
}

/** Trustee lists everything at once. Source: Trustee PR 1592. */
async function listForTrustee(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(
    context,
    call,
    { action: "resource.list", record: "refusals", right: "resource:list", path: undefined },
    async (identity) => {
      const paths: string[] = [];
      let after: string | undefined;
      do {
        const page = await context.vault.list({ prefix: "", limit: maxListPage, after });
        paths.push(...visible(identity, page.paths));
        after = page.next;
      } while (after !== undefined);
      return jsonReply(paths);
    },
  );
}

/** `prefix`, `limit` (1 to 1000, 100 unless told) and `after` of a listing. */
export function pageRequestOf(call: Call): { readonly prefix: string; readonly limit: number; readonly after: string | undefined } {
  const prefix = call.query.get("prefix") ?? "";
  const limit = Number(call.query.get("limit") ?? 100);
  const after = call.query.get("after") ?? undefined;
  const segments = /^(?:[a-zA-Z0-9_-][a-zA-Z0-9_.-]*)(?:\/[a-zA-Z0-9_-][a-zA-Z0-9_.-]*)*$/;
  if (prefix !== "" && !segments.test(prefix)) throw new Refusal("request-malformed", "the prefix is not whole path segments");
  if (after !== undefined && !segments.test(after)) throw new Refusal("request-malformed", "after is not a path");
  if (!Number.isInteger(limit) || limit < 1 || limit > maxListPage) throw new Refusal("request-malformed", `limit is 1 to ${maxListPage}`);
  return { prefix, limit, after };
}

/** Names that somebody may not list are left out, not refused. */
export function visible(identity: AdminIdentity, paths: readonly string[]): readonly string[] {
  return paths.filter((path) => allows(identity.grants, "resource:list", path));
}

/** The resource that a route's parameters name. */
export function pathOf(parameters: Parameters): ResourcePath {
  const { path, repository, type, tag } = parameters;
  return parseResourcePath(path ?? `${repository}/${type}/${tag}`);
}
