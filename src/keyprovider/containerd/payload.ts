import { decodeBase64, parseJson } from "../../bytes/index.ts";
import { parseDescriptor, type Descriptor } from "../../oci/index.ts";
import { KeyproviderError } from "../errors.ts";
import { NotProtobuf, readFields } from "../protobuf.ts";

/** What containerd hands to a stream processor beside the layer itself. */
export interface LayerPayload {
  readonly descriptor: Descriptor;
  /** Private keys that a client sent along (`ctr-enc --key`), in any file form. */
  readonly keys: readonly PayloadKey[];
}

export interface PayloadKey {
  readonly bytes: Uint8Array;
  readonly password: Uint8Array | undefined;
}

export const payloadLimits = { maxBytes: 8 << 20, maxKeys: 256 } as const;

/** Source: imgcrypt `payload.go`. */
const payloadType = "io.containerd.ocicrypt.v1.Payload";

/**
 * Reads what stands on file descriptor 3: protobuf `Any` around JSON. Throws `ERR_KEYPROVIDER_PAYLOAD` and what
 * `parseDescriptor` throws; never repeats content. Source: containerd `diff/stream_unix.go`; imgcrypt `payload.go`.
 */
export function parsePayload(bytes: Uint8Array): LayerPayload {
  const json = contentOf(bytes);
  let value: unknown;
  try {
    value = parseJson(json, { maxBytes: payloadLimits.maxBytes, maxDepth: 32, subject: "payload" });
  } catch (cause) {
    throw malformed("holds no JSON", cause);
  }
  const parameters = member(member(value, "DecryptConfig"), "Parameters");
  const keys = listOf(parameters, "privkeys");
  const passwords = listOf(parameters, "privkeys-passwords");
  if (passwords.length > 0 && passwords.length !== keys.length)
    throw malformed(`has ${passwords.length} passwords for ${keys.length} private keys`);
  return {
    descriptor: parseDescriptor(member(value, "Descriptor"), "the layer that containerd handed over"),
    keys: keys.map((key, position) => {
      const password = passwords[position];
      return { bytes: key, password: password === undefined || password.length === 0 ? undefined : password };
    }),
  };
}

function contentOf(bytes: Uint8Array): Uint8Array {
  if (bytes.length > payloadLimits.maxBytes) throw malformed(`has more than ${payloadLimits.maxBytes} bytes`);
  let fields: ReadonlyMap<number, Uint8Array>;
  try {
    fields = readFields(bytes);
  } catch (cause) {
    if (cause instanceof NotProtobuf) throw malformed(`is no protobuf message: ${cause.message}`, cause);
    throw cause;
  }
  const type = Buffer.from(fields.get(1) ?? []).toString("utf8");
  // typeurl registers plain names; protobuf's own URLs end in them.
  if (type !== payloadType && !type.endsWith(`/${payloadType}`))
    throw malformed(`is of type ${JSON.stringify(type.slice(0, 120))} (expected ${payloadType})`);
  const content = fields.get(2);
  if (content === undefined) throw malformed("is empty");
  return content;
}

/** Go's `[][]byte`: a list of base64 texts, where an empty one may be null. */
function listOf(parameters: unknown, name: string): readonly Buffer[] {
  const list = member(parameters, name);
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list) || list.length > payloadLimits.maxKeys) throw malformed(`has ${name} that are not a list, or too many`);
  return list.map((text: unknown) => {
    if (text === null) return Buffer.alloc(0);
    if (typeof text !== "string") throw malformed(`has ${name} that are not text`);
    try {
      return decodeBase64(text, name);
    } catch (cause) {
      throw malformed(`has ${name} that are not base64`, cause);
    }
  });
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (Reflect.get(value, name) as unknown) : undefined;
}

function malformed(what: string, cause?: unknown): KeyproviderError {
  return new KeyproviderError("ERR_KEYPROVIDER_PAYLOAD", {
    message: `what containerd handed over on file descriptor 3 ${what}`,
    hint: "the processor's id must be io.containerd.ocicrypt.decoder.v1.tar or …tar.gzip: containerd gives a payload to no other",
    cause,
  });
}
