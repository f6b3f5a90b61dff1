import type { AuditLog } from "../audit/audit-log.ts";
import type { RefusalDigest } from "../audit/refusal-digest.ts";
import type { Activity } from "../console/activity.ts";
import type { DueKeys } from "../keys/due-keys.ts";
import type { Keyring } from "../keys/keyring.ts";
import type { ResourceVault } from "../keys/resource-vault.ts";
import type { SealedRecords } from "../keys/sealed-records.ts";
import type { ServiceMetrics } from "../metrics/service-metrics.ts";
import type { PolicyStore } from "../policies/policy-store.ts";
import type { ReferenceValues } from "../policies/reference-values.ts";
import type { ResourcePolicy } from "../protocol/policy-seam.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import type { AdminIdentity, AdminTokenVerifier, OwnAdminTokens } from "../tokens/admin-tokens.ts";
import type { AttestationTokens } from "../tokens/attestation-tokens.ts";
import type { SigningKeys } from "../tokens/signing-keys.ts";
import type { AttestationService } from "./attestation-service.ts";
import type { AuditSink } from "./audited.ts";
import type { ClientCertificate } from "./call.ts";
import type { ServerLimits } from "./limits.ts";
import type { RateLimiter } from "./rate-limit.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Sessions } from "./sessions.ts";

/** What the routes of one service share. */
export interface ServiceContext {
  readonly mode: "production" | "development";
  readonly store: SecretStore;
  readonly keyring: Keyring;
  readonly records: SealedRecords;
  readonly vault: ResourceVault;
  readonly dueKeys: DueKeys;
  readonly policies: PolicyStore;
  /** Decides where no uploaded policy governs. */
  readonly fallbackPolicy: ResourcePolicy;
  readonly referenceValues: ReferenceValues;
  readonly sessions: Sessions;
  readonly attestation: AttestationService;
  readonly attestationSlots: Semaphore;
  readonly tokens: AttestationTokens;
  readonly tokenKeys: SigningKeys;
  readonly ownTokens: OwnAdminTokens;
  readonly adminKeys: SigningKeys;
  readonly adminVerifiers: readonly AdminTokenVerifier[];
  readonly certificateIdentity: (certificate: ClientCertificate) => AdminIdentity | undefined;
  readonly subjectRate: RateLimiter;
  readonly audit: AuditSink;
  /** Refusals of callers who proved nothing, on their way to {@link audit}. */
  readonly refusals: RefusalDigest;
  /** The log behind {@link audit}, where there is one to read. */
  readonly auditLog: AuditLog | undefined;
  /** What was written to {@link audit} lately, counted. */
  readonly activity: Activity;
  readonly metrics: ServiceMetrics;
  readonly limits: ServerLimits;
  readonly transport: "tls" | "plain";
  readonly now: () => Date;
}
