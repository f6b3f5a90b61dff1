import { hash } from "node:crypto";
import { canonicalJson, type JsonObject } from "../../attestation/index.ts";

/** What is written about one act; every member is public knowledge for an auditor, none is a secret. */
export interface AuditEntry {
  /** `attest`, `release`, `resource.put`, `policy.put`, ... */
  readonly action: string;
  /** `intent`: allowed, and about to take effect; the record with the same request id and another decision says what came of it. */
  readonly decision: "intent" | "allow" | "deny" | "error";
  /** An administrator's subject, or the guest: `guest:<tee>:<measurement>`. */
  readonly actor: string;
  readonly requestId: string;
  readonly address: string;
  /** Resource path, policy id, name of a reference value. */
  readonly resource?: string | undefined;
  readonly version?: number | undefined;
  readonly reasons?: readonly string[] | undefined;
  /** Id and digest of the policy that decided. */
  readonly policy?: string | undefined;
  /** Digest of the evidence. */
  readonly evidence?: string | undefined;
  /** `jti` of the token. */
  readonly token?: string | undefined;
  /** How many refusals a summary stands for; see `RefusalDigest`. */
  readonly count?: number | undefined;
  /** Since when a summary counted. RFC 3339. */
  readonly since?: string | undefined;
  /** A compact JWS over a former record's hash; in checkpoints only. */
  readonly checkpoint?: string | undefined;
}

/** A line of the log. */
export interface AuditRecord extends AuditEntry {
  /** Which chain; each replica writes its own. */
  readonly chain: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** RFC 3339. */
  readonly time: string;
  /** Hash of the record before it; 64 zeros for the first. */
  readonly prev: string;
  /** SHA-256 over the former hash's bytes and the canonical JSON of everything else. */
  readonly hash: string;
}

export const firstPrev = "0".repeat(64);

/** The hash of a record that was read, without its `hash`. Source: RFC 8785 for the canonical form. */
export function hashOf(record: Omit<AuditRecord, "hash">): string {
  // Whatever members it has: one that was added breaks the chain as one that was changed does.
  return hashOfText(canonicalJson(record as unknown as JsonObject), record.prev);
}

/** A record with its hash, and its line in the log: the very text that is hashed, with the hash behind it. */
export function sealedRecord(record: Omit<AuditRecord, "hash">): { readonly record: AuditRecord; readonly line: string } {
  const text = canonicalText(record);
  const sum = hashOfText(text, record.prev);
  return { record: { ...record, hash: sum }, line: `${text.slice(0, -1)},"hash":"${sum}"}\n` };
}

/** The members of every record that we write, as RFC 8785 sorts them. */
const sortedMembers = [
  "action",
  "actor",
  "address",
  "chain",
  "checkpoint",
  "count",
  "decision",
  "evidence",
  "policy",
  "prev",
  "reasons",
  "requestId",
  "resource",
  "seq",
  "since",
  "time",
  "token",
  "version",
] as const satisfies readonly (keyof AuditRecord)[];

/** In the order of the list, which is the canonical one; values are texts, numbers and a list of texts. */
function canonicalText(record: Omit<AuditRecord, "hash">): string {
  let text = "";
  for (const name of sortedMembers) {
    const value = record[name];
    if (value !== undefined) text += `${text === "" ? "{" : ","}"${name}":${canonicalJson(value)}`;
  }
  return `${text}}`;
}

function hashOfText(text: string, prev: string): string {
  const former = prev.length / 2;
  const bytes = Buffer.allocUnsafe(former + Buffer.byteLength(text));
  bytes.write(prev, "hex");
  bytes.write(text, former, "utf8");
  return hash("sha256", bytes, "hex");
}

/** Where a chain stands. */
export interface AuditHead {
  readonly chain: string;
  readonly seq: number;
  readonly hash: string;
}
