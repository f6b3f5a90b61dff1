import { decodeBase64, encodeBase64, parseJson } from "../../bytes/index.ts";
import { KeywrapError } from "../errors.ts";

/** The most that a provider may answer, and the most that it is asked. */
export const maxMessage = 1 << 20;

/** What a provider is asked; both ways go over the same program or service. */
export type ProviderOperation = "keywrap" | "keyunwrap";

/**
 * The request to wrap private options, member by member as Go's ocicrypt sends it. Only the parameters for this
 * provider are in it: ocicrypt sends those of all others, private keys and passwords included.
 */
export function wrapRequest(name: string, parameters: readonly string[], optsdata: Uint8Array): Buffer {
  const ec = { Parameters: { [name]: encoded(parameters) }, DecryptConfig: { Parameters: {} } };
  return serialize({
    op: "keywrap",
    keywrapparams: { ec, optsdata: encodeBase64(optsdata) },
    keyunwrapparams: { dc: null, annotation: null },
  });
}

/** The request to unwrap a packet. */
export function unwrapRequest(name: string, parameters: readonly string[], packet: Uint8Array): Buffer {
  return serialize({
    op: "keyunwrap",
    keywrapparams: { ec: null, optsdata: null },
    keyunwrapparams: { dc: { Parameters: { [name]: encoded(parameters) } }, annotation: encodeBase64(packet) },
  });
}

function encoded(parameters: readonly string[]): readonly string[] {
  return parameters.map((parameter) => encodeBase64(Buffer.from(parameter, "utf8")));
}

function serialize(request: unknown): Buffer {
  return Buffer.from(JSON.stringify(request), "utf8");
}

/**
 * The bytes that a reply carries: `keywrapresults.annotation` or `keyunwrapresults.optsdata`, as base64 (Go) or as a
 * list of numbers (Rust). Throws `ERR_KEYWRAP_PROVIDER_REPLY`; never repeats the content.
 */
export function parseReply(operation: ProviderOperation, name: string, bytes: Uint8Array): Buffer {
  const [group, member] = operation === "keywrap" ? ["keywrapresults", "annotation"] : ["keyunwrapresults", "optsdata"];
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes: maxMessage * 4, maxDepth: 8, subject: "reply" });
  } catch (cause) {
    throw badReply(name, "is not JSON", cause);
  }
  const found = memberOf(memberOf(value, group), member);
  if (Array.isArray(found)) {
    if (found.length === 0 || !found.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255))
      throw badReply(name, `has ${group}.${member} that is not a list of bytes`);
    return Buffer.from(found as number[]);
  }
  if (typeof found !== "string" || found === "") throw badReply(name, `lacks ${group}.${member}`);
  try {
    return decodeBase64(found, member);
  } catch (cause) {
    throw badReply(name, `has ${group}.${member} that is neither base64 nor a list of bytes`, cause);
  }
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (Reflect.get(value, name) as unknown) : undefined;
}

export function badReply(name: string, what: string, cause?: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PROVIDER_REPLY", {
    message: `the reply of the key provider ${name} ${what}`,
    hint: "the program or service configured under this name does not speak the ocicrypt key provider protocol",
    cause,
  });
}

export function providerFailed(name: string, what: string, cause?: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PROVIDER_FAILED", {
    message: `the key provider ${name} ${what}`,
    hint: "see what the provider itself logged; ociseal sends it the packet and its own parameters only",
    cause,
  });
}
