import { readRecords } from "../audit/read-log.ts";
import { verifyAuditLog, type AuditVerdict } from "../audit/verify-log.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import { administer } from "./audited.ts";
import { jsonReply, type Call, type Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { keptHeads } from "./audit-parts.ts";
import { Refusal } from "./refusal.ts";
import type { Route } from "./router.ts";

const maxPage = 1000;

/** The audit log of this replica: reading by page, and verifying. */
export function auditRoutes(context: ServiceContext): readonly Route[] {
  return [
    { method: "GET", pattern: "/api/v1/audit", name: "api-audit", handle: (call) => read(context, call) },
    { method: "GET", pattern: "/api/v1/audit/verify", name: "api-audit-verify", handle: (call) => verify(context, call) },
  ];
}

/** `?after=SEQ&limit=N`, or `?last=N`. */
async function read(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "audit.read", record: "refusals", right: "audit:read", path: "" }, async () => {
    const log = logOf(context);
    const last = numberIn(call, "last");
    const limit = numberIn(call, "limit") ?? last ?? 100;
    if (limit < 1 || limit > maxPage) throw new Refusal("request-malformed", `limit is 1 to ${maxPage}`);
    const after = last === undefined ? (numberIn(call, "after") ?? 0) : Math.max(0, log.head.seq - last);
    const records = await readRecords(log.directory, { after, limit });
    return jsonReply({ records, head: log.head });
  });
}

async function verify(context: ServiceContext, call: Call): Promise<Reply> {
  return administer(context, call, { action: "audit.verify", record: "always", right: "audit:read", path: "" }, async (_identity, note) => {
    const verdict = await verifyOwnLog(context, logOf(context));
    note.reasons = [verdict.break?.message ?? `${verdict.records} records intact`];
    if (verdict.verdict === "broken") context.metrics.integrityFailures();
    return jsonReply(verdict);
  });
}

/** Verifies the log of this replica against its own keys and the head that it kept. */
export async function verifyOwnLog(context: Pick<ServiceContext, "records" | "tokenKeys">, log: AuditLog): Promise<AuditVerdict> {
  const kept = await keptHeads(context.records, log.head.chain);
  const knownHead = kept?.missing ?? kept?.last;
  return verifyAuditLog(log.directory, { keyOf: (kid) => context.tokenKeys.everByKid(kid)?.publicKey, knownHead });
}

function logOf(context: ServiceContext): AuditLog {
  if (context.auditLog === undefined) throw new Refusal("object-not-found", "this service keeps no audit log of its own");
  return context.auditLog;
}

function numberIn(call: Call, name: string): number | undefined {
  const text = call.query.get(name);
  if (text === null) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new Refusal("request-malformed", `${name} is a number`);
  return Number(text);
}
