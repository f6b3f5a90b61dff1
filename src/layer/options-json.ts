import { decodeBase64, encodeBase64, isDigest, parseJson, type Digest } from "../bytes/index.ts";
import { parseCipherName, type CipherOptions, type PrivateOptions, type PublicOptions } from "../cipher/index.ts";
import { LayerError, malformedAnnotation } from "./errors.ts";

/** The private options of a layer with the digest of what was encrypted, where they hold one. */
export interface LayerPrivateOptions extends PrivateOptions {
  readonly digest: Digest | undefined;
}

/** 4096 segment tags are 117 kB in base64 twice over. */
const maxPublicOptions = 1 << 18;
const maxPrivateOptions = 1 << 16;

/**
 * The JSON of public options: members in ocicrypt's order, compact, all present, as its Rust twin demands.
 * Source: ocicrypt `blockcipher.PublicLayerBlockCipherOptions`.
 */
export function serializePublicOptions(options: PublicOptions): Buffer {
  const { cipher, hmac, cipheroptions } = options;
  return Buffer.from(JSON.stringify({ cipher, hmac: encodeBase64(hmac), cipheroptions: encodeOptions(cipheroptions) }), "utf8");
}

/** The JSON of private options. Source: ocicrypt `blockcipher.PrivateLayerBlockCipherOptions`. */
export function serializePrivateOptions(options: LayerPrivateOptions & { readonly digest: Digest }): Buffer {
  const { symkey, digest, cipheroptions } = options;
  return Buffer.from(JSON.stringify({ symkey: encodeBase64(symkey), digest, cipheroptions: encodeOptions(cipheroptions) }), "utf8");
}

function encodeOptions(options: CipherOptions): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, encodeBase64(value)]));
}

/**
 * Reads public options. Unknown members are passed over and a missing or null `cipheroptions` is empty, as in Go.
 * Throws `ERR_LAYER_ANNOTATION_MALFORMED`, and `ERR_CIPHER_UNKNOWN`.
 */
export function parsePublicOptions(bytes: Uint8Array): PublicOptions {
  const fail = (message: string, cause?: unknown) => malformedAnnotation(`the public options of the layer ${message}`, cause);
  const value = parseObject(bytes, maxPublicOptions, fail);
  const { cipher, hmac } = value;
  if (typeof cipher !== "string") throw fail("name no cipher");
  const name = parseCipherName(cipher);
  if (typeof hmac !== "string") throw fail("hold no hmac");
  return { cipher: name, hmac: decode(hmac, "hmac", fail), cipheroptions: parseOptions(value["cipheroptions"], fail) };
}

/** Reads unwrapped private options; a missing `digest` is allowed, as in Go. Throws `ERR_LAYER_PRIVATE_OPTIONS`. Never repeats content. */
export function parsePrivateOptions(bytes: Uint8Array): LayerPrivateOptions {
  const fail = (message: string) =>
    new LayerError("ERR_LAYER_PRIVATE_OPTIONS", {
      message: `the unwrapped options of the layer ${message}`,
      hint: "whoever wrapped them made a mistake, or the wrapped key was exchanged; encrypt the image again",
    });
  const value = parseObject(bytes, maxPrivateOptions, fail);
  const { symkey, digest } = value;
  if (typeof symkey !== "string") throw fail("hold no symkey");
  if (digest !== undefined && digest !== "" && (typeof digest !== "string" || !isDigest(digest))) throw fail("hold a malformed digest");
  return {
    symkey: decode(symkey, "symkey", fail),
    digest: digest === "" ? undefined : digest,
    cipheroptions: parseOptions(value["cipheroptions"], fail),
  };
}

type Fail = (message: string, cause?: unknown) => LayerError;

function parseObject(bytes: Uint8Array, maxBytes: number, fail: Fail): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes, maxDepth: 8 });
  } catch (cause) {
    throw fail("are not JSON, or too large", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw fail("are not an object");
  return value as Record<string, unknown>;
}

function parseOptions(value: unknown, fail: Fail): CipherOptions {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw fail("hold cipheroptions that are not an object");
  // A null prototype: names are foreign, and `__proto__` must be a name like any other.
  const options: Record<string, Uint8Array> = Object.create(null) as Record<string, Uint8Array>;
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== "string") throw fail("hold a cipher option that is not text");
    options[name] = decode(text, "a cipher option", fail);
  }
  return options;
}

function decode(text: string, what: string, fail: Fail): Buffer {
  try {
    return decodeBase64(text, what);
  } catch (cause) {
    throw fail(`hold ${what} that is not base64`, cause);
  }
}
