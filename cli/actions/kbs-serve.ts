import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  hardwareVerifier,
  loadCollateral,
  offlineCollateral,
  vendorCollateral,
  directoryCache,
  parsePolicy,
} from "../../src/attestation/index.ts";
import {
  generateRootKey,
  openDirectoryStore,
  openKbsConfig,
  openKbsRootKeys,
  openMemoryStore,
  openRootKeyFile,
  parseKbsConfig,
  readKbsTls,
  serveKbs,
  type KbsConfig,
  type KbsServer,
  type KbsServerOptions,
  type EvidenceVerifier,
} from "../../src/kbs/index.ts";
import { policyEngines } from "../policy-engines.ts";
import { tuneCollector } from "../collector.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile, writeWholeFile } from "../files.ts";
import { parseListen, untilAborted } from "../listen.ts";
import type { Shell } from "../shell.ts";
import { readVersion } from "../version.ts";

interface ServeOptions {
  readonly listen?: string;
  readonly data?: string;
  readonly config?: string;
  readonly dev?: boolean;
  readonly collateral?: string;
  readonly fetchCollateral?: boolean;
  readonly appraisalPolicy?: string;
  readonly adminTokenOut?: string;
}

/** Long enough to set up what administers from then on. */
const firstTokenSeconds = 24 * 3600;

/**
 * What lives in a service is some 30 MiB, and soon constant. Left alone, the collector lets three times as much that is
 * dead lie about before it marks the heap, and the process grows for a quarter of an hour of work; marking more often costs
 * less than can be measured.
 */
const collectorFlag = "--heap-growing-percent=60";

/** Serves until interrupted; being interrupted is the normal end. */
export const kbsServe: Action<ServeOptions> = async (shell, _args, options) => {
  tuneCollector(collectorFlag);
  const settings = options.config === undefined ? await plainSettings(options) : await configuredSettings(shell, options.config, options);
  requireSafeAddress(settings);
  const server = await serveKbs({
    ...settings,
    verifiers: [...(settings.verifiers ?? []), ...(await verifiersOf(options))],
    policyEngines,
    version: readVersion(),
    log: (event) => shell.note(JSON.stringify(event)),
  });
  const onHangUp = (): void => void reload(shell, server, options.config);
  process.on("SIGHUP", onHangUp);
  try {
    const { adminToken } = server;
    const adminTokenFile = adminToken === undefined ? undefined : join(tokenFolder(options), "admin.token");
    if (adminToken !== undefined && adminTokenFile !== undefined) await writeWholeFile(adminTokenFile, `${adminToken}\n`, { mode: 0o600 });
    const { adminTokenOut } = options;
    if (adminTokenOut !== undefined) {
      const token = server.issueAdminToken({ subject: "first-administrator", role: "admin", lifetimeSeconds: firstTokenSeconds });
      await writeWholeFile(adminTokenOut, `${token}\n`, { mode: 0o600 });
      shell.note(`an administration token for one day is in ${adminTokenOut}; issue others with ociseal kbs token`);
    }
    if (settings.mode === "development")
      shell.warn("development mode: the sample TEE, which proves nothing, gets every key while no policy is set");
    const document = {
      listening: server.url,
      mode: settings.mode,
      data: options.data ?? options.config ?? "memory",
      ...(adminTokenFile === undefined ? {} : { adminTokenFile }),
    };
    await shell.result(JSON.stringify(document), document);
    await untilAborted(shell.signal);
  } finally {
    process.off("SIGHUP", onHangUp);
    await server.close();
  }
};

/** Beside the data, or beside the configuration: never over a file of whatever folder the service is started in. */
function tokenFolder({ data, config }: ServeOptions): string {
  return data ?? (config === undefined ? "." : dirname(config));
}

/** What the configuration file must keep to, the command line must too. */
function requireSafeAddress({ listen, mode, tls, trustedProxies = [] }: KbsServerOptions): void {
  if (["127.0.0.1", "::1", "localhost"].includes(listen.host)) return;
  if (mode === "development")
    throw usage("development mode listens on loopback only: the sample TEE proves nothing", "give --listen 127.0.0.1:PORT");
  if (tls === undefined && trustedProxies.length === 0)
    throw usage("off loopback the service needs TLS, or a proxy in front that has it", "give --config with [tls] or trusted_proxies");
}

async function plainSettings({ listen = "127.0.0.1:8080", data, dev = false }: ServeOptions): Promise<KbsServerOptions> {
  if (data === undefined && !dev)
    throw usage(
      "nothing says where the service keeps its data",
      "give --data DIR or --config FILE; --dev alone keeps everything in memory",
    );
  const mode = dev ? "development" : "production";
  if (data === undefined) return { listen: parseListen(listen), mode, store: openMemoryStore(), rootKeys: [generateRootKey()] };
  await mkdir(data, { recursive: true, mode: 0o700 });
  const rootKey = await openRootKeyFile(join(data, "root.key"), { ifMissing: "create" });
  return {
    listen: parseListen(listen),
    mode,
    store: await openDirectoryStore(join(data, "store")),
    rootKeys: [rootKey],
    audit: { directory: join(data, "audit") },
  };
}

async function configuredSettings(shell: Shell, file: string, { listen, data, dev }: ServeOptions): Promise<KbsServerOptions> {
  if (data !== undefined || dev === true) throw usage("--config does not go with --data or --dev", "say it in the configuration file");
  const config = parseKbsConfig((await readSmallFile(file, "configuration")).toString("utf8"));
  const settings = await openKbsConfig(config, { environment: (name) => shell.env[name] });
  return listen === undefined ? settings : { ...settings, listen: parseListen(listen) };
}

/** TDX, SGX and SNP evidence can be verified once there is collateral: at hand, or fetched. */
async function verifiersOf({
  collateral,
  fetchCollateral = false,
  appraisalPolicy,
  data,
}: ServeOptions): Promise<readonly EvidenceVerifier[]> {
  if (collateral === undefined && !fetchCollateral) {
    if (appraisalPolicy !== undefined)
      throw usage(
        "--appraisal-policy goes with --collateral or --fetch-collateral",
        "without collateral no hardware evidence is verified here; with --config say it there",
      );
    return [];
  }
  const bundle = collateral === undefined ? undefined : await loadCollateral(collateral, new Date());
  const policy =
    appraisalPolicy === undefined ? undefined : parsePolicy(await readSmallFile(appraisalPolicy, "attestation policy", 4 << 20));
  const source =
    fetchCollateral || bundle === undefined
      ? vendorCollateral({ bundle, ...(data === undefined ? {} : { cache: directoryCache(join(data, "collateral")) }) })
      : offlineCollateral(bundle);
  return [hardwareVerifier({ collateral: source, policy })];
}

/** Certificates and root keys are read again on SIGHUP; broken ones leave the old in place, and that is said. */
async function reload(shell: Shell, server: KbsServer, file: string | undefined): Promise<void> {
  if (file === undefined) return;
  const again = async (what: string, read: (config: KbsConfig) => Promise<void>): Promise<void> => {
    try {
      await read(parseKbsConfig((await readSmallFile(file, "configuration")).toString("utf8")));
      shell.note(`${what} were read again`);
    } catch (error) {
      shell.warn(`${what} were not read again: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  await again("certificates", async (config) => {
    const tls = await readKbsTls(config);
    if (tls !== undefined) server.reloadTls(tls);
  });
  await again("root keys", async (config) => {
    const rootKeys = await openKbsRootKeys(config, { environment: (name) => shell.env[name] });
    if (rootKeys !== undefined) await server.reloadRootKeys(rootKeys);
  });
}
