import { connect } from "node:net";
import { describeCause } from "../../errors/index.ts";
import { AttestationError } from "../errors.ts";

/** One unary call. */
export interface TtrpcCall {
  /** Path of the UNIX socket. */
  readonly socketPath: string;
  /** `package.Service`. */
  readonly service: string;
  readonly method: string;
  /** The request message, already in protobuf. */
  readonly payload: Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

const headerSize = 10;
const maxMessage = 4 * 1024 * 1024;
const messageTypes = { request: 1, response: 2 } as const;
const timeoutMs = 30_000;

/**
 * Calls one method over ttrpc on a connection of its own: a header of length u32be, stream u32be, type u8, flags u8, then
 * a protobuf message. Gives the payload of the response. Throws `ERR_ATTESTER_UNAVAILABLE` when nobody listens and
 * `ERR_ATTESTER_FAILED` for everything else. Source: containerd/ttrpc PROTOCOL.md; reference B 5.1.
 */
export async function callTtrpc(call: TtrpcCall): Promise<Buffer> {
  const request = Buffer.concat([
    field(1, Buffer.from(call.service, "utf8")),
    field(2, Buffer.from(call.method, "utf8")),
    field(3, call.payload),
    varintField(4, BigInt(timeoutMs) * 1_000_000n),
  ]);
  const header = Buffer.alloc(headerSize);
  header.writeUInt32BE(request.length, 0);
  header.writeUInt32BE(1, 4);
  header[8] = messageTypes.request;
  return readResponse(await exchange(call, Buffer.concat([header, request])), call);
}

async function exchange(call: TtrpcCall, message: Buffer): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = connect(call.socketPath);
  const chunks: Buffer[] = [];
  let size = 0;
  const abort = () => void socket.destroy(new Error("the call was interrupted"));
  call.signal?.addEventListener("abort", abort, { once: true });
  socket.setTimeout(timeoutMs, () => void socket.destroy(new Error("no answer in time")));
  socket.once("connect", () => void socket.write(message));
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    const received = size >= headerSize ? Buffer.concat(chunks, size) : undefined;
    const length = received?.readUInt32BE(0) ?? 0;
    if (length > maxMessage) socket.destroy(new Error(`a message has ${length} bytes, more than ${maxMessage}`));
    else if (received !== undefined && size >= headerSize + length) {
      resolve(received.subarray(0, headerSize + length));
      socket.destroy();
    }
  });
  socket.once("error", (cause: NodeJS.ErrnoException) => {
    const absent = cause.code === "ENOENT" || cause.code === "ECONNREFUSED" || cause.code === "EACCES";
    reject(
      new AttestationError(absent ? "ERR_ATTESTER_UNAVAILABLE" : "ERR_ATTESTER_FAILED", {
        message: `the attestation agent at ${call.socketPath} cannot be asked (${describeCause(cause)})`,
        cause,
      }),
    );
  });
  socket.once("close", () => reject(failed(call, "closed the connection without an answer")));
  try {
    return await promise;
  } finally {
    call.signal?.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** Response{status=1, payload=2}; Status{code=1, message=2}, code 0 is success. */
function readResponse(message: Buffer, call: TtrpcCall): Buffer {
  if (message.readUInt32BE(4) !== 1 || message[8] !== messageTypes.response)
    throw failed(call, "answered with a message that is no response to the call");
  const fields = readFields(message.subarray(headerSize), call);
  const status = fields.get(1);
  if (status instanceof Buffer && status.length > 0) {
    const parts = readFields(status, call);
    const code = parts.get(1);
    const text = parts.get(2);
    if (typeof code === "bigint" && code !== 0n)
      throw failed(call, `refused ${call.method}: ${text instanceof Buffer ? text.toString("utf8").slice(0, 300) : `status ${code}`}`);
  }
  const payload = fields.get(2);
  return payload instanceof Buffer ? payload : Buffer.alloc(0);
}

/** The last value of each field of a protobuf message; wire types 0 and 2 only, which is all these messages use. */
function readFields(message: Buffer, call: TtrpcCall): ReadonlyMap<number, Buffer | bigint> {
  const fields = new Map<number, Buffer | bigint>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 64n; shift += 7n) {
      const byte = message[at];
      if (byte === undefined) throw failed(call, "answered with a message that ends early");
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw failed(call, "answered with a malformed number");
  };
  while (at < message.length) {
    const key = Number(varint());
    const wire = key & 7;
    const value = varint();
    if (wire === 0) fields.set(key >> 3, value);
    else if (wire === 2) {
      const end = at + Number(value);
      if (end > message.length) throw failed(call, "answered with a message that ends early");
      fields.set(key >> 3, message.subarray(at, end));
      at = end;
    } else throw failed(call, `answered with a field of wire type ${wire}`);
  }
  return fields;
}

/** The first length-delimited field of a protobuf message. */
export function readBytesField(message: Buffer, call: TtrpcCall): Buffer {
  const value = readFields(message, call).get(1);
  return value instanceof Buffer ? value : Buffer.alloc(0);
}

/** A length-delimited protobuf field. */
export function field(number: number, content: Uint8Array): Buffer {
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(content.length)), content]);
}

function varintField(number: number, value: bigint): Buffer {
  return Buffer.concat([varint(BigInt(number << 3)), varint(value)]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

function failed(call: TtrpcCall, what: string): AttestationError {
  return new AttestationError("ERR_ATTESTER_FAILED", {
    message: `the attestation agent at ${call.socketPath} ${what}`,
    hint: "see the log of the attestation agent",
  });
}
