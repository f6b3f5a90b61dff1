import { decodeBase64, encodeBase64 } from "../bytes/index.ts";
import type { PublicOptions } from "../cipher/index.ts";
import type { KeyPacket, WrapScheme } from "../keywrap/index.ts";
import type { Annotations, Descriptor } from "../oci/index.ts";
import { LayerError, askOwner, malformedAnnotation } from "./errors.ts";
import { isEncryptedMediaType } from "./media-types.ts";
import { serializePublicOptions } from "./options-json.ts";

/** Source: ocicrypt `spec` and `keywrap`. */
export const encryptionAnnotations = {
  publicOptions: "org.opencontainers.image.enc.pubopts",
  keys: "org.opencontainers.image.enc.keys.",
  /** What starts the name of every annotation about encryption. */
  prefix: "org.opencontainers.image.enc.",
} as const;

/** Bounds on what somebody else wrote into one layer's annotations. */
export const annotationLimits = { maxBytes: 1 << 20, maxPackets: 1000 } as const;

const schemeGrammar = /^(?:jwe|pkcs7|pgp|pkcs11|provider\.[^\s,=]{1,128})$/;

/** The encryption annotations of a layer, decoded from base64. */
export interface EncryptionAnnotations {
  /** JSON. */
  readonly publicOptions: Uint8Array;
  /** In the order of the annotations, and in each from left to right. */
  readonly packets: readonly KeyPacket[];
  /** Names of `enc.` annotations that belong to no scheme known here; kept as they are. */
  readonly foreign: readonly string[];
}

/** Whether a layer claims to be encrypted. Source: ocicrypt readers decide by the media type alone. */
export function isEncryptedLayer(layer: Descriptor): boolean {
  return isEncryptedMediaType(layer.mediaType);
}

/**
 * Refuses a layer whose media type and annotations disagree: cutting `+encrypted` makes peers copy ciphertext as if it
 * were a plain layer (measured). Throws `ERR_LAYER_MARK_MISSING`, `ERR_LAYER_ANNOTATIONS_MISSING`.
 */
export function checkEncryptionMark(layer: { readonly mediaType: string; readonly annotations?: Annotations | undefined }): void {
  const annotated = Object.keys(layer.annotations ?? {}).some((name) => name.startsWith(encryptionAnnotations.prefix));
  const marked = isEncryptedMediaType(layer.mediaType);
  if (annotated && !marked) {
    throw new LayerError("ERR_LAYER_MARK_MISSING", {
      message: `a layer has encryption annotations, but its media type ${layer.mediaType} does not end in +encrypted`,
      hint: askOwner,
    });
  }
  if (marked && layer.annotations?.[encryptionAnnotations.publicOptions] === undefined) {
    throw new LayerError("ERR_LAYER_ANNOTATIONS_MISSING", {
      message: `a layer of type ${layer.mediaType} has no annotation ${encryptionAnnotations.publicOptions}`,
      hint: askOwner,
    });
  }
}

/**
 * Takes the encryption annotations apart. Separators are single commas and base64 is strict, as in ocicrypt.
 * Throws `ERR_LAYER_ANNOTATION_MALFORMED` and what {@link checkEncryptionMark} throws, and `ERR_LAYER_NOT_ENCRYPTED`.
 */
export function parseEncryptionAnnotations(layer: Descriptor): EncryptionAnnotations {
  checkEncryptionMark(layer);
  const annotations = layer.annotations ?? {};
  const publicText = annotations[encryptionAnnotations.publicOptions];
  if (publicText === undefined)
    throw new LayerError("ERR_LAYER_NOT_ENCRYPTED", { message: `a layer of type ${layer.mediaType} is not encrypted` });
  checkSizes(annotations);
  const packets: KeyPacket[] = [];
  const foreign: string[] = [];
  for (const [name, text] of Object.entries(annotations)) {
    if (!name.startsWith(encryptionAnnotations.prefix) || name === encryptionAnnotations.publicOptions) continue;
    const scheme = name.startsWith(encryptionAnnotations.keys) ? name.slice(encryptionAnnotations.keys.length) : "";
    if (!isScheme(scheme)) {
      foreign.push(name);
      continue;
    }
    const elements = text.split(",", annotationLimits.maxPackets + 1);
    if (packets.length + elements.length > annotationLimits.maxPackets) {
      throw malformedAnnotation(`a layer has more than ${annotationLimits.maxPackets} wrapped keys, the limit`);
    }
    for (const element of elements) packets.push({ scheme, bytes: decode(element, name) });
  }
  return { publicOptions: decode(publicText, encryptionAnnotations.publicOptions), packets, foreign };
}

function isScheme(text: string): text is WrapScheme {
  return schemeGrammar.test(text);
}

function checkSizes(annotations: Annotations): void {
  let size = 0;
  for (const [name, text] of Object.entries(annotations)) {
    if (name.startsWith(encryptionAnnotations.prefix)) size += text.length;
  }
  if (size > annotationLimits.maxBytes) {
    throw malformedAnnotation(
      `the encryption annotations of a layer have ${size} characters, more than the limit of ${annotationLimits.maxBytes}`,
    );
  }
}

function decode(text: string, name: string): Buffer {
  if (text === "") throw malformedAnnotation(`the annotation ${name} is empty, or has an empty element`);
  try {
    return decodeBase64(text, `annotation ${name}`);
  } catch (cause) {
    throw malformedAnnotation(`the annotation ${name} is not base64 with padding, elements separated by single commas`, cause);
  }
}

/**
 * Refuses to write what no reader of ours would take: {@link annotationLimits} hold for what we write too. Throws
 * `ERR_LAYER_TOO_MANY_RECIPIENTS`.
 */
export function checkPackets(packets: readonly KeyPacket[]): void {
  const characters = packets.reduce((sum, { bytes }) => sum + Math.ceil(bytes.length / 3) * 4 + 1, 0);
  if (packets.length <= annotationLimits.maxPackets && characters <= annotationLimits.maxBytes - publicOptionsReserve) return;
  throw new LayerError("ERR_LAYER_TOO_MANY_RECIPIENTS", {
    message: `a layer would have ${packets.length} wrapped keys in ${characters} characters of annotations (limits ${annotationLimits.maxPackets} and ${annotationLimits.maxBytes - publicOptionsReserve})`,
    hint: "use fewer recipients: one kbs: key serves everybody whom the KBS admits",
  });
}

/** Room for the tags of 4096 segments, in base64 twice over, beside the wrapped keys. */
const publicOptionsReserve = 1 << 17;

/** The annotations of a sealed layer: everything that is not about encryption is kept. */
export function writeEncryptionAnnotations(
  kept: Annotations,
  publicOptions: PublicOptions | string,
  packets: readonly KeyPacket[],
): Annotations {
  const keys: Record<string, string> = {};
  for (const { scheme, bytes } of packets) {
    const name = `${encryptionAnnotations.keys}${scheme}`;
    const text = encodeBase64(bytes);
    keys[name] = keys[name] === undefined ? text : `${keys[name]},${text}`;
  }
  const publicText = typeof publicOptions === "string" ? publicOptions : encodeBase64(serializePublicOptions(publicOptions));
  return { ...kept, ...keys, [encryptionAnnotations.publicOptions]: publicText };
}

/** The annotations without those about encryption. */
export function withoutEncryptionAnnotations(annotations: Annotations | undefined): Annotations {
  return Object.fromEntries(Object.entries(annotations ?? {}).filter(([name]) => !name.startsWith(encryptionAnnotations.prefix)));
}
