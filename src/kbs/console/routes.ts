import type { AuditRecord } from "../audit/record.ts";
import { readRecent } from "../audit/read-recent.ts";
import { keptHeads } from "../server/audit-parts.ts";
import { administer } from "../server/audited.ts";
import { jsonReply, type Call, type Reply } from "../server/call.ts";
import type { ServiceContext } from "../server/context.ts";
import { Refusal } from "../server/refusal.ts";
import type { Route } from "../server/router.ts";
import type { ActivityView, Outcomes, RecentAct } from "./activity.ts";
import { readPageFile } from "./page-files.ts";

/** What the page consists of, and as what it is sent. */
const pageFiles: Readonly<Record<string, string>> = {
  "index.html": "text/html; charset=utf-8",
  "style.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml",
  "app.js": "text/javascript; charset=utf-8",
  "api.js": "text/javascript; charset=utf-8",
  "chart.js": "text/javascript; charset=utf-8",
  "dom.js": "text/javascript; charset=utf-8",
  "panels.js": "text/javascript; charset=utf-8",
  "try-out.js": "text/javascript; charset=utf-8",
};

/**
 * The page runs its own files and talks to where it came from, and nothing else; nobody may frame it, and no text can
 * become markup in it (trusted types, with no policy that would allow it). Source: CSP level 3, Trusted Types.
 */
const pageHeaders = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
};

const maxHours = 31 * 24;
const maxBuckets = 200;
/** Checkpoints come every thousand records unless told otherwise; further back nobody looks for the time of the last one. */
const maxLookBack = 5000;

/** The console: a page without any data in it, and what it asks for beyond what administrators ask for anyway. */
export function consoleRoutes(context: ServiceContext): readonly Route[] {
  const texts = new Map<string, string>();
  const page = (name: string): Reply => {
    const body = texts.get(name) ?? readPageFile(name);
    texts.set(name, body);
    return { status: 200, headers: { ...pageHeaders, "content-type": pageFiles[name] }, body };
  };
  return [
    { method: "GET", pattern: "/console", name: "console", handle: () => ({ status: 308, headers: { location: "console/" } }) },
    { method: "GET", pattern: "/console/", name: "console", handle: () => page("index.html") },
    ...Object.keys(pageFiles).map((name): Route => ({
      method: "GET",
      pattern: `/console/${name}`,
      name: "console",
      handle: () => page(name),
    })),
    { method: "GET", pattern: "/api/v1/activity", name: "api-activity", handle: (call) => recentActivity(context, call) },
  ];
}

/** `?hours=24&buckets=48`: attestations and releases over time, the last refusals, and where the audit chain stands. */
async function recentActivity(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "audit.activity", record: "refusals", right: "audit:read", path: "" }, async () => {
    const hours = numberIn(call, "hours", 24, maxHours);
    const count = numberIn(call, "buckets", 48, Math.min(maxBuckets, hours * 60));
    return jsonReply({ ...viewOf(await context.activity.view({ hours, count }), hours / count), audit: await chainOf(context) });
  });
}

function viewOf({ buckets, refusals, verification, since }: ActivityView, bucketHours: number): Readonly<Record<string, unknown>> {
  return {
    bucket_seconds: bucketHours * 3600,
    since: since?.toISOString() ?? null,
    buckets: buckets.map(({ from, attestations, releases }) => ({
      from: from.toISOString(),
      attestations: outcomesOf(attestations),
      releases: outcomesOf(releases),
    })),
    refusals: refusals.map(actOf),
    verification: verification === undefined ? null : actOf(verification),
  };
}

function outcomesOf({ allow, deny, error }: Outcomes): Outcomes {
  return { allow, deny, error };
}

function actOf({ time, entry }: RecentAct): Readonly<Record<string, unknown>> {
  const { action, decision, actor, resource, reasons = [], policy, requestId, address, count } = entry;
  return {
    time: time.toISOString(),
    action,
    decision,
    actor,
    resource: resource ?? null,
    reasons: reasons.map(String),
    policy: policy ?? null,
    request_id: requestId,
    address,
    count: count ?? 1,
  };
}

/** Where this replica's chain stands, and its last signed checkpoint. */
async function chainOf(context: ServiceContext): Promise<unknown> {
  const log = context.auditLog;
  if (log === undefined) return null;
  const kept = (await keptHeads(context.records, log.head.chain))?.last;
  const record = kept === undefined ? undefined : await recordAt(log.directory, kept.seq);
  return {
    ...log.head,
    checkpoint: kept === undefined ? null : { seq: kept.seq, time: record?.time ?? null },
  };
}

async function recordAt(directory: string, seq: number): Promise<AuditRecord | undefined> {
  let looked = 0;
  for await (const record of readRecent(directory)) {
    looked += 1;
    if (record.seq === seq) return record;
    if (record.seq < seq || looked >= maxLookBack) return undefined;
  }
  return undefined;
}

function numberIn(call: Call, name: string, otherwise: number, most: number): number {
  const text = call.query.get(name);
  if (text === null) return Math.min(otherwise, most);
  const value = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > most) throw new Refusal("request-malformed", `${name} is 1 to ${most}`);
  return value;
}
