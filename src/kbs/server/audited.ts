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
  /** Set once the caller has proved who they are: from then on each refusal is a record of its own. */
  caller?: "proved";
  actor?: string;
  resource?: string;
  version?: number;
  reasons?: readonly string[];
  policy?: string;
  evidence?: string;
  token?: string;
}

export interface AuditSubject {
  readonly action: string;
  readonly resource?: string | undefined;
}

/** A reading act. */
export interface ReadingSubject extends AuditSubject {
  /** `refusals`: reading what is no secret is not worth a line. */
  readonly record: "always" | "refusals";
}

/** What an administration act needs. Without a path, a grant of the right anywhere is enough. */
export interface NeededRight {
  readonly right: AdminAction;
  readonly path: string | undefined;
}

/**
 * Does some work and writes down what came of it, before anybody learns it. When the record cannot be written, the
 * answer is a 503 instead of the outcome.
 */
export async function audited<T>(
  context: ServiceContext,
  call: Call,
  subject: ReadingSubject,
  work: (note: AuditNote) => Promise<T>,
): Promise<T> {
  const note: AuditNote = {};
  let outcome: T;
  try {
    outcome = await work(note);
  } catch (error) {
    await writeRefusal(context, call, subject, note, error);
    throw error;
  }
  if (subject.record === "always") await write(context, entryOf(call, subject, note, "allow"));
  return outcome;
}

/** An administration act that changes nothing: who, may they, do it, write it down. */
export async function administer<T>(
  context: ServiceContext,
  call: Call,
  subject: ReadingSubject & NeededRight,
  work: (identity: AdminIdentity, note: AuditNote) => Promise<T>,
): Promise<T> {
  requireCredential(context, call, subject.action);
  return audited(context, call, subject, async (note) => work(await admit(context, call, subject, note), note));
}

/**
 * An administration act that changes something. `prepare` reads and checks everything, and gives the act itself; before
 * that begins, the intent is in the log, so no change takes effect that the log knows nothing of. Its outcome is a second
 * record; a process that dies in between leaves the intent alone.
 */
export async function change<T>(
  context: ServiceContext,
  call: Call,
  subject: AuditSubject & NeededRight,
  prepare: (identity: AdminIdentity, note: AuditNote) => Promise<() => Promise<T>>,
): Promise<T> {
  requireCredential(context, call, subject.action);
  return audited(context, call, { ...subject, record: "always" }, async (note) => {
    const act = await prepare(await admit(context, call, subject, note), note);
    await write(context, entryOf(call, subject, note, "intent"));
    return act();
  });
}

/** Counts a refusal that nobody's name goes with, and gives it back to be thrown. */
export function refusedStranger(context: ServiceContext, call: Call, action: string, refusal: Refusal): Refusal {
  context.refusals.count(call.remote, action);
  return refusal;
}

function requireCredential(context: ServiceContext, call: Call, action: string): void {
  if (call.headers.authorization !== undefined || call.clientCertificate !== undefined) return;
  const refusal = new Refusal("admin-token-missing", `admin access denied for endpoint ${call.path}: no bearer token`);
  throw refusedStranger(context, call, action, refusal);
}

/** Before a byte of the body is read. */
async function admit(context: ServiceContext, call: Call, needed: NeededRight, note: AuditNote): Promise<AdminIdentity> {
  const identity = await identify(context, call);
  note.actor = actorOf(identity);
  if (identity.tokenId !== undefined) note.token = identity.tokenId;
  const wait = context.subjectRate.take(note.actor, performance.now());
  // Not yet a known caller: who asks too often gets nothing done that would be worth a record each.
  if (wait > 0) throw new Refusal("rate-limited", "too many requests with this token", { retryAfterSeconds: wait });
  note.caller = "proved";
  requireRight(identity, needed.right, needed.path);
  return identity;
}

/** How an administrator is called in the audit. */
export function actorOf(identity: AdminIdentity): string {
  return `admin:${identity.issuer}:${identity.subject}`;
}

async function writeRefusal(context: ServiceContext, call: Call, subject: AuditSubject, note: AuditNote, error: unknown): Promise<void> {
  const refusal = refusalOf(error);
  const reasons = [refusal.detail, ...refusal.reasons, ...(note.reasons ?? [])];
  const entry = entryOf(call, subject, { ...note, reasons }, refusal.status < 500 ? "deny" : "error");
  // What could not be written cannot be written down either.
  if (refusal.code === "audit-unavailable") return;
  if (note.caller === "proved") return write(context, entry);
  await failClosed(context, () => context.refusals.add(entry));
}

function entryOf(call: Call, subject: AuditSubject, note: AuditNote, decision: AuditEntry["decision"]): AuditEntry {
  const { actor, caller: _caller, resource = subject.resource, ...rest } = note;
  return {
    action: subject.action,
    decision,
    actor: actor ?? "unknown",
    requestId: call.requestId,
    address: call.remote,
    ...(resource === undefined ? {} : { resource: resource.slice(0, 700) }),
    ...rest,
  };
}

function write(context: ServiceContext, entry: AuditEntry): Promise<void> {
  return failClosed(context, () => context.audit.append(entry));
}

async function failClosed(context: ServiceContext, append: () => Promise<"written" | "counted" | void>): Promise<void> {
  try {
    if ((await append()) !== "counted") context.metrics.auditRecords();
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
