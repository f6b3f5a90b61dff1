import { parseJson } from "../bytes/index.ts";
import { RegistryServerError } from "./errors.ts";
import type { Route } from "./route.ts";

/** The operations that a rule can name: endpoint and what is done there. */
export const operations = [
  "ping",
  "catalog",
  "token",
  "blob.get",
  "blob.head",
  "blob.delete",
  "upload.start",
  "upload.patch",
  "upload.put",
  "upload.status",
  "upload.cancel",
  "manifest.get",
  "manifest.head",
  "manifest.put",
  "manifest.delete",
  "tags.list",
  "referrers.list",
] as const;

export type Operation = (typeof operations)[number];

/** Which requests a rule hits. Everything that is given must match. */
export interface FaultMatch {
  readonly method?: string | undefined;
  readonly operation?: Operation | readonly Operation[] | undefined;
  /** The path without query; `*` stands for any text without a slash, `**` for any text. */
  readonly path?: string | undefined;
  /** The first matching request that is hit, counted from 1. 1 unless told. */
  readonly from?: number | undefined;
  /** How many are hit. 1 unless told. */
  readonly count?: number | "all" | undefined;
}

type Headers = Readonly<Record<string, string | readonly string[]>>;

/**
 * What happens. Actions of a rule are played in their order; those on the answer need one, so they do nothing after
 * `respond`, `hang` or `reset`, which leave the registry itself out. `{path}`, `{query}` and `{origin}` in texts stand
 * for those of the request. Offsets and counts are bytes of a body.
 */
export type FaultAction =
  /** Waits before anything else. */
  | { readonly kind: "delay"; readonly ms: number }
  /** Answers without asking the registry, and without reading the request's body: 429, 401 with any realm, `200 text/html`, a redirect. */
  | { readonly kind: "respond"; readonly status: number; readonly headers?: Headers | undefined; readonly body?: string | undefined }
  /** Never answers. */
  | { readonly kind: "hang" }
  /** Cuts the connection before the registry sees the request, or after so many bytes of its body, or of the answer's body. */
  | { readonly kind: "reset"; readonly afterRequestBytes?: number | undefined; readonly afterResponseBytes?: number | undefined }
  /** The registry does its work, but the answer is lost and the connection cut. */
  | { readonly kind: "lose-answer" }
  /** The registry does its work, and this is answered instead. */
  | { readonly kind: "answer-instead"; readonly status: number; readonly headers?: Headers | undefined; readonly body?: string | undefined }
  /** Writes this text on the connection instead of an HTTP answer, and closes it. */
  | { readonly kind: "raw"; readonly text: string }
  /** Sets headers of the answer, or removes them with an empty list: a wrong digest, size, type, location, link. */
  | { readonly kind: "headers"; readonly set: Headers }
  | { readonly kind: "status"; readonly status: number }
  /** Another body with a size that is right for it. */
  | { readonly kind: "body"; readonly text?: string | undefined; readonly base64?: string | undefined }
  /** Changes one byte of the body. */
  | { readonly kind: "flip"; readonly at: number }
  /** The body ends early; `announced`: its size header still promises all of it and the connection is closed in order. */
  | { readonly kind: "truncate"; readonly at: number; readonly size: "announced" | "adjusted" }
  /** More bytes at the end than there should be; `adjusted`: the size header says so. */
  | { readonly kind: "extra"; readonly text: string; readonly size: "announced" | "adjusted" }
  /** So many bytes, then silence on an open connection. */
  | { readonly kind: "stall"; readonly at: number }
  /** A few bytes at a time. */
  | { readonly kind: "drip"; readonly bytes: number; readonly everyMs: number }
  /** Compresses the body, asked or not. */
  | { readonly kind: "gzip" }
  /** Answers a request for a part with the whole. */
  | { readonly kind: "ignore-range" };

export interface FaultRule {
  readonly match: FaultMatch;
  readonly do: readonly FaultAction[];
  /** For whoever reads the file. */
  readonly why?: string | undefined;
}

/** The operation of a request, `undefined` when the endpoint does not know the method. */
export function operationOf(method: string, route: Route): Operation | undefined {
  const name = `${nouns[route.kind]}${verbs[route.kind]?.[method] ?? ""}`;
  return (operations as readonly string[]).includes(name) ? (name as Operation) : undefined;
}

const nouns = {
  base: "ping",
  catalog: "catalog",
  token: "token",
  blob: "blob.",
  uploads: "upload.",
  upload: "upload.",
  manifest: "manifest.",
  tags: "tags.list",
  referrers: "referrers.list",
} as const;

const crud = { GET: "get", HEAD: "head", PUT: "put", DELETE: "delete" };
const verbs: Readonly<Partial<Record<Route["kind"], Readonly<Record<string, string>>>>> = {
  blob: crud,
  manifest: crud,
  uploads: { POST: "start" },
  upload: { PATCH: "patch", PUT: "put", GET: "status", DELETE: "cancel" },
};

/** What a member of an action may be. */
const shapes: Readonly<Record<string, (value: unknown) => boolean>> = {
  ms: isCount,
  status: (value) => isCount(value) && (value as number) >= 200 && (value as number) <= 599,
  headers: isHeaders,
  set: isHeaders,
  body: isText,
  text: isText,
  base64: isText,
  afterRequestBytes: isCount,
  afterResponseBytes: isCount,
  at: isCount,
  bytes: (value) => isCount(value) && (value as number) > 0,
  everyMs: isCount,
  size: (value) => value === "announced" || value === "adjusted",
};

/** Members that each action must have, and may have. */
const actions: Readonly<Record<FaultAction["kind"], { readonly must: readonly string[]; readonly may: readonly string[] }>> = {
  delay: { must: ["ms"], may: [] },
  respond: { must: ["status"], may: ["headers", "body"] },
  hang: { must: [], may: [] },
  reset: { must: [], may: ["afterRequestBytes", "afterResponseBytes"] },
  "lose-answer": { must: [], may: [] },
  "answer-instead": { must: ["status"], may: ["headers", "body"] },
  raw: { must: ["text"], may: [] },
  headers: { must: ["set"], may: [] },
  status: { must: ["status"], may: [] },
  body: { must: [], may: ["text", "base64"] },
  flip: { must: ["at"], may: [] },
  truncate: { must: ["at", "size"], may: [] },
  extra: { must: ["text", "size"], may: [] },
  stall: { must: ["at"], may: [] },
  drip: { must: ["bytes", "everyMs"], may: [] },
  gzip: { must: [], may: [] },
  "ignore-range": { must: [], may: [] },
};

/** Reads a file of fault rules, `{ "rules": [ … ] }`. Unknown members are refused. Throws `ERR_REGISTRY_SERVER_OPTIONS`. */
export function parseFaultRules(bytes: Uint8Array | string, subject = "fault rules"): readonly FaultRule[] {
  const file = asRecord(parseJson(bytes, { maxBytes: 1024 * 1024, subject }), subject);
  const { rules } = file;
  if (!Array.isArray(rules) || Object.keys(file).some((key) => key !== "rules" && key !== "provenance"))
    throw malformed(`${subject} is not { "rules": [...] }`);
  return rules.map((rule: unknown, i) => parseRule(rule, `${subject}[${i}]`));
}

function parseRule(value: unknown, where: string): FaultRule {
  const rule = asRecord(value, where);
  assertMembers(rule, ["match", "do"], ["why"], where);
  const match = asRecord(rule["match"], `${where}.match`);
  assertMembers(match, [], ["method", "operation", "path", "from", "count"], `${where}.match`);
  const { operation, from, count } = match;
  for (const name of [operation].flat())
    if (name !== undefined && !(operations as readonly unknown[]).includes(name)) throw malformed(`${where} has an unknown operation`);
  if (from !== undefined && !(isCount(from) && (from as number) > 0)) throw malformed(`${where}.match.from is not a number from 1`);
  if (count !== undefined && count !== "all" && !isCount(count)) throw malformed(`${where}.match.count is not a number or "all"`);
  for (const name of ["method", "path"])
    if (match[name] !== undefined && !isText(match[name])) throw malformed(`${where}.match.${name} is not text`);
  if (!Array.isArray(rule["do"])) throw malformed(`${where}.do is not a list`);
  for (const [i, action] of rule["do"].entries()) parseAction(action, `${where}.do[${i}]`);
  return value as FaultRule;
}

function parseAction(value: unknown, where: string): void {
  const action = asRecord(value, where);
  const { kind, ...members } = action;
  const row = typeof kind === "string" && Object.hasOwn(actions, kind) ? actions[kind as FaultAction["kind"]] : undefined;
  if (row === undefined) throw malformed(`${where} has an unknown kind`);
  assertMembers(members, row.must, row.may, where);
  for (const [name, member] of Object.entries(members))
    if (shapes[name]?.(member) !== true) throw malformed(`${where}.${name} has an unknown value`);
}

function assertMembers(record: Readonly<Record<string, unknown>>, must: readonly string[], may: readonly string[], where: string): void {
  for (const name of must) if (record[name] === undefined) throw malformed(`${where} lacks ${name}`);
  for (const name of Object.keys(record))
    if (!must.includes(name) && !may.includes(name)) throw malformed(`${where} has an unknown member ${JSON.stringify(name)}`);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isHeaders(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((item) => isText(item) || (Array.isArray(item) && item.every(isText)))
  );
}

function asRecord(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${where} is not an object`);
  return value as Readonly<Record<string, unknown>>;
}

function malformed(message: string): RegistryServerError {
  return new RegistryServerError("ERR_REGISTRY_SERVER_OPTIONS", { message, hint: "see registry-fixtures/README.md for the rules" });
}
