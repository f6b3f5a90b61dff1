import { createServer as createHttpServer, type Server, type ServerOptions as HttpServerOptions } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { describeCause } from "../errors/index.ts";
import { openAuthenticator } from "./authenticator.ts";
import type { Garbage, GarbageRequest } from "./collect-garbage.ts";
import { Collector } from "./collector.ts";
import { DirectoryStorage } from "./directory-storage.ts";
import { RegistryServerError } from "./errors.ts";
import type { RegistryCore } from "./exchange.ts";
import { FaultPlan } from "./fault-plan.ts";
import type { FaultRule } from "./fault-rule.ts";
import { MemoryStorage } from "./memory-storage.ts";
import { defaultLimits, type CollectOptions, type RegistryLimits, type ServeRegistryOptions } from "./options.ts";
import { conformant } from "./profile.ts";
import { newListener } from "./listener.ts";
import type { RegistryStorage } from "./storage.ts";
import { UploadSessions } from "./upload-sessions.ts";

/** Long tokens come close to the usual 16 KiB. */
const maxHeaderSize = 64 * 1024;
const keepAliveMs = 60_000;
/** How long `close` lets running requests go on. */
const graceMs = 1000;

/** A running registry. */
export interface RegistryServer {
  /** `http://127.0.0.1:5000`, without a slash at the end. */
  readonly url: string;
  /** Host and port as image names have them: `127.0.0.1:5000`. */
  readonly address: string;
  /** Plays more failures from now on; counts from zero. */
  addFault(rule: FaultRule): void;
  clearFaults(): void;
  /** Removes what no manifest needs, now; one at a time. Safe while clients push, see {@link CollectOptions}. */
  collectGarbage(
    request?: Pick<CollectOptions, "graceMs" | "untagged"> & { readonly mode?: GarbageRequest["mode"] },
  ): Promise<readonly Garbage[]>;
  /** Ends all connections (running requests have a second) and gives the storage back. */
  close(): Promise<void>;
}

/**
 * Starts a registry: OCI distribution-spec 1.1 in full.
 *
 * Throws `ERR_REGISTRY_SERVER_LISTEN`, `ERR_REGISTRY_SERVER_STORAGE`, `ERR_REGISTRY_SERVER_LOCKED` or
 * `ERR_REGISTRY_SERVER_OPTIONS`. The caller closes it.
 */
export async function serveRegistry(options: ServeRegistryOptions): Promise<RegistryServer> {
  const limits: RegistryLimits = { ...defaultLimits, ...options.limits };
  const now = options.now ?? Date.now;
  // Both before the storage, whose lock would have to be given back.
  const authenticator = await openAuthenticator(options.auth ?? { kind: "none" }, now);
  const server = newServer(options, limits);
  const storage: RegistryStorage =
    options.storage.kind === "memory" ? new MemoryStorage(limits.maxMemoryBytes) : await DirectoryStorage.open(options.storage.path);
  const sessions = new UploadSessions(storage, limits, now);
  const core: RegistryCore = {
    storage,
    sessions,
    quirks: options.profile?.quirks ?? conformant,
    limits,
    now,
    fixedRepositories: new Set(options.repositories),
  };
  const faults = new FaultPlan(options.faults ?? []);
  const scheme = options.tls === undefined ? "http" : "https";
  const listener = newListener({
    core,
    faults,
    authenticator,
    scheme,
    log: options.log,
    observe: options.observe,
  });
  server.on("request", listener.onRequest);
  server.on("checkContinue", listener.onRequestThatWaits);
  const sweeper = setInterval(() => void sessions.sweep().catch(() => undefined), Math.min(limits.uploadIdleMs, 60_000));
  sweeper.unref();
  const collector = new Collector(storage, sessions);
  const { collect } = options;
  if (collect !== undefined) collector.every(collect);
  const end = async () => {
    clearInterval(sweeper);
    await collector.close();
    listener.close();
    await sessions.close();
    await storage.close();
  };
  try {
    await listen(server, options.listen);
  } catch (cause) {
    await end();
    throw new RegistryServerError("ERR_REGISTRY_SERVER_LISTEN", {
      message: `the registry cannot listen on ${options.listen.host}:${options.listen.port}: ${describeCause(cause)}`,
      hint: "choose another address, or port 0 for a free one",
      cause,
    });
  }
  const address = formatAddress(server.address() as AddressInfo);
  let closing: Promise<void> | undefined;
  return {
    url: `${scheme}://${address}`,
    address,
    addFault: (rule) => faults.add(rule),
    clearFaults: () => faults.clear(),
    collectGarbage: (request = {}) => collector.run(request),
    close: () => (closing ??= stop(server).then(end)),
  };
}

function newServer(options: ServeRegistryOptions, limits: RegistryLimits): Server {
  const settings = {
    maxHeaderSize,
    headersTimeout: limits.headersMs,
    // Uploads may take hours; what bounds them is that something must move.
    requestTimeout: 0,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval: 5000,
    noDelay: true,
  };
  const { tls } = options;
  const server = tls === undefined ? createHttpServer(settings) : newTlsServer(settings, tls);
  server.maxConnections = limits.maxConnections;
  server.setTimeout(limits.idleMs);
  return server;
}

function newTlsServer(settings: HttpServerOptions, { key, cert, clientCa }: NonNullable<ServeRegistryOptions["tls"]>): Server {
  const clients = clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  try {
    return createHttpsServer({ ...settings, key, cert, minVersion: "TLSv1.2", ...clients });
  } catch (cause) {
    throw new RegistryServerError("ERR_REGISTRY_SERVER_OPTIONS", {
      message: `the certificate and key cannot be used: ${describeCause(cause)}`,
      hint: "give PEM files: the certificate with those between it and the root, and its own unencrypted key",
      cause,
    });
  }
}

async function listen(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function stop(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(cut);
}

function formatAddress({ address, family, port }: AddressInfo): string {
  return family === "IPv6" ? `[${address}]:${port}` : `${address}:${port}`;
}
