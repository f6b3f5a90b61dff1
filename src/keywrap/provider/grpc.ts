import { readFile } from "node:fs/promises";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import { connect as connectSocket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { describeCause } from "../../errors/index.ts";
import type { ProviderTls } from "./config.ts";
import { badReply, maxMessage, providerFailed, type ProviderOperation } from "./protocol.ts";

export interface GrpcCall {
  readonly name: string;
  readonly target: string;
  readonly tls: ProviderTls | undefined;
  readonly operation: ProviderOperation;
  readonly request: Uint8Array;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Source: ocicrypt `utils/keyprovider/keyprovider.proto`. */
const methods = { keywrap: "WrapKey", keyunwrap: "UnWrapKey" } as const;
/** gRPC's frame: one byte for compression and four for the length. Source: gRPC over HTTP/2, "Length-Prefixed-Message". */
const frameHead = 5;

/** Calls a provider service, one unary call on a connection of its own. Throws `ERR_KEYWRAP_PROVIDER_FAILED`, `ERR_KEYWRAP_PROVIDER_REPLY`. */
export async function callService(call: GrpcCall): Promise<Buffer> {
  const { name, signal } = call;
  signal?.throwIfAborted();
  const tls = call.tls === undefined ? undefined : await tlsOptions(name, call.tls);
  const session = openSession(parseTarget(name, call.target), tls);
  const abort = () => session.destroy();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await exchange(session, call);
  } catch (cause) {
    signal?.throwIfAborted();
    throw cause;
  } finally {
    signal?.removeEventListener("abort", abort);
    session.destroy();
  }
}

type Target = { readonly kind: "socket"; readonly path: string } | { readonly kind: "host"; readonly host: string; readonly port: number };

/** Go's forms (`host:port`, `dns:///host:port`, `unix:///path`) and those of ocicrypt-rs (`http://…`, `tcp://…`). */
function parseTarget(name: string, text: string): Target {
  const socket = /^unix:(?:\/\/)?(.+)$/.exec(text);
  if (socket !== null) return { kind: "socket", path: socket[1] ?? "" };
  const host = /^(?:dns:\/\/\/|https?:\/\/|tcp:\/\/)?(\[[0-9a-fA-F:]+\]|[^:/]+):(\d{1,5})\/?$/.exec(text);
  if (host === null)
    throw providerFailed(name, `has the address ${JSON.stringify(text.slice(0, 120))}, which is neither host:port nor unix:///path`);
  return { kind: "host", host: (host[1] ?? "").replace(/^\[|\]$/g, ""), port: Number(host[2]) };
}

function openSession(target: Target, tls: ConnectionOptions | undefined): ClientHttp2Session {
  const address = target.kind === "socket" ? { path: target.path } : { host: target.host, port: target.port };
  const authority = `${tls === undefined ? "http" : "https"}://localhost`;
  return connect(authority, { createConnection: () => (tls === undefined ? connectSocket(address) : connectTls({ ...tls, ...address })) });
}

async function tlsOptions(name: string, tls: ProviderTls): Promise<ConnectionOptions> {
  const read = async (path: string | undefined) => {
    try {
      return path === undefined ? undefined : await readFile(path);
    } catch (cause) {
      throw providerFailed(name, `has a TLS file that cannot be read: ${describeCause(cause)}`, cause);
    }
  };
  const [ca, cert, key] = [await read(tls.rootCaFile), await read(tls.certFile), await read(tls.keyFile)];
  return {
    ALPNProtocols: ["h2"],
    minVersion: "TLSv1.2",
    rejectUnauthorized: tls.verification === "certificate",
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
  };
}

async function exchange(session: ClientHttp2Session, { name, operation, request, timeoutMs }: GrpcCall): Promise<Buffer> {
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: "POST",
    [constants.HTTP2_HEADER_PATH]: `/keyprovider.KeyProviderService/${methods[operation]}`,
    [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
    te: "trailers",
  });
  stream.end(frame(request));
  const { body, status, words } = await answerOf(session, stream, name, timeoutMs);
  if (status !== "0") throw providerFailed(name, `refused with gRPC status ${status ?? "none"}${words === "" ? "" : `: ${words}`}`);
  return messageOf(name, body);
}

interface Answer {
  readonly body: Buffer;
  readonly status: string | undefined;
  readonly words: string;
}

function answerOf(session: ClientHttp2Session, stream: ClientHttp2Stream, name: string, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let headers: IncomingHttpHeaders = {};
    const fail = (cause: unknown) => reject(providerFailed(name, `could not be reached: ${describeCause(cause)}`, cause));
    session.once("error", fail);
    stream.once("error", fail);
    stream.setTimeout(timeoutMs, () => {
      reject(providerFailed(name, `did not answer within ${timeoutMs} ms`));
      session.destroy();
    });
    // gRPC's status comes in the trailers, or in the headers when there is no body.
    stream.on("response", (found) => (headers = { ...headers, ...found }));
    stream.on("trailers", (found) => (headers = { ...headers, ...found }));
    stream.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxMessage * 4) chunks.push(chunk);
      else {
        reject(badReply(name, `has more than ${maxMessage * 4} bytes`));
        session.destroy();
      }
    });
    stream.once("close", () => {
      const words = String(headers["grpc-message"] ?? "").slice(0, 2000);
      const status = headers["grpc-status"];
      resolve({ body: Buffer.concat(chunks), status: typeof status === "string" ? status : undefined, words: decodeWords(words) });
    });
  });
}

/** Percent-encoded. Source: gRPC over HTTP/2, "Responses". */
function decodeWords(words: string): string {
  try {
    return decodeURIComponent(words);
  } catch {
    // Whoever sent it does not encode: shown as it came.
    return words;
  }
}

/** Field 1, length-delimited: both messages of the protocol hold only that. Source: protobuf encoding. */
function frame(message: Uint8Array): Buffer {
  const field = Buffer.concat([Buffer.of(0x0a), varint(message.length), message]);
  const head = Buffer.alloc(frameHead);
  head.writeUInt32BE(field.length, 1);
  return Buffer.concat([head, field]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function messageOf(name: string, body: Buffer): Buffer {
  if (body.length < frameHead || body[0] !== 0 || body.readUInt32BE(1) !== body.length - frameHead)
    throw badReply(name, "is not one uncompressed gRPC message");
  let at = frameHead;
  const readVarint = (): number => {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = body[at];
      if (byte === undefined) break;
      at += 1;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw badReply(name, "is not a protobuf message");
  };
  let found: Buffer | undefined;
  while (at < body.length) {
    const tag = readVarint();
    if ((tag & 7) !== 2) throw badReply(name, "has a protobuf field of an unexpected kind");
    const length = readVarint();
    if (length > body.length - at) throw badReply(name, "has a protobuf field that is cut");
    if (tag >>> 3 === 1) found = body.subarray(at, at + length);
    at += length;
  }
  if (found === undefined) throw badReply(name, "is an empty gRPC message");
  return found;
}
