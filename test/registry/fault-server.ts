import { once } from "node:events";
import { createServer as createPlain, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTls, type ServerOptions } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { digestOf } from "../../src/bytes/index.ts";
import type { Content } from "./images.ts";

/** A request as it arrived, for assertions on what was sent where. */
export interface Recorded {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  body: string;
}

/** What a rule sees. `bytes` reads the body; the registry underneath has not looked at the request yet. */
export interface FaultContext {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** How many requests matched the rule before this one. */
  readonly nth: number;
  /** Lets the request reach the registry underneath. */
  readonly pass: () => Promise<void>;
}

interface Rule {
  readonly method: string;
  readonly path: RegExp;
  readonly times: number;
  readonly act: (context: FaultContext) => unknown;
  used: number;
}

export interface FaultServer {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly origin: string;
  readonly requests: Recorded[];
  readonly blobs: Map<string, Buffer>;
  readonly manifests: Map<string, { readonly type: string; readonly bytes: Buffer }>;
  /** Connections open now, and the most that were open at once. */
  readonly connections: { open: number; most: number; total: number };
  /** The next `times` matching requests (all, unless told) go to `act`. The newest rule is asked first. */
  on(method: string, path: RegExp, act: (context: FaultContext) => unknown, times?: number): void;
  /** Puts content there without a request. */
  seed(content: Content, ...tags: readonly string[]): void;
  count(method: string, path: RegExp): number;
  close(): Promise<void>;
}

/**
 * A small registry in memory whose answers can be replaced rule by rule: for the faults that no real registry can be
 * made to show. Everything that arrives is recorded.
 */
export async function startFaultServer(tls?: ServerOptions): Promise<FaultServer> {
  const requests: Recorded[] = [];
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, { type: string; bytes: Buffer }>();
  const uploads = new Map<string, Buffer>();
  const rules: Rule[] = [];
  let sessions = 0;
  const sockets = new Set<Socket>();
  const connections = { open: 0, most: 0, total: 0 };

  const listener: RequestListener = (request, response) => {
    const recorded: Recorded = { method: request.method ?? "", url: request.url ?? "", headers: { ...request.headers }, body: "" };
    requests.push(recorded);
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    const url = new URL(request.url ?? "/", "http://fault.invalid");
    const pass = () => serve(request, response, url, recorded);
    const rule = rules.find(
      (rule) => (rule.method === "*" || rule.method === request.method) && rule.path.test(request.url ?? "") && rule.used < rule.times,
    );
    if (rule === undefined) return void pass().catch(() => response.destroy());
    const nth = rule.used;
    rule.used += 1;
    void Promise.resolve(rule.act({ request, response, url, nth, pass })).catch(() => response.destroy());
  };

  async function serve(request: IncomingMessage, response: ServerResponse, url: URL, recorded: Recorded): Promise<void> {
    const body = await readBody(request);
    if (body.length < 65_536) recorded.body = body.toString("latin1");
    const send = (status: number, headers: Record<string, string | number> = {}, bytes: Buffer | string = "") => {
      response.writeHead(status, { "content-length": Buffer.byteLength(bytes), ...headers });
      response.end(request.method === "HEAD" ? undefined : bytes);
    };
    const missing = (code: string) =>
      send(404, { "content-type": "application/json" }, JSON.stringify({ errors: [{ code, message: "unknown" }] }));
    const blob = /^\/v2\/(.+)\/blobs\/(sha\d+:[0-9a-f]+)$/.exec(url.pathname);
    const manifest = /^\/v2\/(.+)\/manifests\/([^/]+)$/.exec(url.pathname);
    const upload = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/.exec(url.pathname);
    const method = request.method ?? "";
    if (blob !== null && (method === "GET" || method === "HEAD")) {
      const bytes = blobs.get(blob[2] ?? "");
      if (bytes === undefined) return missing("BLOB_UNKNOWN");
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
      if (range === null) return send(200, { "content-length": bytes.length, "content-type": "application/octet-stream" }, bytes);
      const part = bytes.subarray(Number(range[1]), Number(range[2]) + 1);
      return send(206, { "content-range": `bytes ${range[1]}-${Number(range[1]) + part.length - 1}/${bytes.length}` }, part);
    }
    if (manifest !== null) {
      const [, , reference = ""] = manifest;
      if (method === "PUT") {
        const digest = digestOf(body);
        const entry = { type: request.headers["content-type"] ?? "", bytes: body };
        manifests.set(digest, entry);
        manifests.set(reference, entry);
        return send(201, { "docker-content-digest": digest });
      }
      const found = manifests.get(reference);
      if (found === undefined) return missing("MANIFEST_UNKNOWN");
      return send(
        200,
        { "content-type": found.type, "content-length": found.bytes.length, "docker-content-digest": digestOf(found.bytes) },
        found.bytes,
      );
    }
    if (upload !== null) {
      const [, repository = "", id = ""] = upload;
      if (method === "POST") {
        const fresh = String((sessions += 1));
        uploads.set(fresh, Buffer.alloc(0));
        return send(202, { location: `/v2/${repository}/blobs/uploads/${fresh}?_state=b%2Fa&x=1` });
      }
      const held = uploads.get(id);
      if (held === undefined) return missing("BLOB_UPLOAD_UNKNOWN");
      const now = Buffer.concat([held, body]);
      if (method === "GET")
        return send(204, { range: `0-${Math.max(0, held.length - 1)}`, location: `/v2/${repository}/blobs/uploads/${id}` });
      if (method === "DELETE") return send(uploads.delete(id) ? 204 : 404);
      if (method === "PATCH") {
        uploads.set(id, now);
        return send(202, { location: `/v2/${repository}/blobs/uploads/${id}?_state=${now.length}`, range: `0-${now.length - 1}` });
      }
      const digest = url.searchParams.get("digest") ?? "";
      if (digestOf(now) !== digest) return send(400, {}, JSON.stringify({ errors: [{ code: "DIGEST_INVALID" }] }));
      blobs.set(digest, now);
      uploads.delete(id);
      return send(201, { "docker-content-digest": digest });
    }
    return missing("NAME_UNKNOWN");
  }

  const server = tls === undefined ? createPlain(listener) : createTls(tls, listener);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    connections.total += 1;
    connections.open += 1;
    connections.most = Math.max(connections.most, connections.open);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      sockets.delete(socket);
      connections.open -= 1;
    });
  });
  server.on("clientError", (_, socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    origin: `${tls === undefined ? "http" : "https"}://${host}`,
    requests,
    blobs,
    manifests,
    connections,
    on: (method, path, act, times = Number.POSITIVE_INFINITY) => void rules.unshift({ method, path, times, act, used: 0 }),
    seed: (content, ...tags) => {
      const { digest, mediaType } = content.descriptor;
      if (!mediaType.includes("manifest") && !mediaType.includes("index")) return void blobs.set(digest, content.bytes);
      for (const name of [digest, ...tags]) manifests.set(name, { type: mediaType, bytes: content.bytes });
    },
    count: (method, path) => requests.filter((request) => request.method === method && path.test(request.url)).length,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      if (!server.listening) return;
      server.close();
      await once(server, "close");
    },
  };
}

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Answers with a status, headers and a small body. */
export function answer(status: number, headers: Readonly<Record<string, string | string[]>> = {}, body = "") {
  return async ({ request, response }: FaultContext): Promise<void> => {
    request.resume();
    response.writeHead(status, { "content-length": Buffer.byteLength(body), ...headers });
    response.end(request.method === "HEAD" ? undefined : body);
  };
}

/** Breaks the connection without an answer. */
export function reset({ request }: FaultContext): void {
  request.socket.destroy();
}
