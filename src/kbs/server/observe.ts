import type { AuditRecord } from "../audit/record.ts";
import type { ServiceMetrics } from "../metrics/service-metrics.ts";
import { countRefusal } from "./audited.ts";
import type { RequestEvent } from "./http-server.ts";

/** Something that happened, for the log: one flat JSON object. */
export type LogEvent = Readonly<Record<string, string | number | readonly string[] | AuditRecord>> & { readonly event: string };

export type Log = (event: LogEvent) => void;

/** Counts and logs a finished request. Neither tells a secret: no headers, no bodies, no query. */
export function observeRequest(parts: { readonly metrics: ServiceMetrics; readonly log: Log }, event: RequestEvent, route: string): void {
  const { call, status, durationMs, refusal } = event;
  const { metrics } = parts;
  metrics.httpRequests({ route, method: knownMethods.has(call.method) ? call.method : "other", status: String(status) });
  metrics.httpDuration({ route }, durationMs / 1000);
  metrics.httpRequestSize({ route }, event.requestBytes);
  metrics.httpResponseSize({ route }, event.responseBytes);
  if (refusal !== undefined) countRefusal(metrics, refusal);
  if (refusal !== undefined && isIntegrityFailure(refusal.cause)) metrics.integrityFailures();
  parts.log({
    event: "request",
    request_id: call.requestId,
    method: call.method,
    path: call.path.slice(0, 300),
    remote: call.remote,
    status,
    duration_ms: Math.round(durationMs * 10) / 10,
    ...(refusal === undefined ? {} : { code: refusal.code, detail: refusal.detail, ...causeOf(refusal.cause, refusal.status) }),
  });
}

const knownMethods = new Set(["GET", "POST", "PUT", "DELETE"]);

function isIntegrityFailure(cause: unknown): boolean {
  return (cause as { readonly code?: unknown } | undefined)?.code === "ERR_KBS_RECORD_CORRUPT";
}

/** Only our own failures need a reason beyond the detail. */
function causeOf(cause: unknown, status: number): { readonly cause?: string } {
  if (status < 500 || cause === undefined) return {};
  return { cause: cause instanceof Error ? `${cause.name}: ${cause.message}` : "unknown" };
}
