import { generateRootKey, type RootKey } from "../keys/root-key.ts";
import { Keyring } from "../keys/keyring.ts";
import { ResourceVault } from "../keys/resource-vault.ts";
import { defaultAppraisalPolicy } from "../policies/default-appraisal.ts";
import { affirmingPolicy, developmentPolicy } from "../policies/default-release.ts";
import type { EvidenceVerifier } from "../protocol/evidence.ts";
import type { AttestationPolicy, ResourcePolicy } from "../protocol/policy-seam.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import { OwnAdminTokens, type AdminTokenVerifier } from "../tokens/admin-tokens.ts";
import { AttestationTokens } from "../tokens/attestation-tokens.ts";
import type { Grant } from "../tokens/grants.ts";
import { SigningKeys } from "../tokens/signing-keys.ts";
import { BuiltInAttestation, type AttestationService } from "./attestation-service.ts";
import type { Call, Reply } from "./call.ts";
import type { ServiceContext } from "./context.ts";
import { startHttpServer, type TlsMaterial } from "./http-server.ts";
import { defaultLimits, type ServerLimits } from "./limits.ts";
import { rcarRoutes } from "./rcar-routes.ts";
import { resourceRoutes } from "./resource-routes.ts";
import { Router } from "./router.ts";
import { sampleVerifier } from "./sample-verifier.ts";
import { Sessions } from "./sessions.ts";
import { wellKnownRoutes } from "./well-known-routes.ts";

/** Something that happened, for the log: one flat JSON object. */
export type LogEvent = Readonly<Record<string, string | number | readonly string[]>> & { readonly event: string };

export interface KbsServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** The service closes it when it is closed. */
  readonly store: SecretStore;
  /** The first wraps new keys, the others open what they wrapped. A generated one (only for stores that forget) when left out. */
  readonly rootKeys?: readonly [RootKey, ...RootKey[]] | undefined;
  /** `development` accepts the sample TEE, releases to it while no policy is set, and makes an admin token; loopback only. */
  readonly mode: "production" | "development";
  readonly verifiers?: readonly EvidenceVerifier[] | undefined;
  readonly attestationPolicy?: AttestationPolicy | undefined;
  readonly resourcePolicy?: ResourcePolicy | undefined;
  readonly roles?: Readonly<Record<string, readonly Grant[]>> | undefined;
  readonly adminVerifiers?: readonly AdminTokenVerifier[] | undefined;
  readonly tls?: TlsMaterial | undefined;
  readonly limits?: Partial<ServerLimits> | undefined;
  readonly tokenLifetimeSeconds?: number | undefined;
  readonly log?: ((event: LogEvent) => void) | undefined;
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
  /** Ends requests under way (at most `graceMs`, 10 s unless told), then closes the store. */
  close(options?: { readonly graceMs?: number | undefined }): Promise<void>;
}

const developmentTokenLifetimeSeconds = 24 * 3600;
const defaultTokenLifetimeSeconds = 5 * 60;

/**
 * Starts a Key Broker Service.
 *
 * Throws `ERR_KBS_LISTEN_FAILED`, `ERR_KBS_ROOT_KEY_UNUSABLE`, `ERR_KBS_STORE_*`. Whoever started it closes it.
 */
export async function serveKbs(options: KbsServerOptions): Promise<KbsServer> {
  const now = options.now ?? (() => new Date());
  const log = options.log ?? (() => undefined);
  const limits = { ...defaultLimits, ...options.limits };
  const keyring = await Keyring.open(options.store, options.rootKeys ?? [generateRootKey()]);
  const tokenKeys = await SigningKeys.open(options.store, keyring, { purpose: "attestation", algorithm: "ES256", now: now() });
  const adminKeys = await SigningKeys.open(options.store, keyring, { purpose: "admin", algorithm: "EdDSA", now: now() });
  const tokens = new AttestationTokens(tokenKeys, {
    issuer: "CoCo-Attestation-Service",
    lifetimeSeconds: options.tokenLifetimeSeconds ?? defaultTokenLifetimeSeconds,
    mode: options.mode,
  });
  const ownTokens = new OwnAdminTokens(adminKeys, options.roles ?? {});
  const policy = options.resourcePolicy ?? (options.mode === "development" ? developmentPolicy() : affirmingPolicy());
  const context: ServiceContext = {
    vault: new ResourceVault(options.store, keyring),
    sessions: new Sessions(keyring, { lifetimeMs: limits.sessionLifetimeMs }),
    attestation: builtInAttestation(options, tokens),
    tokens,
    adminVerifiers: [ownTokens, ...(options.adminVerifiers ?? [])],
    resourcePolicy: () => Promise.resolve(policy),
    limits,
    transport: options.tls === undefined ? "plain" : "tls",
    now,
  };
  const router = new Router([...rcarRoutes(context), ...resourceRoutes(context), ...wellKnownRoutes({ tokenKeys, store: options.store })]);
  const answer = async (call: Call): Promise<Reply> => {
    const { route, parameters } = router.match(call.method, call.path);
    return route.handle(call, parameters);
  };
  const http = await startHttpServer({
    ...options.listen,
    tls: options.tls,
    limits,
    answer,
    observe: ({ call, status, durationMs, refusal }) =>
      log({
        event: "request",
        request_id: call.requestId,
        method: call.method,
        path: call.path.slice(0, 300),
        status,
        duration_ms: Math.round(durationMs * 10) / 10,
        ...(refusal === undefined
          ? {}
          : { code: refusal.code, detail: refusal.detail, ...(refusal.status >= 500 ? { cause: String(refusal.cause) } : {}) }),
      }),
  });
  if (options.mode === "development")
    log({ event: "development-mode", message: "the sample TEE is accepted and, with no policy set, everything is released to it" });
  const { address, port } = http.address;
  const host = address.includes(":") ? `[${address}]` : address;
  const issueAdminToken: KbsServer["issueAdminToken"] = (request) => ownTokens.issue({ ...request, now: now() });
  return {
    url: `${options.tls === undefined ? "http" : "https"}://${host}:${port}`,
    address: { host: address, port },
    adminToken:
      options.mode === "development"
        ? issueAdminToken({ subject: "development-admin", role: "admin", lifetimeSeconds: developmentTokenLifetimeSeconds })
        : undefined,
    issueAdminToken,
    close: async (closeOptions) => {
      await http.close(closeOptions?.graceMs ?? 10_000);
      await keyring.close();
      await options.store.close();
    },
  };
}

function builtInAttestation(options: KbsServerOptions, tokens: AttestationTokens): AttestationService {
  const verifiers = [...(options.verifiers ?? []), ...(options.mode === "development" ? [sampleVerifier()] : [])];
  return new BuiltInAttestation({
    verifiers,
    policy: options.attestationPolicy ?? defaultAppraisalPolicy(),
    tokens,
    referenceValues: () => Promise.resolve(() => undefined),
  });
}
