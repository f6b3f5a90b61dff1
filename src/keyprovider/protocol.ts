import { decodeBase64, parseJson } from "../bytes/index.ts";
import { malformedRequest } from "./errors.ts";

/** What a caller wants: private options wrapped, or a packet opened. */
export type ProviderCall =
  | { readonly kind: "wrap"; readonly parameters: readonly string[]; readonly optsdata: Uint8Array }
  | { readonly kind: "unwrap"; readonly packet: Uint8Array };

export type ProviderOperation = ProviderCall["kind"];

/** Bounds on what a caller sends. Private options have about 200 bytes; a packet of 1000 recipients still fits. */
export const requestLimits = { maxBytes: 4 << 20, maxOptions: 1 << 16, maxPacket: 1 << 20, maxParameters: 64 } as const;

const operations: Readonly<Record<string, ProviderOperation>> = { keywrap: "wrap", keyunwrap: "unwrap" };

/**
 * Reads a request of ocicrypt's key provider protocol, as Go and Rust write it. `name` is what the recipient is called
 * after `provider:`: ocicrypt sends the material of all recipients of a run, private keys and passwords included, and
 * only this provider's own is looked at. Throws `ERR_KEYPROVIDER_REQUEST`; never repeats content.
 * Source: ocicrypt `utils/keyprovider`, `keywrap/keyprovider`.
 */
export function parseProviderCall(bytes: Uint8Array, name: string): ProviderCall {
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes: requestLimits.maxBytes, maxDepth: 16, subject: "request" });
  } catch (cause) {
    throw malformedRequest("is not JSON, or too large", cause);
  }
  const op = member(value, "op");
  const operation = typeof op === "string" && Object.hasOwn(operations, op) ? operations[op] : undefined;
  switch (operation) {
    case "wrap": {
      const wrap = member(value, "keywrapparams");
      const parameters = member(member(wrap, "ec"), "Parameters");
      return {
        kind: "wrap",
        parameters: parametersOf(parameters, name),
        optsdata: bytesOf(member(wrap, "optsdata"), "keywrapparams.optsdata", requestLimits.maxOptions),
      };
    }
    case "unwrap":
      return {
        kind: "unwrap",
        packet: bytesOf(member(member(value, "keyunwrapparams"), "annotation"), "keyunwrapparams.annotation", requestLimits.maxPacket),
      };
    case undefined:
      throw malformedRequest('has an op that is neither "keywrap" nor "keyunwrap"');
  }
}

function parametersOf(all: unknown, name: string): readonly string[] {
  const own = member(all, name);
  if (own === undefined || own === null)
    throw malformedRequest(`has no parameters for ${JSON.stringify(name)} (is it configured under another name? then say it with --name)`);
  if (!Array.isArray(own) || own.length === 0 || own.length > requestLimits.maxParameters)
    throw malformedRequest(`has parameters for ${JSON.stringify(name)} that are not a list, empty, or too many`);
  return own.map((text: unknown) => Buffer.from(bytesOf(text, "a parameter", 4096, "empty-allowed")).toString("utf8"));
}

/** Base64 (Go), a list of numbers, or for `optsdata` the JSON text itself (ocicrypt-rs): no base64 starts with a brace. */
function bytesOf(value: unknown, where: string, maxBytes: number, emptiness: "empty-allowed" | "filled" = "filled"): Buffer {
  const bytes = decoded(value, where);
  if (bytes.length > maxBytes) throw malformedRequest(`has ${where} of ${bytes.length} bytes, more than the limit of ${maxBytes}`);
  if (bytes.length === 0 && emptiness === "filled") throw malformedRequest(`has an empty ${where}`);
  return bytes;
}

function decoded(value: unknown, where: string): Buffer {
  if (Array.isArray(value)) {
    if (!value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255))
      throw malformedRequest(`has ${where} that is not a list of bytes`);
    return Buffer.from(value as number[]);
  }
  if (typeof value !== "string") throw malformedRequest(`lacks ${where}`);
  if (value.startsWith("{")) return Buffer.from(value, "utf8");
  try {
    return decodeBase64(value, where);
  } catch (cause) {
    throw malformedRequest(`has ${where} that is not base64`, cause);
  }
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (Reflect.get(value, name) as unknown) : undefined;
}

/**
 * The reply, with bytes as a list of numbers: Go reads that and base64, ocicrypt-rs and CoCo's guests read only lists
 * (measured with skopeo 1.18 and 1.22).
 */
export function formatReply(operation: ProviderOperation, bytes: Uint8Array): string {
  switch (operation) {
    case "wrap":
      return JSON.stringify({ keywrapresults: { annotation: [...bytes] } });
    case "unwrap":
      return JSON.stringify({ keyunwrapresults: { optsdata: [...bytes] } });
  }
}
