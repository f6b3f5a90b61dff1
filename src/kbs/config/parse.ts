import { parse } from "smol-toml";
import { describeCause } from "../../errors/index.ts";
import type { RefusalDigestLimits } from "../audit/refusal-digest.ts";
import { KbsError } from "../errors.ts";
import type { ServerLimits } from "../server/limits.ts";
import { adminActions, type AdminAction, type Grant } from "../tokens/grants.ts";
import type { CertificateRule } from "../tokens/certificate-identity.ts";
import { ConfigReader, type ConfigProblem } from "./reader.ts";
import { readIssuer, type IssuerConfig } from "./parse-issuer.ts";
import { readRootKey, readStore, type RootKeyConfig, type StoreConfig } from "./parse-store.ts";

/** A checked configuration; files are named, not read. */
export interface KbsConfig {
  readonly mode: "production" | "development";
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: { readonly certificate: string; readonly privateKey: string; readonly clientAuthorities: string | undefined } | undefined;
  readonly store: StoreConfig;
  /** Folders of plain files, e.g. mounted Secrets. */
  readonly sources: readonly string[];
  readonly rootKeys: readonly RootKeyConfig[];
  readonly attestation:
    | {
        readonly kind: "built-in";
        /** File or folder with collateral of the hardware vendors. */
        readonly collateral: string | undefined;
        readonly fetchCollateral: "never" | "as-needed";
        /** Folder for what was fetched. */
        readonly cache: string | undefined;
        /** File with an attestation policy that evidence must satisfy to be verified at all. */
        readonly policy: string | undefined;
      }
    | {
        readonly kind: "coco-as";
        readonly url: string;
        readonly policyIds: readonly string[];
        readonly jwksUrl: string | undefined;
        readonly authorities: string | undefined;
      };
  readonly tokens: { readonly issuer: string | undefined; readonly lifetimeSeconds: number | undefined };
  readonly audit:
    | {
        readonly directory: string;
        readonly checkpointEvery: number | undefined;
        readonly maxFileBytes: number | undefined;
        readonly retentionDays: number | undefined;
        readonly ship: "nowhere" | "log" | "syslog";
        readonly syslog: { readonly host: string; readonly port: number } | undefined;
        /** How much of it strangers may write. */
        readonly refusals: Partial<RefusalDigestLimits>;
      }
    | undefined;
  readonly limits: Partial<ServerLimits>;
  readonly trustedProxies: readonly string[];
  readonly statuses: "proper" | "trustee";
  readonly console: "served" | "off";
  readonly roles: Readonly<Record<string, readonly Grant[]>>;
  readonly issuers: readonly IssuerConfig[];
  readonly certificates: readonly CertificateRule[];
}

/** Everything that is wrong with a configuration text; an empty list when nothing is. */
export function checkKbsConfig(text: string): readonly ConfigProblem[] {
  return readConfig(text).problems;
}

/** Parses a configuration (TOML). Throws `ERR_KBS_CONFIG_INVALID` that names every problem. */
export function parseKbsConfig(text: string): KbsConfig {
  const { config, problems } = readConfig(text);
  if (problems.length === 0) return config;
  throw new KbsError("ERR_KBS_CONFIG_INVALID", {
    message: `the configuration has ${problems.length} problem${problems.length === 1 ? "" : "s"}: ${problems.map(({ path, message }) => `${path} ${message}`).join("; ")}`,
    hint: "check it with: ociseal kbs config check",
    details: { problems },
  });
}

function readConfig(text: string): { readonly config: KbsConfig; readonly problems: readonly ConfigProblem[] } {
  const problems: ConfigProblem[] = [];
  let document: unknown = {};
  try {
    document = parse(text);
  } catch (cause) {
    problems.push({ path: "(file)", message: `is not TOML: ${describeCause(cause).split("\n")[0] ?? ""}` });
  }
  const root = new ConfigReader(document, "", problems);
  const mode = root.word("mode", ["production", "development"], "first-by-default");
  const config: KbsConfig = {
    mode,
    listen: readListen(root),
    tls: readTls(root),
    store: readStore(root.section("store")),
    sources: root.texts("sources"),
    rootKeys: root.sections("root_keys").map(readRootKey),
    attestation: readAttestation(root),
    tokens: readTokens(root),
    audit: readAudit(root),
    limits: readLimits(root),
    trustedProxies: root.texts("trusted_proxies"),
    statuses: root.word("statuses", ["proper", "trustee"], "first-by-default"),
    console: root.word("console", ["served", "off"], "first-by-default"),
    roles: readRoles(root),
    issuers: root.sections("issuers").map(readIssuer),
    certificates: root.sections("certificates").map(readCertificate),
  };
  root.finish();
  if (problems.length === 0) checkTogether(config, root);
  return { config, problems };
}

/** What is wrong only in combination. */
function checkTogether(config: KbsConfig, root: ConfigReader): void {
  const loopback = ["127.0.0.1", "::1", "localhost"].includes(config.listen.host);
  if (config.mode === "development" && !loopback) root.problem("mode", "development listens on loopback only");
  if (config.tls === undefined && !loopback && config.trustedProxies.length === 0) {
    root.problem("tls", "is missing: off loopback, secrets and tokens need TLS (or trusted_proxies that end it)");
  }
  if (config.rootKeys.length === 0 && config.store.kind !== "memory")
    root.problem("root_keys", "is missing: stored records are sealed under a root key");
  if (config.certificates.length > 0 && config.tls?.clientAuthorities === undefined)
    root.problem("certificates", "need tls.client_authorities");
}

function readListen(root: ConfigReader): KbsConfig["listen"] {
  const listen = root.section("listen");
  const result = { host: listen.optionalText("host") ?? "127.0.0.1", port: listen.optionalInteger("port", 0, 65_535) ?? 8080 };
  listen.finish();
  return result;
}

function readTls(root: ConfigReader): KbsConfig["tls"] {
  const tls = root.optionalSection("tls");
  if (tls === undefined) return undefined;
  const result = {
    certificate: tls.text("certificate"),
    privateKey: tls.text("private_key"),
    clientAuthorities: tls.optionalText("client_authorities"),
  };
  tls.finish();
  return result;
}

function readAttestation(root: ConfigReader): KbsConfig["attestation"] {
  const section = root.section("attestation");
  const kind = section.word("kind", ["built-in", "coco-as"], "first-by-default");
  const result: KbsConfig["attestation"] =
    kind === "built-in"
      ? {
          kind,
          collateral: section.optionalText("collateral"),
          fetchCollateral: section.word("fetch_collateral", ["never", "as-needed"], "first-by-default"),
          cache: section.optionalText("cache"),
          policy: section.optionalText("policy"),
        }
      : {
          kind,
          url: section.text("url"),
          policyIds: section.texts("policy_ids"),
          jwksUrl: section.optionalText("jwks_url"),
          authorities: section.optionalText("authorities"),
        };
  section.finish();
  return result;
}

function readTokens(root: ConfigReader): KbsConfig["tokens"] {
  const section = root.section("tokens");
  const result = { issuer: section.optionalText("issuer"), lifetimeSeconds: section.optionalInteger("lifetime_seconds", 30, 86_400) };
  section.finish();
  return result;
}

function readAudit(root: ConfigReader): KbsConfig["audit"] {
  const section = root.optionalSection("audit");
  if (section === undefined) return undefined;
  const syslog = section.optionalSection("syslog");
  const result = {
    directory: section.text("directory"),
    checkpointEvery: section.optionalInteger("checkpoint_every", 1, 1_000_000),
    maxFileBytes: section.optionalInteger("max_file_bytes", 4096, 2 ** 40),
    retentionDays: section.optionalInteger("retention_days", 1, 36_500),
    ship: section.word("ship", ["nowhere", "log", "syslog"], "first-by-default"),
    syslog: syslog === undefined ? undefined : { host: syslog.text("host"), port: syslog.optionalInteger("port", 1, 65_535) ?? 514 },
    refusals: readRefusals(section.section("refusals")),
  };
  syslog?.finish();
  if (result.ship === "syslog" && result.syslog === undefined) section.problem("syslog", "is missing");
  section.finish();
  return result;
}

function readRefusals(section: ConfigReader): Partial<RefusalDigestLimits> {
  const seconds = section.optionalInteger("interval_seconds", 1, 86_400);
  const values = {
    intervalMs: seconds === undefined ? undefined : seconds * 1000,
    inFull: section.optionalInteger("in_full", 0, 1_000_000),
    inFullPerClient: section.optionalInteger("in_full_per_client", 0, 1_000_000),
    clients: section.optionalInteger("clients", 0, 10_000),
  };
  section.finish();
  return given(values);
}

/** Only what was said, so that defaults stand. */
function given<Value>(values: Readonly<Record<string, Value | undefined>>): Readonly<Record<string, Value>> {
  const entries = Object.entries(values).flatMap(([name, value]): [string, Value][] => (value === undefined ? [] : [[name, value]]));
  return Object.fromEntries(entries);
}

function readLimits(root: ConfigReader): Partial<ServerLimits> {
  const section = root.section("limits");
  const rate = (name: string) => {
    const table = section.optionalSection(name);
    if (table === undefined) return undefined;
    const perSecond = table.optionalInteger("per_second", 1, 1_000_000) ?? 1;
    const result = { perSecond, burst: table.optionalInteger("burst", 1, 10_000_000) ?? perSecond };
    table.finish();
    return result;
  };
  const values = {
    maxBodyBytes: section.optionalInteger("max_body_bytes", 1024, 64 << 20),
    maxHeadBytes: section.optionalInteger("max_head_bytes", 4096, 1 << 20),
    headTimeoutMs: section.optionalInteger("head_timeout_ms", 100, 600_000),
    requestTimeoutMs: section.optionalInteger("request_timeout_ms", 100, 3_600_000),
    keepAliveTimeoutMs: section.optionalInteger("keep_alive_timeout_ms", 0, 3_600_000),
    maxConnections: section.optionalInteger("max_connections", 1, 1_000_000),
    maxConcurrentAttestations: section.optionalInteger("max_concurrent_attestations", 1, 10_000),
    sessionLifetimeMs: section.optionalInteger("session_lifetime_ms", 1000, 86_400_000),
    addressRate: rate("address_rate"),
    subjectRate: rate("subject_rate"),
  };
  section.finish();
  return given(values);
}

function readRoles(root: ConfigReader): Readonly<Record<string, readonly Grant[]>> {
  const roles: Record<string, readonly Grant[]> = {};
  for (const [name, role] of root.namedSections("roles")) {
    roles[name] = role.sections("grants").map((grant) => {
      const actions = grant.texts("actions").filter((action): action is AdminAction | "*" => {
        const known = action === "*" || (adminActions as readonly string[]).includes(action);
        if (!known) grant.problem("actions", `has an unknown action ${JSON.stringify(action)} (known: *, ${adminActions.join(", ")})`);
        return known;
      });
      const paths = grant.texts("paths");
      if (paths.length === 0) grant.problem("paths", "is missing");
      grant.finish();
      return { actions, paths };
    });
    role.finish();
  }
  return roles;
}

function readCertificate(section: ConfigReader): CertificateRule {
  const rule = {
    commonName: section.optionalText("common_name"),
    alternativeName: section.optionalText("alternative_name"),
    fingerprint: section.optionalText("fingerprint"),
    roles: section.texts("roles"),
  };
  if (rule.commonName === undefined && rule.alternativeName === undefined && rule.fingerprint === undefined) {
    section.problem("common_name", "or alternative_name or fingerprint must be there");
  }
  section.finish();
  return rule;
}
