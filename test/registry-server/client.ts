import { mkdtemp, rm } from "node:fs/promises";
import { Agent, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { digestOf, type Digest } from "../../src/bytes/index.ts";
import { mediaTypes } from "../../src/oci/index.ts";
import { serveRegistry, type RegistryServer, type ServeRegistryOptions } from "../../src/registry-server/index.ts";

/** A client that does exactly what it is told: no redirects, no decoding, no retries. */
export interface Call {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: Uint8Array | string | undefined;
  /** Sends the body without a Content-Length. */
  readonly chunked?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly json: () => unknown;
  /** Code of the first entry of an error document. */
  readonly code: () => string | undefined;
}

export async function call(url: string, method: string, { headers, body, chunked }: Call = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const bytes = body === undefined ? undefined : Buffer.from(body);
    const length =
      bytes === undefined
        ? ["POST", "PUT", "PATCH"].includes(method)
          ? { "content-length": "0" }
          : {}
        : { "content-length": String(bytes.length) };
    const request = httpRequest(url, {
      method,
      agent: new Agent({ keepAlive: false }),
      headers: { ...(chunked === true ? {} : length), ...headers },
    });
    request.on("error", reject);
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const all = Buffer.concat(chunks);
        const json = () => JSON.parse(all.toString("utf8")) as unknown;
        const code = () => (json() as { errors?: { code?: string }[] }).errors?.[0]?.code;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: all, json, code });
      });
    });
    if (chunked === true) request.flushHeaders();
    request.end(bytes);
  });
}

/** A registry with short names for what tests do most. */
export class TestRegistry {
  readonly server: RegistryServer;
  readonly folder: string | undefined;

  constructor(server: RegistryServer, folder: string | undefined) {
    this.server = server;
    this.folder = folder;
  }

  call(method: string, path: string, options?: Call): Promise<Answer> {
    return call(path.startsWith("http") ? path : `${this.server.url}${path}`, method, options);
  }

  async begin(name: string, query = ""): Promise<string> {
    const answer = await this.call("POST", `/v2/${name}/blobs/uploads/${query}`);
    if (answer.status !== 202) throw new Error(`POST: ${answer.status} ${answer.body.toString()}`);
    return answer.headers.location ?? "";
  }

  async pushBlob(name: string, content: Uint8Array | string): Promise<{ readonly digest: Digest; readonly size: number }> {
    const bytes = Buffer.from(content);
    const digest = digestOf(bytes);
    const answer = await this.call("POST", `/v2/${name}/blobs/uploads/?digest=${digest}`, { body: bytes });
    if (answer.status !== 201) throw new Error(`POST: ${answer.status} ${answer.body.toString()}`);
    return { digest, size: bytes.length };
  }

  /** A manifest with a configuration and one layer that are there. */
  async manifest(name: string, more: Readonly<Record<string, unknown>> = {}, layer = "layer"): Promise<Buffer> {
    const config = await this.pushBlob(name, "{}");
    const blob = await this.pushBlob(name, layer);
    return json({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { mediaType: mediaTypes.config, ...config },
      layers: [{ mediaType: mediaTypes.layerTar, ...blob }],
      ...more,
    });
  }

  put(
    name: string,
    reference: string,
    bytes: Buffer,
    mediaType: string = mediaTypes.manifest,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.call("PUT", `/v2/${name}/manifests/${reference}`, { body: bytes, headers: { "content-type": mediaType, ...headers } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    if (this.folder !== undefined) await rm(this.folder, { recursive: true, force: true });
  }
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

export type StorageKind = "memory" | "directory";
export const storageKinds: readonly StorageKind[] = ["memory", "directory"];

/** A registry on a free loopback port; `await using` ends it. */
export async function startRegistry(options: Partial<ServeRegistryOptions> & { readonly kind?: StorageKind } = {}): Promise<TestRegistry> {
  const { kind, ...rest } = options;
  const folder = kind === "directory" ? await mkdtemp(join(tmpdir(), "ociseal-registry-")) : undefined;
  const server = await serveRegistry({
    listen: { host: "127.0.0.1", port: 0 },
    storage: folder === undefined ? { kind: "memory" } : { kind: "directory", path: folder },
    ...rest,
  });
  return new TestRegistry(server, folder);
}
