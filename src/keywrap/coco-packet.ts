import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from "node:crypto";
import { decodeBase64, encodeBase64, parseJson } from "../bytes/index.ts";
import { KeywrapError, malformedPacket } from "./errors.ts";
import { damagedPacket } from "./jwe.ts";

/** The provider name that CoCo guests look for. */
export const attestationAgentScheme = "provider.attestation-agent";

/**
 * What stands in `enc.keys.provider.attestation-agent`. Source: CoCo confidential-data-hub, `image/annotation_packet`
 * (v1 and v2; v2 only adds members).
 */
export interface CocoPacket {
  /** A KBS URI where `provider` is `kbs`, else a key id of that KMS. */
  readonly kid: string;
  readonly wrappedData: Uint8Array;
  readonly iv: Uint8Array | undefined;
  readonly wrapType: string | undefined;
  /** `kbs` unless the packet says otherwise. */
  readonly provider: string;
}

const maxPacket = 1 << 20;
export const kekSize = 32;
const gcmNonceSize = 12;
const ctrIvSize = 16;
const tagSize = 16;

/** Reads a packet, v1 or v2; unknown members are passed over. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. */
export function parseCocoPacket(bytes: Uint8Array): CocoPacket {
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes: maxPacket, maxDepth: 16, subject: "key packet" });
  } catch (cause) {
    throw malformedPacket("the key packet for the attestation agent is malformed", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw malformedPacket("the key packet for the attestation agent is not an object");
  const member = (name: string): string | undefined => {
    const found: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
    if (found === undefined || typeof found === "string") return found;
    throw malformedPacket(`member ${name} of the key packet for the attestation agent is not text`);
  };
  const bytesOf = (name: string): Uint8Array | undefined => {
    const found = member(name);
    try {
      return found === undefined ? undefined : decodeBase64(found, name);
    } catch (cause) {
      throw malformedPacket(`member ${name} of the key packet for the attestation agent is not base64`, cause);
    }
  };
  const kid = member("kid");
  const wrappedData = bytesOf("wrapped_data");
  if (kid === undefined || wrappedData === undefined)
    throw malformedPacket("the key packet for the attestation agent lacks kid or wrapped_data");
  const packet = { kid, wrappedData, iv: bytesOf("iv"), wrapType: member("wrap_type"), provider: member("provider") ?? "kbs" };
  if (packet.provider === "kbs") checkIv(packet);
  return packet;
}

/** Checked when it is read, so that it is told before a key is asked for. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. */
function checkIv({ wrapType, iv, wrappedData }: CocoPacket): void {
  if (wrapType === "A256GCM" && (iv?.length !== gcmNonceSize || wrappedData.length < tagSize))
    throw malformedPacket("a key packet with A256GCM needs an iv of 12 bytes and a tag");
  if (wrapType === "A256CTR" && iv?.length !== ctrIvSize) throw malformedPacket("a key packet with A256CTR needs an iv of 16 bytes");
}

/** Wraps private options under a key encryption key, as packet v1: members in the order that coco_keyprovider writes. */
export function writeCocoPacket(optsdata: Uint8Array, kek: Uint8Array, kid: string): Buffer {
  const iv = randomBytes(gcmNonceSize);
  const cipher = createCipheriv("aes-256-gcm", createSecretKey(kek), iv, { authTagLength: tagSize });
  const wrapped = Buffer.concat([cipher.update(optsdata), cipher.final(), cipher.getAuthTag()]);
  return Buffer.from(JSON.stringify({ kid, wrapped_data: encodeBase64(wrapped), iv: encodeBase64(iv), wrap_type: "A256GCM" }), "utf8");
}

/**
 * Opens a packet of provider `kbs` under its key encryption key. Throws `ERR_KEYWRAP_PACKET_DAMAGED`,
 * `ERR_KEYWRAP_PACKET_MALFORMED`, `ERR_KEYWRAP_SCHEME_UNSUPPORTED`, `ERR_KEYWRAP_KEK_LENGTH`. A256CTR is not
 * authenticated: what comes out must still be checked.
 */
export function openCocoPacket(packet: CocoPacket, kek: Uint8Array): Uint8Array {
  checkKek(kek, packet.kid);
  checkIv(packet);
  const { iv = new Uint8Array(), wrappedData } = packet;
  if (packet.wrapType === "A256GCM") {
    const decipher = createDecipheriv("aes-256-gcm", createSecretKey(kek), iv, { authTagLength: tagSize });
    const end = wrappedData.length - tagSize;
    decipher.setAuthTag(wrappedData.subarray(end));
    const plaintext = decipher.update(wrappedData.subarray(0, end));
    try {
      decipher.final();
    } catch (cause) {
      throw damagedPacket(`the key packet for ${packet.kid}`, cause);
    }
    return plaintext;
  }
  if (packet.wrapType === "A256CTR") {
    return createDecipheriv("aes-256-ctr", createSecretKey(kek), iv).update(wrappedData);
  }
  throw new KeywrapError("ERR_KEYWRAP_SCHEME_UNSUPPORTED", {
    message: `the key packet for ${packet.kid} has the wrap type ${JSON.stringify(packet.wrapType)?.slice(0, 40)} (expected A256GCM or A256CTR)`,
    hint: "the image needs a newer ociseal, or the tool that encrypted it",
  });
}

/** Throws `ERR_KEYWRAP_KEK_LENGTH`. */
export function checkKek(kek: Uint8Array, uri: string): void {
  if (kek.length === kekSize) return;
  throw new KeywrapError("ERR_KEYWRAP_KEK_LENGTH", {
    message: `the key encryption key ${uri} has ${kek.length} bytes (expected ${kekSize} raw bytes)`,
    hint: "the resource is not a key, or is kept as text; put the 32 raw bytes there",
  });
}
