import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from "node:crypto";
import { startFake, type Answer, type Fake } from "./fakes.ts";

interface KvRecord {
  readonly versions: readonly { readonly data: unknown; readonly created: string }[];
  readonly maxVersions: number;
  /** Somebody deleted the newest version by hand: it reads as gone, and still counts. */
  readonly deleted: boolean;
}

export interface FakeVault extends Fake {
  /** Tokens that are good; a login adds one. */
  readonly tokens: Set<string>;
  /** Makes the transit engine's key anew, as deleting it would. */
  dropTransitKey(): void;
  /** A new version of the transit engine's key. */
  rotateTransitKey(): void;
  /** What the engine keeps of a record, by its path below the mount. */
  keptVersions(path: string): number;
  /** `vault kv delete`, as an operator would. */
  softDelete(path: string): void;
  readonly settings: {
    /** Refuses writes that name no version, as `cas_required` does. */
    casRequired: boolean;
    /** As if the mount had `delete_version_after`. */
    deletesBySelf: boolean;
    /** Requests outside of this namespace find nothing. */
    namespace: string | undefined;
    /** Every request with a token lacks a right. */
    forbidden: boolean;
    /** As an engine of version 2 says for a moment after it was made. */
    upgrading: boolean;
    /** `1.8` passes over associated data, and takes a wrong ciphertext for a failure of its own. */
    version: "1.8" | "1.21";
    minDecryptionVersion: number;
    /** Integrated storage takes 1048576 bytes at once; storage in files any number. */
    maxEntryBytes: number;
  };
  /** Seconds that a renewal gives, one after the other; then renewing is refused. Logins give 3600. */
  readonly renewals: number[];
}

const noRight = "1 error occurred:\n\t* permission denied\n\n";

/** What Vault puts around data, or around what a login gives. */
function envelope(members: { readonly data?: unknown; readonly auth?: unknown }): unknown {
  const rest = { lease_id: "", renewable: false, lease_duration: 0, wrap_info: null, warnings: null };
  return { request_id: randomUUID(), ...rest, data: members.data ?? null, auth: members.auth ?? null };
}

const refusal = (status: number, ...errors: readonly string[]): Answer => [status, { errors }];

/**
 * Vault: KV version 2 on `secret`, version 1 on `kv1`, transit, AppRole. Answers as Vault 1.8 gave them and, where `version`
 * says so, 1.13 and later; vault.test.ts asks a real one the same.
 */
export async function startFakeVault(): Promise<FakeVault> {
  const records = new Map<string, KvRecord>();
  const plain = new Map<string, unknown>();
  const tokens = new Set(["root"]);
  const settings: FakeVault["settings"] = {
    casRequired: false,
    deletesBySelf: false,
    namespace: undefined,
    forbidden: false,
    upgrading: false,
    version: "1.21",
    minDecryptionVersion: 1,
    maxEntryBytes: Number.POSITIVE_INFINITY,
  };
  const renewals: number[] = [];
  let transitKeys = [randomBytes(32)];
  let clock = 0;

  const kv = (method: string, kind: string, path: string, list: boolean, body: unknown): Answer => {
    if (settings.upgrading) return refusal(400, upgradingText);
    const record = records.get(path);
    const latest = record?.versions.at(-1);
    const version = record?.versions.length ?? 0;
    const metadata = { created_time: latest?.created, deletion_time: "", destroyed: false, version };
    if (kind === "data" && method === "GET") {
      if (latest === undefined) return refusal(404);
      return record?.deleted === true
        ? [404, envelope({ data: { data: null, metadata: { ...metadata, deletion_time: latest.created } } })]
        : [200, envelope({ data: { data: latest.data, metadata } })];
    }
    if (kind === "metadata" && method === "POST") {
      const { max_versions: maxVersions = 0 } = body as { max_versions?: number };
      records.set(path, { versions: record?.versions ?? [], deleted: record?.deleted ?? false, maxVersions });
      return [204];
    }
    if (kind === "data" && method === "POST") {
      const { options, data } = body as { options?: { cas?: number }; data: unknown };
      if (settings.casRequired && options?.cas === undefined) return refusal(400, "check-and-set parameter required for this call");
      if (options?.cas !== undefined && options.cas !== version)
        return refusal(400, "check-and-set parameter did not match the current version");
      const size = JSON.stringify(data).length;
      if (size > settings.maxEntryBytes) {
        const numbers = `got ${size} bytes, max: ${settings.maxEntryBytes} bytes`;
        return refusal(500, `1 error occurred:\n\t* put failed due to value being too large; ${numbers}\n\n`);
      }
      clock += 1;
      const created = new Date(1_700_000_000_000 + clock).toISOString();
      records.set(path, {
        versions: [...(record?.versions ?? []), { data, created }],
        maxVersions: record?.maxVersions ?? 10,
        deleted: false,
      });
      const end = settings.deletesBySelf ? new Date(1_700_000_010_000 + clock).toISOString() : "";
      return [200, envelope({ data: { ...metadata, created_time: created, deletion_time: end, version: version + 1 } })];
    }
    if (kind === "metadata" && method === "DELETE") {
      records.delete(path);
      return [204];
    }
    if (kind === "metadata" && method === "GET" && list) {
      const below = [...records.keys()].filter((key) => key.startsWith(`${path}/`)).map((key) => key.slice(path.length + 1));
      const names = new Set(below.map((key) => (key.includes("/") ? `${key.split("/")[0]}/` : key)));
      return names.size === 0 ? refusal(404) : [200, envelope({ data: { keys: [...names].sort() } })];
    }
    if (kind === "metadata" && method === "GET")
      return record === undefined
        ? refusal(404)
        : [200, envelope({ data: { current_version: version, max_versions: record.maxVersions, versions: {} } })];
    return refusal(405, "1 error occurred:\n\t* unsupported operation\n\n");
  };

  /** Version 1 keeps whatever it is given under whatever name, and says nothing about it. */
  const kv1 = (method: string, path: string, body: unknown): Answer => {
    if (method === "GET") return plain.has(path) ? [200, envelope({ data: plain.get(path) })] : refusal(404);
    plain.set(path, body);
    return [204];
  };

  const transit = (verb: string, body: unknown): Answer => {
    const { plaintext = "", ciphertext = "", associated_data: given = "" } = body as Record<string, string>;
    const additionalData = Buffer.from(settings.version === "1.8" ? "" : given, "base64");
    if (verb === "encrypt") {
      const iv = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", transitKeys.at(-1) ?? "", iv);
      cipher.setAAD(additionalData);
      const sealed = Buffer.concat([iv, cipher.update(Buffer.from(plaintext, "base64")), cipher.final(), cipher.getAuthTag()]);
      const version = transitKeys.length;
      return [200, envelope({ data: { ciphertext: `vault:v${version}:${sealed.toString("base64")}`, key_version: version } })];
    }
    const [, version, text = ""] = /^vault:v(\d+):(.+)$/.exec(ciphertext) ?? [];
    if (version === undefined) return refusal(400, "invalid ciphertext: no prefix");
    const key = transitKeys[Number(version) - 1];
    if (key === undefined) return refusal(400, "invalid ciphertext: version is too new");
    if (Number(version) < settings.minDecryptionVersion)
      return refusal(400, "ciphertext or signature version is disallowed by policy (too old)");
    try {
      const sealed = Buffer.from(text, "base64");
      const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, 12), { authTagLength: 16 });
      decipher.setAAD(additionalData);
      decipher.setAuthTag(sealed.subarray(-16));
      const opened = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
      return [200, envelope({ data: { plaintext: opened.toString("base64") } })];
    } catch {
      const why = "cipher: message authentication failed";
      return settings.version === "1.8" ? refusal(500, `1 error occurred:\n\t* ${why}\n\n`) : refusal(400, why);
    }
  };

  const fake = await startFake((request, path, body) => {
    if (path.startsWith("/v1/sys/health")) return [200, { initialized: true, sealed: false, standby: false, version: settings.version }];
    const route = path.slice("/v1/".length).split("?")[0] ?? "";
    if (settings.namespace !== undefined && request.headers["x-vault-namespace"] !== settings.namespace)
      return refusal(404, `no handler for route '${route}'`);
    if (route === "auth/approle/login") {
      const { role_id: role, secret_id: secret } = body as Record<string, string>;
      if (role !== "kbs" || secret !== "s3cret") return refusal(400, "invalid role or secret ID");
      const token = `t-${randomBytes(8).toString("hex")}`;
      tokens.add(token);
      return [200, envelope({ auth: { client_token: token, lease_duration: 3600, renewable: true } })];
    }
    const token = request.headers["x-vault-token"];
    if (token === undefined) return refusal(400, "missing client token");
    if (!tokens.has(String(token)))
      return settings.version === "1.8"
        ? refusal(403, "permission denied")
        : refusal(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");
    if (settings.forbidden) return refusal(403, noRight);
    if (route === "auth/token/renew-self") {
      const lease = renewals.shift();
      return lease === undefined
        ? refusal(400, "lease is not renewable")
        : [200, envelope({ auth: { client_token: token, lease_duration: lease, renewable: true } })];
    }
    const [mount, kind = "", ...rest] = route.split("/");
    if (mount === "secret") return kv(request.method ?? "", kind, rest.join("/"), path.endsWith("?list=true"), body);
    if (mount === "kv1") return kv1(request.method ?? "", `${kind}/${rest.join("/")}`, body);
    if (mount === "transit") return transit(kind, body);
    return refusal(404, `no handler for route '${route}'`);
  });
  return Object.assign(fake, {
    settings,
    tokens,
    renewals,
    keptVersions: (path: string) => {
      const record = records.get(path);
      return Math.min(record?.versions.length ?? 0, record?.maxVersions ?? 0);
    },
    softDelete: (path: string) => {
      const record = records.get(path);
      if (record !== undefined) records.set(path, { ...record, deleted: true });
    },
    dropTransitKey: () => {
      transitKeys = [randomBytes(32)];
    },
    rotateTransitKey: () => {
      transitKeys = [...transitKeys, randomBytes(32)];
    },
  });
}

const upgradingText =
  "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly.";
