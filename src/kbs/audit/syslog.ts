import { createSocket } from "node:dgram";
import type { AuditRecord } from "./record.ts";

/** Facility "log audit" (13), severity notice (5) or warning (4). Source: RFC 5424 section 6.2.1. */
const facility = 13;
const notice = 5;
const warning = 4;

/**
 * Sends each record to a syslog collector, UDP. Shipping is a copy for others: the log on disk is the record, and a
 * collector that is away costs nobody an answer. Source: RFC 5424 section 6, RFC 5426.
 */
export function syslogShipper(target: { readonly host: string; readonly port: number }): (record: AuditRecord) => void {
  const socket = createSocket(target.host.includes(":") ? "udp6" : "udp4");
  socket.unref();
  socket.on("error", () => undefined);
  return (record) => {
    const priority = facility * 8 + (record.decision === "deny" || record.decision === "error" ? warning : notice);
    const message = `<${priority}>1 ${record.time} - ociseal-kbs - ${record.action} - \ufeff${JSON.stringify(record)}`;
    socket.send(Buffer.from(message, "utf8"), target.port, target.host, () => undefined);
  };
}
