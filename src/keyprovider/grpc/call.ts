import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { NotProtobuf, readFields, writeOnlyField } from "../protobuf.ts";
import { requestLimits, type ProviderOperation } from "../protocol.ts";
import { encodeWords, grpcCodes, type GrpcStatus } from "./status.ts";

/** Source: ocicrypt `utils/keyprovider/keyprovider.proto`. */
export const methods: ReadonlyMap<string, ProviderOperation> = new Map([
  ["/keyprovider.KeyProviderService/WrapKey", "wrap"],
  ["/keyprovider.KeyProviderService/UnWrapKey", "unwrap"],
]);

/** One byte that says whether the message is compressed, four for its length. Source: gRPC over HTTP/2, "Length-Prefixed-Message". */
const frameHead = 5;
/** JSON in base64 or as numbers, and the head of the field. */
const maxMessage = requestLimits.maxBytes + 16;

/** Ends a call with a status and no message. */
export class GrpcFailure extends Error {
  readonly status: GrpcStatus;

  constructor(code: number, message: string) {
    super(message);
    this.status = { code, message };
  }
}

/** Whether a content type is gRPC with protobuf, the only encoding there is here. */
export function isGrpc(headers: IncomingHttpHeaders): boolean {
  return /^application\/grpc(?:\+proto)?(?:;|$)/.test(headers["content-type"] ?? "");
}

/** Reads the one message of a unary call. Throws {@link GrpcFailure}. */
export async function readMessage(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<Uint8Array> {
  const encoding = headers["grpc-encoding"] ?? "identity";
  if (encoding !== "identity") throw new GrpcFailure(grpcCodes.unimplemented, "messages must not be compressed");
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop must not reset the call: it still gets its status.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxMessage + frameHead)
      throw new GrpcFailure(grpcCodes.resourceExhausted, `the message is larger than the limit of ${maxMessage} bytes`);
    chunks.push(chunk);
  }
  return messageOf(Buffer.concat(chunks, size));
}

/** The bytes that a framed request carries. Throws {@link GrpcFailure}. */
export function messageOf(body: Buffer): Uint8Array {
  if (body.length < frameHead) throw new GrpcFailure(grpcCodes.invalidArgument, "the call holds no message");
  if (body[0] === 1) throw new GrpcFailure(grpcCodes.unimplemented, "messages must not be compressed");
  const length = body.readUInt32BE(1);
  if (body[0] !== 0 || length !== body.length - frameHead)
    throw new GrpcFailure(grpcCodes.invalidArgument, "the call does not hold exactly one framed message");
  try {
    const value = readFields(body.subarray(frameHead)).get(1);
    if (value !== undefined) return value;
  } catch (cause) {
    if (!(cause instanceof NotProtobuf)) throw cause;
    throw new GrpcFailure(grpcCodes.invalidArgument, `the message is not protobuf: ${cause.message}`);
  }
  throw new GrpcFailure(grpcCodes.invalidArgument, "the message is empty");
}

/** Answers a call: one message and the trailers that say it was all. */
export function sendMessage(stream: ServerHttp2Stream, value: Uint8Array): void {
  const message = writeOnlyField(value);
  const head = Buffer.alloc(frameHead);
  head.writeUInt32BE(message.length, 1);
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(grpcCodes.ok) }));
  stream.end(Buffer.concat([head, message]));
}

/** Answers a call with a failure only: its trailers stand where headers would. Source: gRPC over HTTP/2, "Trailers-Only". */
export function sendStatus(stream: ServerHttp2Stream, { code, message }: GrpcStatus): void {
  if (stream.destroyed || stream.headersSent) return;
  const headers = { ":status": 200, "content-type": "application/grpc", "grpc-status": String(code), "grpc-message": encodeWords(message) };
  stream.respond(headers, { endStream: true });
  // What the caller still sends is of no interest. Not at once: Node.js 22 would reset the call before its status is out.
  stream.resume();
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
}
