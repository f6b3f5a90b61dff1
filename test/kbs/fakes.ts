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

export type Answer = readonly [status: number, body?: unknown];

export async function startFake(answer: (request: IncomingMessage, path: string, body: unknown) => Answer): Promise<Fake> {
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
