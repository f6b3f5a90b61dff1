import { decodeBase64, encodeBase64 } from "../../bytes/index.ts";
import { formatResourcePath, parseResourceUri } from "../protocol/resource-path.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import { malformedAnswer, type AdminCall } from "./admin-call.ts";
import type { CallOptions } from "./transport.ts";

/** One version of a key. */
export interface KeyVersionView {
  readonly version: number;
  readonly state: "enabled" | "disabled" | "destroyed";
  readonly createdAt: string;
  readonly createdBy: string;
  /** Bytes. */
  readonly size: number;
}

/** A key or other resource without its values. */
export interface KeyView {
  readonly path: string;
  readonly uri: string;
  readonly kind: "secret" | "key";
  readonly createdAt: string;
  readonly createdBy: string;
  readonly currentVersion: number;
  /** What the plain name gives to guests. */
  readonly releasedVersion: number;
  readonly rotationDays: number | undefined;
  readonly rotationDueAt: string | undefined;
  readonly rotationDue: boolean;
  readonly versions: readonly KeyVersionView[];
}

export interface KeyPage {
  readonly keys: readonly KeyView[];
  readonly next: string | undefined;
}

export interface PageRequest extends CallOptions {
  /** Whole leading segments: `default/image-key`. */
  readonly prefix?: string | undefined;
  readonly after?: string | undefined;
  /** 1 to 1000; 100 unless told. */
  readonly limit?: number | undefined;
}

/** Keys as keys; at our service only. No value ever leaves it through these calls. */
export interface KbsAdminKeys {
  /** Makes a key of 32 random bytes at the service. Throws `ERR_KBS_CONFLICT` when the name is taken. */
  create(uri: string, request?: { readonly rotationDays?: number | undefined } & CallOptions): Promise<KeyView>;
  describe(uri: string, options?: CallOptions): Promise<KeyView>;
  list(request?: PageRequest): Promise<KeyPage>;
  /** Adds a version under which packets are wrapped from now on. */
  rotate(uri: string, options?: CallOptions): Promise<KeyView>;
  /** Without a version: all of them. A destroyed version stays destroyed. */
  setState(
    uri: string,
    change: { readonly state: "enabled" | "disabled" | "destroyed"; readonly version?: number | undefined } & CallOptions,
  ): Promise<KeyView>;
  /** The packet of a layer annotation (raw bytes, not its base64) under the newest version. */
  rewrap(
    uri: string,
    packet: Uint8Array,
    options?: CallOptions,
  ): Promise<{ readonly packet: Buffer; readonly fromVersion: number; readonly toVersion: number }>;
}

const changes = { enabled: "enable", disabled: "disable", destroyed: "destroy" } as const;

/** The key calls over a connection. */
export function adminKeys(call: AdminCall): KbsAdminKeys {
  const at = (uri: string) => `/api/v1/keys/${formatResourcePath(parseResourceUri(uri))}`;
  return {
    create: async (uri, { rotationDays, ...options } = {}) => {
      const path = formatResourcePath(parseResourceUri(uri));
      const json = { path, ...(rotationDays === undefined ? {} : { rotation_days: rotationDays }) };
      return parseKey(await call.json({ method: "POST", path: "/api/v1/keys", json, ...options }, `create the key ${path}`));
    },
    describe: async (uri, options = {}) => parseKey(await call.json({ method: "GET", path: at(uri), ...options }, `show ${uri}`)),
    list: async ({ prefix, after, limit, ...options } = {}) => {
      const answer = await call.json(
        { method: "GET", path: `/api/v1/keys?${pageQuery({ prefix, after, limit })}`, ...options },
        "list keys",
      );
      const keys = memberAt(answer, "keys");
      if (!Array.isArray(keys)) throw malformedAnswer("keys");
      const next = memberAt(answer, "next");
      return { keys: keys.map(parseKey), next: typeof next === "string" ? next : undefined };
    },
    rotate: async (uri, options = {}) =>
      parseKey(await call.json({ method: "POST", path: `${at(uri)}/rotate`, json: {}, ...options }, `rotate ${uri}`)),
    setState: async (uri, { state, version, ...options }) => {
      const verb = changes[state];
      const json = version === undefined ? {} : { version };
      return parseKey(await call.json({ method: "POST", path: `${at(uri)}/${verb}`, json, ...options }, `${verb} ${uri}`));
    },
    rewrap: async (uri, packet, options = {}) => {
      const json = { packet: encodeBase64(packet) };
      const answer = await call.json({ method: "POST", path: `${at(uri)}/rewrap`, json, ...options }, `rewrap a packet of ${uri}`);
      const [text, fromVersion, toVersion] = [memberAt(answer, "packet"), memberAt(answer, "from_version"), memberAt(answer, "to_version")];
      if (typeof text !== "string" || typeof fromVersion !== "number" || typeof toVersion !== "number") throw malformedAnswer("packet");
      return { packet: decodeBase64(text, "packet"), fromVersion, toVersion };
    },
  };
}

/** The query of a page. */
export function pageQuery(request: {
  readonly prefix?: string | undefined;
  readonly after?: string | undefined;
  readonly limit?: number | undefined;
}): string {
  const query = new URLSearchParams();
  if (request.prefix !== undefined) query.set("prefix", request.prefix);
  if (request.after !== undefined) query.set("after", request.after);
  if (request.limit !== undefined) query.set("limit", String(request.limit));
  return query.toString();
}

function parseKey(value: unknown): KeyView {
  if (!isObject(value)) throw malformedAnswer("key");
  const {
    path,
    uri,
    kind,
    created_at: createdAt,
    created_by: createdBy,
    current_version: currentVersion,
    released_version: releasedVersion,
  } = value;
  const { rotation_days: rotationDays, rotation_due_at: rotationDueAt, rotation_due: rotationDue, versions } = value;
  if (typeof path !== "string" || typeof uri !== "string" || (kind !== "secret" && kind !== "key") || !Array.isArray(versions))
    throw malformedAnswer("key");
  if (typeof createdAt !== "string" || typeof createdBy !== "string") throw malformedAnswer("created_at");
  if (typeof currentVersion !== "number" || typeof releasedVersion !== "number") throw malformedAnswer("current_version");
  return {
    path,
    uri,
    kind,
    createdAt,
    createdBy,
    currentVersion,
    releasedVersion,
    rotationDays: typeof rotationDays === "number" ? rotationDays : undefined,
    rotationDueAt: typeof rotationDueAt === "string" ? rotationDueAt : undefined,
    rotationDue: rotationDue === true,
    versions: versions.map(parseVersion),
  };
}

function parseVersion(value: unknown): KeyVersionView {
  if (!isObject(value)) throw malformedAnswer("version");
  const { version, state, created_at: createdAt, created_by: createdBy, size } = value;
  if (typeof version !== "number" || typeof createdAt !== "string" || typeof createdBy !== "string" || typeof size !== "number")
    throw malformedAnswer("version");
  if (state !== "enabled" && state !== "disabled" && state !== "destroyed") throw malformedAnswer("state");
  return { version, state, createdAt, createdBy, size };
}
