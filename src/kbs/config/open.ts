import { readFile } from "node:fs/promises";
import {
  directoryCache,
  hardwareVerifier,
  loadCollateral,
  offlineCollateral,
  parsePolicy,
  vendorCollateral,
} from "../../attestation/index.ts";
import { parseJson } from "../../bytes/index.ts";
import { describeCause } from "../../errors/index.ts";
import { KbsError } from "../errors.ts";
import { commandRootKey, vaultTransitRootKey } from "../keys/remote-root-keys.ts";
import { openRootKeyFile, parseRootKey, type RootKey } from "../keys/root-key.ts";
import type { KbsServerOptions } from "../server/options.ts";
import type { TlsMaterial } from "../server/http-server.ts";
import { openDirectoryStore } from "../stores/directory-store.ts";
import { openKubernetesStore } from "../stores/kubernetes-store.ts";
import { openMemoryStore } from "../stores/memory-store.ts";
import { mountedFolder } from "../stores/mounted-folder.ts";
import { openPostgresStore } from "../stores/postgres-store.ts";
import type { SecretStore } from "../stores/secret-store.ts";
import type { VaultConnection, VaultLogin } from "../stores/vault-session.ts";
import { openVaultStore } from "../stores/vault-store.ts";
import { certificateIdentities } from "../tokens/certificate-identity.ts";
import { builtInRoles } from "../tokens/grants.ts";
import { jwtIssuer, type IssuerKeys } from "../tokens/jwt-issuer.ts";
import { cocoAttestationService } from "../server/coco-attestation.ts";
import { syslogShipper } from "../audit/syslog.ts";
import type { IssuerConfig } from "./parse-issuer.ts";
import type { KbsConfig } from "./parse.ts";
import type { RootKeyConfig, StoreConfig, VaultConfig, VaultLoginConfig } from "./parse-store.ts";

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";

/** What only the command line may read. */
export interface ConfigSurroundings {
  /** The value of an environment variable. */
  readonly environment: (name: string) => string | undefined;
}

/**
 * Opens what a configuration names: store, root keys, issuers, certificates. The caller adds verifiers, policy engines
 * and a log, and passes the result to `serveKbs`, which closes the store.
 *
 * Throws `ERR_KBS_CONFIG_INVALID` for files that cannot be read, `ERR_KBS_ROOT_KEY_UNUSABLE`, `ERR_KBS_STORE_*`.
 */
export async function openKbsConfig(config: KbsConfig, surroundings: ConfigSurroundings): Promise<KbsServerOptions> {
  const roles = { ...builtInRoles, ...config.roles };
  const tls = await readTls(config);
  const adminVerifiers = await Promise.all(config.issuers.map(async (issuer) => jwtIssuer({ ...(await issuerOf(issuer)), roles })));
  const rootKeys = await openRootKeys(config, surroundings);
  const store = await openStore(config.store, surroundings);
  return {
    listen: config.listen,
    mode: config.mode,
    store,
    sources: config.sources.map(mountedFolder),
    ...(rootKeys === undefined ? {} : { rootKeys }),
    ...(tls === undefined ? {} : { tls }),
    roles: config.roles,
    adminVerifiers,
    certificateIdentity: certificateIdentities(config.certificates, config.roles),
    limits: config.limits,
    trustedProxies: config.trustedProxies,
    statuses: config.statuses,
    console: config.console,
    tokenIssuer: config.tokens.issuer,
    tokenLifetimeSeconds: config.tokens.lifetimeSeconds,
    ...(config.audit === undefined
      ? {}
      : { audit: { ...config.audit, ship: shipperOf(config.audit) }, refusalDigest: config.audit.refusals }),
    ...(await attestationOf(config)),
  };
}

/** Reads the certificate files again, for a reload. `undefined` when the configuration has none. */
export async function readTls(config: KbsConfig): Promise<TlsMaterial | undefined> {
  if (config.tls === undefined) return undefined;
  const { certificate, privateKey, clientAuthorities } = config.tls;
  const authorities = await optionalFile(clientAuthorities);
  return {
    certificate: await file(certificate),
    privateKey: await file(privateKey),
    ...(authorities === undefined ? {} : { clientAuthorities: authorities }),
  };
}

async function attestationOf(config: KbsConfig): Promise<Pick<KbsServerOptions, "attestation" | "foreignTokens" | "verifiers">> {
  const { attestation } = config;
  if (attestation.kind === "coco-as") {
    const service = cocoAttestationService({ ...attestation, authorities: await optionalFile(attestation.authorities) });
    return { attestation: service, foreignTokens: service };
  }
  const { collateral, fetchCollateral, cache, policy } = attestation;
  const bundle = collateral === undefined ? undefined : await loadCollateral(collateral, new Date());
  const vendors = () => vendorCollateral({ bundle, ...(cache === undefined ? {} : { cache: directoryCache(cache) }) });
  const source = fetchCollateral === "as-needed" ? vendors() : bundle === undefined ? undefined : offlineCollateral(bundle);
  if (source === undefined) return {};
  const text = await optionalFile(policy);
  return {
    verifiers: [
      hardwareVerifier({ collateral: source, ...(text === undefined ? {} : { policy: parsePolicy(Buffer.from(text, "utf8")) }) }),
    ],
  };
}

function shipperOf(audit: NonNullable<KbsConfig["audit"]>) {
  if (audit.ship === "log") return "log";
  return audit.ship === "syslog" && audit.syslog !== undefined ? syslogShipper(audit.syslog) : undefined;
}

async function openStore(store: StoreConfig, surroundings: ConfigSurroundings): Promise<SecretStore> {
  switch (store.kind) {
    case "memory":
      return openMemoryStore();
    case "directory":
      return openDirectoryStore(store.path);
    case "postgresql":
      return openPostgresStore({
        connectionString: store.url,
        password: (await optionalFile(store.passwordFile))?.trim(),
        table: store.table,
        maxConnections: store.maxConnections,
        authorities: await optionalFile(store.authorities),
      });
    case "vault":
      return openVaultStore({ ...(await vaultOf(store)), mount: store.mount, folder: store.folder });
    case "kubernetes": {
      const host = surroundings.environment("KUBERNETES_SERVICE_HOST");
      const url =
        store.url ??
        (host === undefined
          ? undefined
          : `https://${host.includes(":") ? `[${host}]` : host}:${surroundings.environment("KUBERNETES_SERVICE_PORT") ?? "443"}`);
      if (url === undefined) throw invalid("store.url is missing, and this is no pod of Kubernetes");
      return openKubernetesStore({
        url,
        namespace: store.namespace ?? (await file(`${serviceAccount}/namespace`)).trim(),
        tokenFile: store.tokenFile ?? `${serviceAccount}/token`,
        authorities: await file(store.authorities ?? `${serviceAccount}/ca.crt`),
        instance: store.instance,
      });
    }
  }
}

/** The root keys that a configuration names, the one that wraps first. */
export async function openRootKeys(
  config: Pick<KbsConfig, "rootKeys">,
  surroundings: ConfigSurroundings,
): Promise<readonly [RootKey, ...RootKey[]] | undefined> {
  const [first, ...rest] = await Promise.all(config.rootKeys.map((key) => openRootKey(key, surroundings)));
  return first === undefined ? undefined : [first, ...rest];
}

async function openRootKey(key: RootKeyConfig, surroundings: ConfigSurroundings): Promise<RootKey> {
  switch (key.kind) {
    case "file":
      return openRootKeyFile(key.path, { ifMissing: key.ifMissing });
    case "environment": {
      const value = surroundings.environment(key.name);
      if (value === undefined) throw invalid(`the environment variable ${key.name}, which should hold a root key, is not set`);
      return parseRootKey(value);
    }
    case "vault-transit":
      return vaultTransitRootKey({ ...(await vaultOf(key)), key: key.key, mount: key.mount });
    case "command": {
      const [wrap, ...wrapArguments] = key.wrap;
      const [unwrap, ...unwrapArguments] = key.unwrap;
      if (wrap === undefined || unwrap === undefined) throw invalid("a root key command is missing");
      return commandRootKey({
        id: key.id,
        wrap: [wrap, ...wrapArguments],
        unwrap: [unwrap, ...unwrapArguments],
        environment: key.environment,
      });
    }
  }
}

async function vaultOf(vault: VaultConfig): Promise<VaultConnection> {
  return {
    url: vault.url,
    namespace: vault.namespace,
    authorities: await optionalFile(vault.authorities),
    login: await loginOf(vault.login),
  };
}

async function loginOf(login: VaultLoginConfig): Promise<VaultLogin> {
  switch (login.kind) {
    case "token":
      // Missing at the start is a mistake in the configuration; later the store waits for it.
      await file(login.tokenFile);
      return { kind: "token-file", tokenFile: login.tokenFile };
    case "approle":
      await file(login.secretIdFile);
      return { kind: "approle-file", roleId: login.roleId, secretIdFile: login.secretIdFile, mount: login.mount };
    case "kubernetes":
    case "jwt":
      return login;
  }
}

async function issuerOf(issuer: IssuerConfig) {
  return { ...issuer, keys: await keysOf(issuer.keys), authorities: await optionalFile(issuer.authorities) };
}

async function keysOf(keys: IssuerConfig["keys"]): Promise<IssuerKeys> {
  switch (keys.kind) {
    case "pem":
      return { kind: "pem", pems: await Promise.all(keys.files.map(file)) };
    case "jwks":
      return {
        kind: "jwks",
        jwks: parseJson(await file(keys.file), { maxBytes: 1 << 20, subject: keys.file }) as Extract<IssuerKeys, { kind: "jwks" }>["jwks"],
      };
    case "jwks-url":
    case "discovery":
      return keys;
  }
}

async function file(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw invalid(`the file ${path}, which the configuration names, cannot be read: ${describeCause(cause)}`, cause);
  }
}

async function optionalFile(path: string | undefined): Promise<string | undefined> {
  return path === undefined ? undefined : file(path);
}

function invalid(message: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_CONFIG_INVALID", { message, cause });
}
