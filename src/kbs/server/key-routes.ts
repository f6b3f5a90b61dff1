import { decodeBase64, encodeBase64, parseJson } from "../../bytes/index.ts";
import { createKey, rotateKey, rotationDueAt, setVersionState, type VersionSelection } from "../keys/key-lifecycle.ts";
import type { ResourceInfo, VersionState } from "../keys/resource-record.ts";
import { rewrapPacket } from "../keys/rewrap.ts";
import { formatResourcePath, formatResourceUri, parseResourcePath } from "../protocol/resource-path.ts";
import { isObject } from "../protocol/shape.ts";
import type { AdminAction } from "../tokens/grants.ts";
import { requireRight } from "./admin-access.ts";
import { administer, change } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal } from "./refusal.ts";
import { pageRequestOf, pathOf, visible } from "./resource-routes.ts";
import type { Parameters, Route } from "./router.ts";

const keys = "/api/v1/keys";
const oneKey = `${keys}/:repository/:type/:tag`;
const maxRotationDays = 3650;

/** Keys as keys: versions, states, rotation, rewrapping. No answer carries a value. */
export function keyRoutes(context: ServiceContext): readonly Route[] {
  const stateChange = (name: string, right: AdminAction, state: VersionState): Route => ({
    method: "POST",
    pattern: `${oneKey}/${name}`,
    name: `api-key-${name}`,
    handle: (call, parameters) => changeState(context, call, parameters, { action: `key.${name}`, right, state }),
  });
  return [
    { method: "POST", pattern: keys, name: "api-keys", handle: (call) => create(context, call) },
    { method: "GET", pattern: keys, name: "api-keys", handle: (call) => list(context, call) },
    { method: "GET", pattern: oneKey, name: "api-key", handle: (call, parameters) => describe(context, call, parameters) },
    { method: "GET", pattern: `${oneKey}/versions`, name: "api-key", handle: (call, parameters) => describe(context, call, parameters) },
    {
      method: "POST",
      pattern: `${oneKey}/rotate`,
      name: "api-key-rotate",
      handle: (call, parameters) => rotate(context, call, parameters),
    },
    {
      method: "POST",
      pattern: `${oneKey}/rewrap`,
      name: "api-key-rewrap",
      handle: (call, parameters) => rewrap(context, call, parameters),
    },
    stateChange("disable", "key:state", "disabled"),
    stateChange("enable", "key:state", "enabled"),
    stateChange("destroy", "key:destroy", "destroyed"),
  ];
}

/** `{"path": "repository/type/tag", "rotation_days"?: 30}`. */
async function create(context: ServiceContext, call: Call): Promise<Reply> {
  // The name is in the body, which is read only for somebody who may create something.
  return change(context, call, { action: "key.create", right: "resource:create", path: undefined }, async (identity, note) => {
    const body = await jsonBody(call, ["path", "rotation_days"]);
    const path = parseResourcePath(typeof body["path"] === "string" ? body["path"] : "");
    const name = formatResourcePath(path);
    note.resource = name;
    requireRight(identity, "resource:create", name);
    const days = body["rotation_days"];
    if (days !== undefined && (typeof days !== "number" || !Number.isInteger(days) || days < 1 || days > maxRotationDays)) {
      throw new Refusal("request-malformed", `rotation_days is 1 to ${maxRotationDays}`);
    }
    return async () => {
      const outcome = await createKey(context.vault, { path, by: identity.subject, now: context.now(), rotationDays: days });
      if (outcome === "conflict") throw new Refusal("resource-exists", `${name} exists already`);
      note.version = outcome.version;
      context.metrics.resourceWrites();
      return reply(context, await context.vault.describe(path));
    };
  });
}

async function list(context: ServiceContext, call: Call): Promise<Reply> {
  const request = pageRequestOf(call);
  return administer(
    context,
    call,
    { action: "key.list", record: "refusals", right: "resource:list", path: undefined },
    async (identity) => {
      const page = await context.vault.list(request);
      const infos: unknown[] = [];
      for (const path of visible(identity, page.paths)) {
        const info = await context.vault.describe(parseResourcePath(path));
        if (info !== undefined) infos.push(viewOf(info, context.now()));
      }
      return jsonReply({ keys: infos, ...(page.next === undefined ? {} : { next: page.next }) });
    },
  );
}

async function describe(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  return administer(
    context,
    call,
    { action: "key.show", resource: name, record: "refusals", right: "resource:list", path: name },
    async () => reply(context, await context.vault.describe(path)),
  );
}

async function rotate(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  const subject = { action: "key.rotate", resource: name, right: "key:rotate", path: name } as const;
  return change(context, call, subject, (identity, note) =>
    Promise.resolve(async () => {
      const outcome = await rotateKey(context.vault, { path, by: identity.subject, now: context.now() });
      if (outcome === undefined) throw new Refusal("resource-not-found", `no key ${name}`);
      note.version = outcome.version;
      return reply(context, await context.vault.describe(path));
    }),
  );
}

/** `{"version"?: N}`; every version when it is left out. */
async function changeState(
  context: ServiceContext,
  call: Call,
  parameters: Parameters,
  wanted: { readonly action: string; readonly right: AdminAction; readonly state: VersionState },
): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  const { action, right, state } = wanted;
  return change(context, call, { action, resource: name, right, path: name }, async (_identity, note) => {
    const body = await jsonBody(call, ["version"]);
    const selection: VersionSelection = body["version"] === undefined ? "all" : versionOf(body["version"]);
    if (selection !== "all") note.version = selection;
    return async () => reply(context, await setVersionState(context.vault, path, selection, state));
  });
}

/** `{"packet": "<base64 of what stands in the annotation>"}` gives the same under the newest version. */
async function rewrap(context: ServiceContext, call: Call, parameters: Parameters): Promise<Reply> {
  const path = pathOf(parameters);
  const name = formatResourcePath(path);
  return administer(
    context,
    call,
    { action: "key.rewrap", resource: name, record: "always", right: "key:rewrap", path: name },
    async (_identity, note) => {
      const body = await jsonBody(call, ["packet"]);
      const packet = decodeBase64(typeof body["packet"] === "string" ? body["packet"] : "", "packet");
      const outcome = await rewrapPacket(context.vault, path, packet);
      if (outcome === undefined) throw new Refusal("resource-not-found", `no key ${name}`);
      note.version = outcome.toVersion;
      return jsonReply({ packet: encodeBase64(outcome.packet), from_version: outcome.fromVersion, to_version: outcome.toVersion });
    },
  );
}

function reply(context: ServiceContext, info: ResourceInfo | undefined): Reply {
  if (info === undefined) throw new Refusal("resource-not-found", "no such key");
  return jsonReply(viewOf(info, context.now()));
}

/** A key as the interface shows it. */
function viewOf(info: ResourceInfo, now: Date): unknown {
  const due = rotationDueAt(info);
  const [repository = "", type = "", tag = ""] = info.path.split("/");
  return {
    path: info.path,
    uri: formatResourceUri({ repository, type, tag }),
    kind: info.kind,
    created_at: info.createdAt,
    created_by: info.createdBy,
    current_version: info.current,
    released_version: info.released,
    ...(info.rotationDays === undefined ? {} : { rotation_days: info.rotationDays }),
    ...(due === undefined ? {} : { rotation_due_at: due.toISOString(), rotation_due: due <= now }),
    versions: info.versions.map(({ version, state, createdAt, createdBy, size }) => ({
      version,
      state,
      created_at: createdAt,
      created_by: createdBy,
      size,
    })),
  };
}

/** A small JSON object with known members only; an empty body is an empty object. */
export async function jsonBody(call: Call, members: readonly string[], maxBytes = 1 << 20): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await call.body(maxBytes);
  if (bytes.length === 0) return {};
  const value = parseJson(bytes, { maxBytes, maxDepth: 16, subject: "the body" });
  if (!isObject(value)) throw new Refusal("request-malformed", "the body is not a JSON object");
  const unknown = Object.keys(value).find((name) => !members.includes(name));
  if (unknown !== undefined)
    throw new Refusal(
      "request-malformed",
      `the body has an unknown member ${JSON.stringify(unknown.slice(0, 60))} (known: ${members.join(", ")})`,
    );
  return value;
}

function versionOf(value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1)
    throw new Refusal("request-malformed", "version is a positive number");
  return value;
}
