import type { AuditEntry } from "../audit/record.ts";
import type { ServiceMetrics } from "../metrics/service-metrics.ts";
import type { AdminIdentity } from "../tokens/admin-tokens.ts";
import type { AdminAction } from "../tokens/grants.ts";
import { identify, requireRight } from "./admin-access.ts";
import type { Call } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { Refusal, refusalOf } from "./refusal.ts";

/** Writes audit records; returns when they are safe. */
export interface AuditSink {
  append(entry: AuditEntry): Promise<void>;
}

/** What becomes known while a request is worked on. */
export interface AuditNote {
  actor?: string;
  version?: number;
  reasons?: readonly string[];
  policy?: string;
  evidence?: string;
  token?: string;
}

export interface AuditSubject {
  readonly action: string;
  readonly resource?: string | undefined;
  /** `refusals`: reading what is no secret is not worth a line. */
  readonly record: "always" | "refusals";
}

/**
 * Does some work and writes down what came of it, before anybody learns it. When the record cannot be written, the
 * answer is a 503 instead of the outcome.
 */
export async function audited<T>(
  context: ServiceContext,
  call: Call,
  subject: AuditSubject,
  work: (note: AuditNote) => Promise<T>,
): Promise<T> {
  const note: AuditNote = {};
  let outcome: T;
  try {
    outcome = await work(note);
  } catch (error) {
    const refusal = refusalOf(error);
    const reasons = [refusal.detail, ...refusal.reasons, ...(note.reasons ?? [])];
    await write(context, call, subject, { ...note, reasons }, refusal.status < 500 ? "deny" : "error");
    throw error;
  }
  if (subject.record === "always") await write(context, call, subject, note, "allow");
  return outcome;
}

/** An administration act: who, may they, do it, write it down. Without a path, a grant of the right anywhere is enough. */
export async function administer<T>(
  context: ServiceContext,
  call: Call,
  subject: AuditSubject & { readonly right: AdminAction; readonly path: string | undefined },
  work: (identity: AdminIdentity, note: AuditNote) => Promise<T>,
): Promise<T> {
  if (call.headers.authorization === undefined && call.clientCertificate === undefined) {
    // Not worth a line: anybody can knock without a name.
    throw new Refusal("admin-token-missing", `admin access denied for endpoint ${call.path}: no bearer token`);
  }
  return audited(context, call, subject, async (note) => {
    const identity = await identify(context, call);
    note.actor = actorOf(identity);
    if (identity.tokenId !== undefined) note.token = identity.tokenId;
    const wait = context.subjectRate.take(note.actor, performance.now());
    if (wait > 0) throw new Refusal("rate-limited", "too many requests with this token", { retryAfterSeconds: wait });
    requireRight(identity, subject.right, subject.path);
    return work(identity, note);
  });
}

/** How an administrator is called in the audit. */
export function actorOf(identity: AdminIdentity): string {
  return `admin:${identity.issuer}:${identity.subject}`;
}

async function write(
  context: ServiceContext,
  call: Call,
  subject: AuditSubject,
  note: AuditNote,
  decision: AuditEntry["decision"],
): Promise<void> {
  const { actor, ...rest } = note;
  try {
    await context.audit.append({
      action: subject.action,
      decision,
      actor: actor ?? "unknown",
      requestId: call.requestId,
      address: call.remote,
      ...(subject.resource === undefined ? {} : { resource: subject.resource.slice(0, 700) }),
      ...rest,
    });
    context.metrics.auditRecords();
  } catch (cause) {
    context.metrics.auditFailures();
    throw new Refusal("audit-unavailable", "this service cannot write its audit log and therefore answers nothing", {
      cause,
      retryAfterSeconds: 5,
    });
  }
}

/** Counts refusals for the metrics. */
export function countRefusal(metrics: ServiceMetrics, refusal: Refusal): void {
  if (refusal.code === "rate-limited") metrics.rateLimited();
  if (refusal.code.startsWith("admin-")) metrics.adminRefused({ reason: refusal.code });
}
