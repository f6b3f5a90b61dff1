import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "../protocol/shape.ts";
import type { AuditRecord } from "./record.ts";

const maxLineBytes = 1 << 20;

/** Parses one line of a log. Throws `ERR_KBS_AUDIT_BROKEN`. */
export function parseRecordLine(line: Uint8Array): AuditRecord {
  let value: unknown;
  try {
    value = parseJson(line, { maxBytes: maxLineBytes, maxDepth: 4, subject: "a line of the audit log" });
  } catch (cause) {
    throw broken("a line of the audit log is not JSON", cause);
  }
  if (!isObject(value)) throw broken("a line of the audit log is not an object");
  const { chain, seq, time, prev, hash, action, decision, actor, requestId, address } = value;
  const texts = [chain, time, action, actor, requestId, address];
  if (typeof seq !== "number" || !texts.every((text) => typeof text === "string") || !isHash(prev) || !isHash(hash)) {
    throw broken("a line of the audit log lacks a member");
  }
  if (decision !== "intent" && decision !== "allow" && decision !== "deny" && decision !== "error")
    throw broken("a line of the audit log has an unknown decision");
  // Further members are covered by the hash; whoever changed them is found by it.
  return value as unknown as AuditRecord;
}

function isHash(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function broken(message: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_AUDIT_BROKEN", { message, cause, hint: "verify the log: ociseal kbs audit verify" });
}
