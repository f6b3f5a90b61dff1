import type { AuditRecord } from "../audit/record.ts";
import type { AuditVerdict } from "../audit/verify-log.ts";
import { parseRecordLine } from "../audit/parse-line.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import type { Grant } from "../tokens/grants.ts";
import { malformedAnswer, type AdminCall } from "./admin-call.ts";
import type { CallOptions } from "./transport.ts";

export interface AuditPage {
  readonly records: readonly AuditRecord[];
  /** The last record of the log, whether or not it is in this page. */
  readonly headSeq: number;
}

/** The audit log of the replica that answers; at our service only. */
export interface KbsAdminAudit {
  /** Records after a sequence number, oldest first, or the last ones. At most 1000. */
  read(
    request?: {
      readonly after?: number | undefined;
      readonly last?: number | undefined;
      readonly limit?: number | undefined;
    } & CallOptions,
  ): Promise<AuditPage>;
  /** Verifies the whole chain there. */
  verify(options?: CallOptions): Promise<AuditVerdict>;
}

/** The service itself; at our service only. */
export interface KbsAdminSystem {
  issueToken(
    request: {
      readonly subject: string;
      readonly role: string;
      readonly grants?: readonly Grant[] | undefined;
      readonly lifetimeSeconds?: number | undefined;
    } & CallOptions,
  ): Promise<string>;
  /** Mode, store, key-encryption keys, signing keys, audit head. */
  describe(options?: CallOptions): Promise<Readonly<Record<string, unknown>>>;
  rotateEncryptionKey(options?: CallOptions): Promise<{ readonly resealed: number; readonly dropped: number }>;
  /** Wraps the key-encryption keys under the first root key of the service's configuration. */
  rotateRootKey(options?: CallOptions): Promise<{ readonly root: string; readonly rewrapped: number }>;
  reseal(options?: CallOptions): Promise<{ readonly resealed: number; readonly dropped: number }>;
  /** A new signing key; attestation tokens, and former keys kept, unless told. `token` replaces the caller's own when that was revoked too. */
  rotateSigningKey(
    request?: {
      readonly purpose?: "attestation" | "admin" | undefined;
      readonly former?: "keep" | "revoke" | undefined;
    } & CallOptions,
  ): Promise<{ readonly kid: string; readonly token: string | undefined }>;
  /** The metrics text. */
  metrics(options?: CallOptions): Promise<string>;
}

/** The audit calls over a connection. */
export function adminAudit(call: AdminCall): KbsAdminAudit {
  return {
    read: async ({ after, last, limit, ...options } = {}) => {
      const query = new URLSearchParams();
      for (const [name, value] of Object.entries({ after, last, limit })) if (value !== undefined) query.set(name, String(value));
      const answer = await call.json({ method: "GET", path: `/api/v1/audit?${query.toString()}`, ...options }, "read the audit log");
      const records = memberAt(answer, "records");
      const headSeq = memberAt(answer, "head", "seq");
      if (!Array.isArray(records) || typeof headSeq !== "number") throw malformedAnswer("records");
      return { records: records.map((record: unknown) => parseRecordLine(Buffer.from(JSON.stringify(record), "utf8"))), headSeq };
    },
    verify: async (options = {}) => {
      const answer = await call.json({ method: "GET", path: "/api/v1/audit/verify", ...options }, "verify the audit log");
      const verdict = memberAt(answer, "verdict");
      if (verdict !== "intact" && verdict !== "broken") throw malformedAnswer("verdict");
      return answer as AuditVerdict;
    },
  };
}

/** The system calls over a connection. */
export function adminSystem(call: AdminCall): KbsAdminSystem {
  const counts = async (path: string, what: string, options: CallOptions) => {
    const answer = await call.json({ method: "POST", path, json: {}, ...options }, what);
    const [resealed, dropped] = [memberAt(answer, "resealed"), memberAt(answer, "dropped")];
    if (typeof resealed !== "number" || typeof dropped !== "number") throw malformedAnswer("resealed");
    return { resealed, dropped };
  };
  return {
    issueToken: async ({ subject, role, grants, lifetimeSeconds, ...options }) => {
      const json = {
        subject,
        role,
        ...(grants === undefined ? {} : { grants }),
        ...(lifetimeSeconds === undefined ? {} : { lifetime_seconds: lifetimeSeconds }),
      };
      const token = memberAt(await call.json({ method: "POST", path: "/api/v1/tokens", json, ...options }, "issue a token"), "token");
      if (typeof token !== "string") throw malformedAnswer("token");
      return token;
    },
    describe: async (options = {}) => {
      const answer = await call.json({ method: "GET", path: "/api/v1/system", ...options }, "describe the service");
      if (!isObject(answer)) throw malformedAnswer("description");
      return answer;
    },
    rotateEncryptionKey: (options = {}) => counts("/api/v1/system/rotate-encryption-key", "rotate the key-encryption key", options),
    rotateRootKey: async (options = {}) => {
      const request = { method: "POST", path: "/api/v1/system/rotate-root-key", json: {}, ...options } as const;
      const answer = await call.json(request, "wrap its keys under another root key");
      const [root, rewrapped] = [memberAt(answer, "root"), memberAt(answer, "rewrapped")];
      if (typeof root !== "string" || typeof rewrapped !== "number") throw malformedAnswer("rewrapped");
      return { root, rewrapped };
    },
    reseal: (options = {}) => counts("/api/v1/system/reseal", "seal its records again", options),
    rotateSigningKey: async ({ purpose, former, ...options } = {}) => {
      const json = { ...(purpose === undefined ? {} : { purpose }), ...(former === undefined ? {} : { former }) };
      const answer = await call.json(
        { method: "POST", path: "/api/v1/system/rotate-signing-key", json, ...options },
        "rotate the signing key",
      );
      const [kid, token] = [memberAt(answer, "kid"), memberAt(answer, "token")];
      if (typeof kid !== "string") throw malformedAnswer("kid");
      return { kid, token: typeof token === "string" ? token : undefined };
    },
    metrics: async (options = {}) => (await call.ok({ method: "GET", path: "/metrics", ...options }, "give metrics")).body.toString("utf8"),
  };
}
