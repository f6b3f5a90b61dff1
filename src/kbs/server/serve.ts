import { defaultRefusalDigestLimits, RefusalDigest } from "../audit/refusal-digest.ts";
import { Activity } from "../console/activity.ts";
import { DueKeys } from "../keys/due-keys.ts";
import { Keyring } from "../keys/keyring.ts";
import { keyringReloadMs } from "../keys/reseal.ts";
import { ResourceVault } from "../keys/resource-vault.ts";
import { generateRootKey } from "../keys/root-key.ts";
import { SealedRecords } from "../keys/sealed-records.ts";
import { ServiceMetrics } from "../metrics/service-metrics.ts";
import { defaultAppraisalPolicy } from "../policies/default-appraisal.ts";
import { affirmingPolicy, developmentPolicy } from "../policies/default-release.ts";
import { PolicyStore } from "../policies/policy-store.ts";
import { ReferenceValues } from "../policies/reference-values.ts";
import { OwnAdminTokens } from "../tokens/admin-tokens.ts";
import { AttestationTokens } from "../tokens/attestation-tokens.ts";
import { selfSignedCertificate } from "../tokens/self-signed.ts";
import { SigningKeys } from "../tokens/signing-keys.ts";
import { BuiltInAttestation } from "./attestation-service.ts";
import { openAuditLog } from "./audit-parts.ts";
import type { Call, Reply } from "./call.ts";
import { clientAddressBehind } from "./client-address.ts";
import type { ServiceContext } from "./context.ts";
import { startHttpServer, type HttpServer } from "./http-server.ts";
import { Nonces } from "./nonces.ts";
import { defaultLimits, type ServerLimits } from "./limits.ts";
import { observeRequest, type Log } from "./observe.ts";
import type { KbsServer, KbsServerOptions } from "./options.ts";
import { RateLimiter } from "./rate-limit.ts";
import { Refusal, trusteeStatusOf } from "./refusal.ts";
import { Router } from "./router.ts";
import { sampleVerifier } from "./sample-verifier.ts";
import { Semaphore } from "./semaphore.ts";
import { serviceRoutes } from "./service-routes.ts";
import { Sessions } from "./sessions.ts";
import { maxTokenLifetimeSeconds } from "./system-routes.ts";

const developmentTokenLifetimeSeconds = 24 * 3600;
const defaultTokenLifetimeSeconds = 5 * 60;
const defaultGraceMs = 10_000;
const dayMs = 24 * 3600 * 1000;
/** Longer than any token lives, and beyond the retention of an audit log whose checkpoints they signed. */
const keepSigningKeysDays = 400;

/**
 * Starts a Key Broker Service.
 *
 * Throws `ERR_KBS_LISTEN_FAILED`, `ERR_KBS_ROOT_KEY_UNUSABLE`, `ERR_KBS_STORE_*`, `ERR_KBS_AUDIT_*`,
 * `ERR_KBS_CONFIG_INVALID`. Whoever started it closes it.
 */
export async function serveKbs(options: KbsServerOptions): Promise<KbsServer> {
  const log: Log = options.log ?? (() => undefined);
  const limits = { ...defaultLimits, ...options.limits };
  const context = await openContext(options, limits, log);
  const http = await listen(options, context, log);
  context.metrics.buildInfo({ version: options.version ?? "unknown" }, 1);
  if (options.tls !== undefined) context.metrics.certificate(options.tls.certificate);
  const reload = setInterval(() => {
    // What fails now is tried again in a minute; until then the keys in memory are good.
    context.keyring.reload().catch((cause: unknown) => log({ event: "keyring-reload-failed", cause: String(cause) }));
  }, keyringReloadMs);
  reload.unref();
  const flushRefusals = (): Promise<void> =>
    context.refusals.flush().catch((cause: unknown) => {
      context.metrics.auditFailures();
      log({ event: "audit-unwritable", cause: String(cause) });
    });
  const digest = setInterval(() => void flushRefusals(), context.refusals.intervalMs);
  digest.unref();
  if (options.mode !== "development" && options.audit === undefined && options.auditSink === undefined) {
    log({ event: "no-audit", message: "nothing is recorded: name a folder in [audit] to keep who was given which key" });
  }
  if (options.mode === "development") {
    log({ event: "development-mode", message: "the sample TEE is accepted and, with no policy set, everything is released to it" });
  }
  const { address, port } = http.address;
  const issueAdminToken: KbsServer["issueAdminToken"] = (request) => context.ownTokens.issue({ ...request, now: context.now() });
  const developmentAdmin = { subject: "development-admin", role: "admin", lifetimeSeconds: developmentTokenLifetimeSeconds };
  return {
    url: `${options.tls === undefined ? "http" : "https"}://${address.includes(":") ? `[${address}]` : address}:${port}`,
    address: { host: address, port },
    adminToken: options.mode === "development" ? issueAdminToken(developmentAdmin) : undefined,
    issueAdminToken,
    reloadTls: (tls) => {
      http.reloadTls(tls);
      context.metrics.certificate(tls.certificate);
    },
    reloadRootKeys: (rootKeys) => context.keyring.useRoots(rootKeys),
    metricsText: () => context.metrics.text(),
    close: async (closeOptions) => {
      clearInterval(reload);
      clearInterval(digest);
      await http.close(closeOptions?.graceMs ?? defaultGraceMs);
      await flushRefusals();
      await context.auditLog?.close();
      await context.keyring.close();
      await context.store.close();
    },
  };
}

async function openContext(options: KbsServerOptions, limits: ServerLimits, log: Log): Promise<ServiceContext> {
  const now = options.now ?? (() => new Date());
  const { store, mode } = options;
  const keyring = await Keyring.open(store, options.rootKeys ?? [generateRootKey()]);
  const records = new SealedRecords(store, keyring);
  const keepMs = ((options.audit?.retentionDays ?? 0) + keepSigningKeysDays) * dayMs;
  const tokenKeys = await SigningKeys.open(store, keyring, now(), {
    purpose: "attestation",
    algorithm: "ES256",
    certify: selfSignedCertificate,
    overlapMs: dayMs,
    keepMs,
  });
  const adminKeys = await SigningKeys.open(store, keyring, now(), {
    purpose: "admin",
    algorithm: "EdDSA",
    overlapMs: maxTokenLifetimeSeconds * 1000,
    keepMs,
  });
  const nonces = new Nonces(keyring, options.foreignTokens === undefined ? "unrecognised" : "recognised");
  const vault = new ResourceVault(store, keyring, options.sources);
  const tokens = new AttestationTokens(tokenKeys, {
    issuer: options.tokenIssuer ?? "CoCo-Attestation-Service",
    lifetimeSeconds: options.tokenLifetimeSeconds ?? defaultTokenLifetimeSeconds,
    mode,
    foreign: options.foreignTokens,
    isOwnNonce: (nonce) => nonces.isOurs(nonce),
  });
  const ownTokens = new OwnAdminTokens(adminKeys, options.roles ?? {});
  const policies = new PolicyStore(records, options.policyEngines ?? []);
  const referenceValues = new ReferenceValues(records);
  const auditLog = options.audit === undefined ? undefined : await openAuditLog(options.audit, { records, tokenKeys, now, log });
  const activity = new Activity(auditLog, now);
  const audit = activity.watch(options.auditSink ?? auditLog ?? { append: () => Promise.resolve() });
  const builtIn = defaultAppraisalPolicy();
  const attestation =
    options.attestation ??
    new BuiltInAttestation({
      verifiers: [...(options.verifiers ?? []), ...(mode === "development" ? [sampleVerifier()] : [])],
      policyFor: async (deviceClass) => (await policies.appraisal(deviceClass)) ?? builtIn,
      tokens,
      referenceValues: (at) => referenceValues.lookup(at),
    });
  return {
    mode,
    store,
    keyring,
    records,
    vault,
    dueKeys: new DueKeys(vault, now),
    policies,
    fallbackPolicy: options.resourcePolicy ?? (mode === "development" ? developmentPolicy() : affirmingPolicy()),
    referenceValues,
    sessions: new Sessions(keyring, { nonces, lifetimeMs: limits.sessionLifetimeMs }),
    attestation,
    attestationSlots: new Semaphore(limits.maxConcurrentAttestations, 4 * limits.maxConcurrentAttestations),
    tokens,
    tokenKeys,
    ownTokens,
    adminKeys,
    adminVerifiers: [ownTokens, ...(options.adminVerifiers ?? [])],
    certificateIdentity: options.certificateIdentity ?? (() => undefined),
    subjectRate: new RateLimiter(limits.subjectRate),
    audit,
    refusals: new RefusalDigest({
      append: (entry) => audit.append(entry),
      limits: { ...defaultRefusalDigestLimits, ...options.refusalDigest },
      now,
    }),
    auditLog,
    activity,
    metrics: new ServiceMetrics(),
    limits,
    transport: options.tls === undefined ? "plain" : "tls",
    now,
  };
}

async function listen(options: KbsServerOptions, context: ServiceContext, log: Log): Promise<HttpServer> {
  const { metrics, limits } = context;
  const router = new Router(serviceRoutes(context, options));
  const addressRate = new RateLimiter(limits.addressRate);
  const routes = new WeakMap<Call, string>();
  const answer = async (call: Call): Promise<Reply> => {
    const wait = addressRate.take(call.remote, performance.now());
    if (wait > 0) throw new Refusal("rate-limited", "too many requests from this address", { retryAfterSeconds: wait });
    const { route, parameters } = router.match(call.method, call.path);
    routes.set(call, route.name);
    return route.handle(call, parameters);
  };
  const http = await startHttpServer({
    ...options.listen,
    tls: options.tls,
    limits,
    answer,
    clientAddress: clientAddressBehind(options.trustedProxies ?? []),
    statusOf: options.statuses === "trustee" ? trusteeStatusOf : (refusal) => refusal.status,
    observe: (event) => {
      metrics.activeConnections({}, http.connections());
      observeRequest({ metrics, log }, event, routes.get(event.call) ?? "none");
    },
  });
  return http;
}
