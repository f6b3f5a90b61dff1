import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** An HTTP server in this process that imitates a service exactly as far as our calls need it. */
export interface Fake {
  readonly url: string;
  /** Requests so far, `METHOD /path`. */
  readonly seen: string[];
  /** What each of them accepts. */
  readonly accepted: string[];
  /** Every request is answered with this status instead. */
  outage: number | undefined;
  close(): Promise<void>;
}

type Answer = readonly [status: number, body?: unknown];

async function startFake(answer: (request: IncomingMessage, path: string, body: unknown) => Answer): Promise<Fake> {
  const fake = {
    url: "",
    seen: [] as string[],
    accepted: [] as string[],
    outage: undefined as number | undefined,
    close: () => Promise.resolve(),
  };
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString("utf8");
    const path = request.url ?? "";
    fake.seen.push(`${request.method} ${path}`);
    fake.accepted.push(request.headers.accept ?? "");
    const [status, body] =
      fake.outage === undefined ? answer(request, path, text === "" ? undefined : JSON.parse(text)) : [fake.outage, { errors: ["outage"] }];
    response.writeHead(status, { "content-type": "application/json" });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  };
  const server: Server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  fake.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  fake.close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return fake;
}

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
  /** What the engine keeps of a record, by its path below the mount. */
  keptVersions(path: string): number;
  /** `vault kv delete`, as an operator would. */
  softDelete(path: string): void;
  readonly settings: {
    /** Refuses writes that name no version, as `cas_required` does. */
    casRequired: boolean;
    /** Requests outside of this namespace find nothing. */
    namespace: string | undefined;
  };
  /** Seconds that a renewal gives, one after the other; then renewing is refused. Logins give 3600. */
  readonly renewals: number[];
}

/** Vault: KV version 2 on `secret`, transit, AppRole. Source: Vault HTTP API. */
export async function startFakeVault(): Promise<FakeVault> {
  const records = new Map<string, KvRecord>();
  const tokens = new Set(["root"]);
  const settings: { casRequired: boolean; namespace: string | undefined } = { casRequired: false, namespace: undefined };
  const renewals: number[] = [];
  let transitKey = randomBytes(32);
  let clock = 0;
  const kv = (method: string, kind: string, path: string, list: boolean, body: unknown): Answer => {
    const record = records.get(path);
    const latest = record?.versions.at(-1);
    const metadata = { version: record?.versions.length ?? 0, created_time: latest?.created, destroyed: false };
    if (kind === "data" && method === "GET") {
      if (record !== undefined && latest !== undefined && record.deleted)
        return [404, { data: { data: null, metadata: { ...metadata, deletion_time: latest.created } } }];
      return latest === undefined
        ? [404, { errors: [] }]
        : [200, { data: { data: latest.data, metadata: { ...metadata, deletion_time: "" } } }];
    }
    if (kind === "metadata" && method === "POST") {
      const { max_versions: maxVersions = 0 } = body as { max_versions?: number };
      records.set(path, { versions: record?.versions ?? [], deleted: record?.deleted ?? false, maxVersions });
      return [204];
    }
    if (kind === "data" && method === "POST") {
      const { options, data } = body as { options?: { cas?: number }; data: unknown };
      if (settings.casRequired && options?.cas === undefined) return [400, { errors: ["check-and-set parameter required for this call"] }];
      if (options?.cas !== undefined && options.cas !== metadata.version)
        return [400, { errors: ["check-and-set parameter did not match the current version"] }];
      clock += 1;
      const created = new Date(1_700_000_000_000 + clock).toISOString();
      const versions = [...(record?.versions ?? []), { data, created }];
      records.set(path, { versions, maxVersions: record?.maxVersions ?? 10, deleted: false });
      return [200, { data: { version: versions.length, created_time: created } }];
    }
    if (kind === "metadata" && method === "DELETE") return records.delete(path) ? [204] : [404, { errors: [] }];
    if (kind === "metadata" && method === "GET" && list) {
      const below = [...records.keys()].filter((key) => key.startsWith(`${path}/`)).map((key) => key.slice(path.length + 1));
      const names = new Set(below.map((key) => (key.includes("/") ? `${key.split("/")[0]}/` : key)));
      return names.size === 0 ? [404, { errors: [] }] : [200, { data: { keys: [...names].sort() } }];
    }
    return [405, { errors: ["unsupported operation"] }];
  };
  const transit = (verb: string, body: unknown): Answer => {
    const { plaintext = "", ciphertext = "", associated_data: aad = "" } = body as Record<string, string>;
    if (verb === "encrypt") {
      const iv = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", transitKey, iv);
      cipher.setAAD(Buffer.from(aad, "base64"));
      const sealed = Buffer.concat([iv, cipher.update(Buffer.from(plaintext, "base64")), cipher.final(), cipher.getAuthTag()]);
      return [200, { data: { ciphertext: `vault:v1:${sealed.toString("base64")}` } }];
    }
    try {
      const sealed = Buffer.from(ciphertext.replace("vault:v1:", ""), "base64");
      const decipher = createDecipheriv("aes-256-gcm", transitKey, sealed.subarray(0, 12), { authTagLength: 16 });
      decipher.setAAD(Buffer.from(aad, "base64"));
      decipher.setAuthTag(sealed.subarray(-16));
      return [
        200,
        { data: { plaintext: Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString("base64") } },
      ];
    } catch {
      return [400, { errors: ["cipher: message authentication failed"] }];
    }
  };
  const fake = await startFake((request, path, body) => {
    if (path.startsWith("/v1/sys/health")) return [200, { sealed: false }];
    if (settings.namespace !== undefined && request.headers["x-vault-namespace"] !== settings.namespace)
      return [404, { errors: ["no handler for route"] }];
    if (path === "/v1/auth/approle/login") {
      const { role_id: role, secret_id: secret } = body as Record<string, string>;
      if (role !== "kbs" || secret !== "s3cret") return [400, { errors: ["invalid role or secret ID"] }];
      const token = `t-${randomBytes(8).toString("hex")}`;
      tokens.add(token);
      return [200, { auth: { client_token: token, lease_duration: 3600, renewable: true } }];
    }
    if (!tokens.has(String(request.headers["x-vault-token"]))) return [403, { errors: ["permission denied"] }];
    if (path === "/v1/auth/token/renew-self") {
      const lease = renewals.shift();
      return lease === undefined
        ? [400, { errors: ["lease is not renewable"] }]
        : [200, { auth: { client_token: request.headers["x-vault-token"], lease_duration: lease, renewable: true } }];
    }
    const [, mount, kind = "", ...rest] = /^\/v1\/([^/]+)\/([^/]+)\/([^?]*)/.exec(path) ?? [];
    if (mount === "secret") return kv(request.method ?? "", kind, rest.join("/"), path.endsWith("?list=true"), body);
    if (mount === "transit") return transit(kind, body);
    return [404, { errors: ["no handler for route"] }];
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
      transitKey = randomBytes(32);
    },
  });
}

interface Secret {
  metadata: { name: string; labels: Record<string, string>; annotations: Record<string, string>; resourceVersion: string };
  data: Record<string, string>;
}

/** The Kubernetes API as far as Secrets of one namespace go. Source: Kubernetes API reference, Secret v1. */
export async function startFakeKubernetes(token: () => string): Promise<Fake & { readonly settings: { gone: number } }> {
  /** Listings of which the second page is gone. */
  const settings = { gone: 0 };
  const secrets = new Map<string, Secret>();
  let version = 0;
  const failure = (code: number, reason: string): Answer => [code, { kind: "Status", status: "Failure", reason, code }];
  const server = await startFake((request, path, body) => {
    if (request.headers.authorization !== `Bearer ${token()}`) return failure(401, "Unauthorized");
    const url = new URL(path, "http://x");
    const [, name] = /^\/api\/v1\/namespaces\/kbs\/secrets(?:\/([^/]+))?$/.exec(url.pathname) ?? ["", undefined];
    if (!url.pathname.startsWith("/api/v1/namespaces/kbs/secrets")) return failure(403, "Forbidden");
    const existing = name === undefined ? undefined : secrets.get(name);
    const keep = (secret: Secret, status: number): Answer => {
      version += 1;
      const kept = { ...secret, metadata: { ...secret.metadata, resourceVersion: String(version) } };
      secrets.set(secret.metadata.name, kept);
      return [status, kept];
    };
    switch (request.method ?? "") {
      case "GET": {
        if (name !== undefined) return existing === undefined ? failure(404, "NotFound") : [200, existing];
        const wanted = (url.searchParams.get("labelSelector") ?? "")
          .split(",")
          .filter((part) => part !== "")
          .map((part) => part.split("="));
        const fitting = [...secrets.values()].filter(({ metadata }) =>
          wanted.every(([label = "", value]) => metadata.labels[label] === value),
        );
        const start = Number(url.searchParams.get("continue") ?? 0);
        if (start > 0 && settings.gone > 0) {
          settings.gone -= 1;
          return failure(410, "Expired");
        }
        const end = start + Math.min(2, Number(url.searchParams.get("limit") ?? 1000));
        const items = fitting.slice(start, end).map(({ metadata }) => ({ metadata }));
        return [
          200,
          {
            kind: "PartialObjectMetadataList",
            metadata: { continue: end < fitting.length ? String(end) : "" },
            // As the API server does: an empty list of metadata is null.
            items: items.length === 0 ? null : items,
          },
        ];
      }
      case "POST": {
        const secret = body as Secret;
        if (!/^[a-z0-9.-]{1,253}$/.test(secret.metadata.name)) return failure(422, "Invalid");
        return secrets.has(secret.metadata.name) ? failure(409, "AlreadyExists") : keep(secret, 201);
      }
      case "PUT": {
        const secret = body as Secret;
        if (existing === undefined) return failure(404, "NotFound");
        return secret.metadata.resourceVersion === existing.metadata.resourceVersion ? keep(secret, 200) : failure(409, "Conflict");
      }
      case "DELETE": {
        if (existing === undefined || name === undefined) return failure(404, "NotFound");
        const wanted = (body as { preconditions?: { resourceVersion?: string } } | undefined)?.preconditions?.resourceVersion;
        if (wanted !== undefined && wanted !== existing.metadata.resourceVersion) return failure(409, "Conflict");
        secrets.delete(name);
        return [200, { status: "Success" }];
      }
      default:
        return failure(405, "MethodNotAllowed");
    }
  });
  return Object.assign(server, { settings });
}

/** A CoCo attestation service over REST that says what it is told to. */
export function startFakeAttestationService(
  answer: (body: unknown) => { status: number; text: string },
  jwks: () => unknown,
): Promise<Fake & { bodies: unknown[] }> {
  const bodies: unknown[] = [];
  const state = { url: "", seen: [] as string[], accepted: [] as string[], outage: undefined, bodies, close: () => Promise.resolve() };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      state.seen.push(`${request.method} ${request.url}`);
      if (request.url === "/.well-known/jwks.json") return void response.end(JSON.stringify(jwks()));
      const body = JSON.parse(Buffer.concat(chunks).toString()) as unknown;
      bodies.push(body);
      const { status, text } = answer(body);
      response.writeHead(status, { "content-type": "text/plain" });
      response.end(text);
    });
  });
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      state.close = async () => {
        server.closeAllConnections();
        await new Promise((done) => server.close(done));
      };
      resolve(state);
    }),
  );
}
