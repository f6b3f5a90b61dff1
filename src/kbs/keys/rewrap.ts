import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { decodeProtectedHeader, FlattenedEncrypt, flattenedDecrypt } from "jose";
import { decodeBase64, encodeBase64, parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "../protocol/shape.ts";
import { formatResourceUri, parseResourceUri, type ResourcePath } from "../protocol/resource-path.ts";
import type { ResourceVault } from "./resource-vault.ts";

const kekSize = 32;
const maxPacketBytes = 1 << 20;
const keyWrapAlgorithm = "A256KW";

/** A packet under the newest version of its key. */
export interface RewrappedPacket {
  readonly packet: Buffer;
  readonly fromVersion: number;
  readonly toVersion: number;
}

/** Unwraps what stands in a packet and wraps it again. */
interface PacketForm {
  readonly uri: string;
  open(kek: Buffer): Promise<Buffer>;
  write(plaintext: Buffer, kek: Buffer, uri: string): Promise<Buffer>;
}

/**
 * Rewraps a layer's key packet (CoCo's, or our JWE) under the newest version of the key that it names. The layer's
 * private options pass through memory here; neither they nor a key leave the service.
 *
 * Throws `ERR_KBS_REQUEST_REFUSED` for a packet of another form, of another key, or one that its key does not open;
 * `ERR_KBS_KEY_UNAVAILABLE`. `undefined` when there is no such key.
 */
export async function rewrapPacket(vault: ResourceVault, path: ResourcePath, bytes: Uint8Array): Promise<RewrappedPacket | undefined> {
  const form = parsePacket(bytes);
  const named = parseResourceUri(form.uri);
  const base = formatResourceUri(path);
  const info = await vault.describe(path);
  if (info === undefined) return undefined;
  if (form.uri !== base && !new RegExp(`^${escape(base)}\\.v[1-9][0-9]{0,8}$`).test(form.uri)) {
    throw refused(`the packet names ${form.uri}, not ${base}`);
  }
  const former = await vault.read(named);
  const newest = await vault.readCurrent(path);
  if (former === undefined || newest === undefined) return undefined;
  for (const { value } of [former, newest]) if (value.length !== kekSize) throw refused(`${base} is not a key of ${kekSize} bytes`);
  const plaintext = await form.open(former.value);
  const uri = info.current === info.released ? base : `${base}.v${info.current}`;
  const packet = await form.write(plaintext, newest.value, uri);
  plaintext.fill(0);
  return { packet, fromVersion: former.version, toVersion: newest.version };
}

function parsePacket(bytes: Uint8Array): PacketForm {
  const value = parseJson(bytes, { maxBytes: maxPacketBytes, maxDepth: 8, subject: "the packet" });
  if (isObject(value) && typeof value["wrapped_data"] === "string") return cocoForm(value);
  if (isObject(value) && typeof value["ciphertext"] === "string") return jweForm(value);
  throw refused("the packet is neither CoCo's nor a flattened JWE");
}

/** Source: CoCo confidential-data-hub, annotation packet v1 and v2. */
function cocoForm(value: Readonly<Record<string, unknown>>): PacketForm {
  const { kid, wrapped_data: wrapped, iv, wrap_type: wrapType, provider } = value;
  if (typeof kid !== "string" || typeof wrapped !== "string" || typeof iv !== "string" || wrapType !== "A256GCM") {
    throw refused("the packet has no kid and iv, or a wrap_type other than A256GCM");
  }
  if (provider !== undefined && provider !== "kbs") throw refused("the packet is of another provider than kbs");
  const nonce = decodeBase64(iv, "iv");
  const data = decodeBase64(wrapped, "wrapped_data");
  if (nonce.length !== 12 || data.length < 16) throw refused("the packet has no iv of 12 bytes or no tag");
  return {
    uri: formatResourceUri(parseResourceUri(kid)),
    open: (kek) => {
      try {
        const decipher = createDecipheriv("aes-256-gcm", kek, nonce, { authTagLength: 16 });
        decipher.setAuthTag(data.subarray(-16));
        return Promise.resolve(Buffer.concat([decipher.update(data.subarray(0, -16)), decipher.final()]));
      } catch (cause) {
        throw refused("the packet does not open under its key", cause);
      }
    },
    write: (plaintext, kek, uri) => {
      const fresh = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", kek, fresh);
      const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
      return Promise.resolve(
        Buffer.from(JSON.stringify({ ...value, kid: uri, wrapped_data: encodeBase64(sealed), iv: encodeBase64(fresh) }), "utf8"),
      );
    },
  };
}

/** Source: RFC 7516 section 7.2.2; the `kid` is the key's URI. */
function jweForm(value: Readonly<Record<string, unknown>>): PacketForm {
  const { protected: head, encrypted_key: encryptedKey, iv, ciphertext, tag } = value;
  if (![head, encryptedKey, iv, ciphertext, tag].every((member) => typeof member === "string"))
    throw refused("the packet is not a flattened JWE");
  const jwe = {
    protected: String(head),
    encrypted_key: String(encryptedKey),
    iv: String(iv),
    ciphertext: String(ciphertext),
    tag: String(tag),
  };
  let header: Readonly<Record<string, unknown>>;
  try {
    header = { ...decodeProtectedHeader(jwe) };
  } catch (cause) {
    throw refused("the packet has no readable header", cause);
  }
  const { alg, kid } = header;
  if (alg !== keyWrapAlgorithm || typeof kid !== "string")
    throw refused(`the packet is not wrapped with ${keyWrapAlgorithm} under a named key`);
  return {
    uri: formatResourceUri(parseResourceUri(kid)),
    open: async (kek) => {
      try {
        const opened = await flattenedDecrypt(jwe, kek, {
          keyManagementAlgorithms: [keyWrapAlgorithm],
          contentEncryptionAlgorithms: ["A256GCM"],
        });
        return Buffer.from(opened.plaintext);
      } catch (cause) {
        throw refused("the packet does not open under its key", cause);
      }
    },
    write: async (plaintext, kek, uri) => {
      const written = await new FlattenedEncrypt(plaintext)
        .setProtectedHeader({ alg: keyWrapAlgorithm, enc: "A256GCM", kid: uri })
        .encrypt(kek);
      return Buffer.from(
        JSON.stringify({
          protected: written.protected,
          encrypted_key: written.encrypted_key,
          iv: written.iv,
          ciphertext: written.ciphertext,
          tag: written.tag,
        }),
        "utf8",
      );
    },
  };
}

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function refused(message: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", { message, cause });
}
