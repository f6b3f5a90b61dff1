/** The Key Broker Service: protocol, guest and administrator clients, server, keys and stores. */
export { kbsErrors, KbsError, type KbsErrorCode } from "./errors.ts";
export {
  formatResourcePath,
  formatResourceUri,
  parseKeyTarget,
  parseResourcePath,
  parseResourceUri,
  type KeyTarget,
  type ResourcePath,
} from "./protocol/resource-path.ts";
export type { EvidenceClaims, EvidenceRequest, EvidenceVerifier } from "./protocol/evidence.ts";
export type { Appraisal, AppraisalInput, AttestationPolicy, PolicyDecision, ReleaseInput, ResourcePolicy } from "./protocol/policy-seam.ts";
export { tees, type TeeName } from "./protocol/tee-names.ts";
export { statusOf, tierOf, type TrustTier } from "./protocol/trust-vector.ts";
export { trustClaims, type TrustVector } from "../policy/index.ts";
export type { InitData } from "./protocol/messages.ts";
export { connectKbs, type KbsClient, type KbsClientOptions } from "./client/kbs-client.ts";
export {
  connectKbsAdmin,
  type KbsAdmin,
  type KbsAdminOptions,
  type PutOptions,
  type RegisteredKey,
  type RegistrationProof,
  type ResourceList,
} from "./client/admin-client.ts";
export type { TokenSource } from "./client/admin-call.ts";
export type { KbsAdminKeys, KeyPage, KeyVersionView, KeyView, PageRequest } from "./client/admin-keys.ts";
export type {
  KbsAdminPolicies,
  KbsAdminReferences,
  KbsAdminReleasePolicies,
  PolicyTrial,
  PolicyUploadRequest,
  PolicyView,
  ReferenceValueView,
} from "./client/admin-policies.ts";
export type { AuditPage, KbsAdminAudit, KbsAdminSystem } from "./client/admin-system.ts";
export type { CallOptions as KbsCallOptions, KbsTransportOptions } from "./client/transport.ts";
export type { TeeKeyAlgorithm } from "./client/tee-key-pair.ts";
export { serveKbs } from "./server/serve.ts";
export type { KbsServer, KbsServerOptions } from "./server/options.ts";
export type { LogEvent } from "./server/observe.ts";
export type { AuditOptions } from "./server/audit-parts.ts";
export type { AuditSink } from "./server/audited.ts";
export type { ClientCertificate } from "./server/call.ts";
export type { Rate } from "./server/rate-limit.ts";
export type { AttestationJob, AttestationOutcome, AttestationService } from "./server/attestation-service.ts";
export type { AuditEntry, AuditHead, AuditRecord } from "./audit/record.ts";
export { verifyAuditLog, type AuditBreak, type AuditVerdict, type AuditVerifyOptions } from "./audit/verify-log.ts";
export { readRecords as readAuditRecords } from "./audit/read-log.ts";
export type { PolicyEngine, PolicyLanguage, PolicyPurpose, StoredPolicy } from "./policies/policy-store.ts";
export type { ReferenceValue } from "./policies/reference-values.ts";
export type { TlsMaterial } from "./server/http-server.ts";
export type { ServerLimits } from "./server/limits.ts";
export { generateRootKey, localRootKey, openRootKeyFile, parseRootKey, type RootKey } from "./keys/root-key.ts";
export { openDirectoryStore } from "./stores/directory-store.ts";
export { openPostgresStore, type PostgresOptions } from "./stores/postgres-store.ts";
export { openVaultStore, type VaultStoreOptions } from "./stores/vault-store.ts";
export type { VaultConnection, VaultLogin } from "./stores/vault-session.ts";
export { openKubernetesStore, type KubernetesStoreOptions } from "./stores/kubernetes-store.ts";
export { mountedFolder, type ResourceSource } from "./stores/mounted-folder.ts";
export { commandRootKey, vaultTransitRootKey, type CommandRootKeyOptions, type VaultTransitOptions } from "./keys/remote-root-keys.ts";
export { checkKbsConfig, parseKbsConfig, type KbsConfig } from "./config/parse.ts";
export type { ConfigProblem } from "./config/reader.ts";
export { openKbsConfig, openRootKeys as openKbsRootKeys, readTls as readKbsTls, type ConfigSurroundings } from "./config/open.ts";
export { backupStore, restoreStore, verifyBackup, type BackupReport } from "./operations/backup.ts";
export { importTrusteeData, readTrusteeData, type ImportReport, type TrusteeItem } from "./operations/trustee-data.ts";
export { cocoAttestationService, type CocoAttestationOptions, type ForeignTokens } from "./server/coco-attestation.ts";
export { openMemoryStore } from "./stores/memory-store.ts";
export type { ListRequest, RecordPage, SecretStore, StoredRecord, WriteCondition } from "./stores/secret-store.ts";
export { jwtIssuer, type ClaimRule, type EndpointRule, type IssuerKeys, type JwtIssuerOptions } from "./tokens/jwt-issuer.ts";
export { certificateIdentities, type CertificateRule } from "./tokens/certificate-identity.ts";
export { adminActions, type AdminAction, type Grant } from "./tokens/grants.ts";
export type { AdminIdentity, AdminTokenVerifier, TokenUse } from "./tokens/admin-tokens.ts";
