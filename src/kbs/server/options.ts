import type { RefusalDigestLimits } from "../audit/refusal-digest.ts";
import type { RootKey } from "../keys/root-key.ts";
import type { PolicyEngine } from "../policies/policy-store.ts";
import type { EvidenceVerifier } from "../protocol/evidence.ts";
import type { ResourcePolicy } from "../protocol/policy-seam.ts";
import type { ResourceSource } from "../stores/mounted-folder.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import type { AdminIdentity, AdminTokenVerifier } from "../tokens/admin-tokens.ts";
import type { Grant } from "../tokens/grants.ts";
import type { AttestationService } from "./attestation-service.ts";
import type { AuditOptions } from "./audit-parts.ts";
import type { AuditSink } from "./audited.ts";
import type { ClientCertificate } from "./call.ts";
import type { ForeignTokens } from "./coco-attestation.ts";
import type { TlsMaterial } from "./http-server.ts";
import type { ServerLimits } from "./limits.ts";
import type { Log } from "./observe.ts";
import type { Route } from "./router.ts";

/** What a service is made of. */
export interface KbsServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** The service closes it when it is closed. */
  readonly store: SecretStore;
  /** Read-only resources beside the store, e.g. mounted Secrets. */
  readonly sources?: readonly ResourceSource[] | undefined;
  /** The first wraps new keys, the others open what they wrapped. A generated one (only for stores that forget) when left out. */
  readonly rootKeys?: readonly [RootKey, ...RootKey[]] | undefined;
  /** `development` accepts the sample TEE, releases to it while no policy is set, and makes an admin token; loopback only. */
  readonly mode: "production" | "development";
  /** Verifiers of evidence; the sample TEE's is added in development mode. */
  readonly verifiers?: readonly EvidenceVerifier[] | undefined;
  /** Judges evidence elsewhere instead of with the verifiers. */
  readonly attestation?: AttestationService | undefined;
  /** Accepts attestation tokens that another service signed. */
  readonly foreignTokens?: ForeignTokens | undefined;
  /** Languages in which policies can be uploaded. */
  readonly policyEngines?: readonly PolicyEngine[] | undefined;
  /** Decides where no uploaded policy governs; all devices affirming unless told. */
  readonly resourcePolicy?: ResourcePolicy | undefined;
  /** Rights of the roles that own tokens name. */
  readonly roles?: Readonly<Record<string, readonly Grant[]>> | undefined;
  /** Further issuers of administration tokens. */
  readonly adminVerifiers?: readonly AdminTokenVerifier[] | undefined;
  /** Who a client certificate stands for. */
  readonly certificateIdentity?: ((certificate: ClientCertificate) => AdminIdentity | undefined) | undefined;
  /** An audit log in a folder of this replica. */
  readonly audit?: AuditOptions | undefined;
  /** Records go here instead of to a folder. */
  readonly auditSink?: AuditSink | undefined;
  /** How much of the audit log callers may write who proved nothing. */
  readonly refusalDigest?: Partial<RefusalDigestLimits> | undefined;
  readonly tls?: TlsMaterial | undefined;
  readonly limits?: Partial<ServerLimits> | undefined;
  /** Addresses or CIDR blocks whose `X-Forwarded-For` is believed. */
  readonly trustedProxies?: readonly string[] | undefined;
  /** `trustee`: 401 for nearly everything, for people who compare; proper statuses unless told. */
  readonly statuses?: "proper" | "trustee" | undefined;
  readonly tokenIssuer?: string | undefined;
  /** 300 unless told. */
  readonly tokenLifetimeSeconds?: number | undefined;
  /** The page for administrators at `/console/`; served unless told. */
  readonly console?: "served" | "off" | undefined;
  /** Further routes. */
  readonly routes?: readonly Route[] | undefined;
  /** What the service calls itself in its metrics. */
  readonly version?: string | undefined;
  readonly log?: Log | undefined;
  readonly now?: (() => Date) | undefined;
}

/** A running service. */
export interface KbsServer {
  /** `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly address: { readonly host: string; readonly port: number };
  /** A token with all rights for one day; in development mode only. */
  readonly adminToken: string | undefined;
  /** Issues an administration token. */
  issueAdminToken(request: {
    readonly subject: string;
    readonly role: string;
    readonly grants?: readonly Grant[] | undefined;
    readonly lifetimeSeconds: number;
  }): string;
  /** New certificates, for connections from now on. */
  reloadTls(tls: TlsMaterial): void;
  /** Opens the keyring with other root keys from now on; throws `ERR_KBS_ROOT_KEY_UNUSABLE` and keeps the former ones when they do not open it. */
  reloadRootKeys(rootKeys: readonly [RootKey, ...RootKey[]]): Promise<void>;
  /** The metrics as Prometheus reads them. */
  metricsText(): string;
  /** Ends requests under way (at most `graceMs`, 10 s unless told), then closes the store. */
  close(options?: { readonly graceMs?: number | undefined }): Promise<void>;
}
