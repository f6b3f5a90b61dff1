import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from "node:crypto";
import { KbsError } from "../errors.ts";
import { freshBytes } from "../random.ts";

/**
 * One sealed record.
 *
 * ```text
 * "OKR1" ‖ id of the key-encryption key (8) ‖ wrapped data key: IV (12), key (32), tag (16) ‖ IV (12) ‖ ciphertext ‖ tag (16)
 * ```
 *
 * Both layers are AES-256-GCM. The additional data of both is the purpose, the record's key (its namespace and path)
 * and, where there is one, the version, so a record that was copied to another place or version does not open.
 */
const magic = Buffer.from("OKR1", "ascii");
const idSize = 8;
const wrappedKeySize = 12 + 32 + 16;
const headerSize = magic.length + idSize + wrappedKeySize;
const overhead = headerSize + 12 + 16;

/** A key that encrypts data keys. */
export interface EncryptionKey {
  /** 16 hex digits. */
  readonly id: string;
  readonly secret: Buffer;
}

/** Seals a record under a fresh data key. */
export function sealRecord(plaintext: Uint8Array, key: EncryptionKey, binding: string): Buffer {
  const dataKey = freshBytes(32);
  const head = Buffer.concat([magic, Buffer.from(key.id, "hex")]);
  const wrapped = encrypt(dataKey, keyObjectOf(key.secret), additionalData("data-key", head, binding));
  const body = encrypt(plaintext, createSecretKey(dataKey), additionalData("record", head, binding));
  dataKey.fill(0);
  return Buffer.concat([head, wrapped, body]);
}

/** The id of the key-encryption key that a sealed record names. Throws `ERR_KBS_RECORD_CORRUPT`. */
export function keyIdOf(sealed: Uint8Array, binding: string): string {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (bytes.length < overhead || !bytes.subarray(0, magic.length).equals(magic)) throw corrupt(binding, "is not a sealed record");
  return bytes.toString("hex", magic.length, magic.length + idSize);
}

/** Opens a record. Throws `ERR_KBS_RECORD_CORRUPT`: damage, a wrong place and a wrong key look the same. */
export function openRecord(sealed: Uint8Array, secret: Buffer, binding: string): Buffer {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  const head = bytes.subarray(0, magic.length + idSize);
  try {
    const dataKey = decrypt(bytes.subarray(head.length, headerSize), keyObjectOf(secret), additionalData("data-key", head, binding));
    const plaintext = decrypt(bytes.subarray(headerSize), createSecretKey(dataKey), additionalData("record", head, binding));
    dataKey.fill(0);
    return plaintext;
  } catch (cause) {
    throw corrupt(binding, "does not open: it was changed, moved, or sealed by another installation", cause);
  }
}

const keyObjects = new WeakMap<Buffer, KeyObject>();

/** The key object of a secret that is used again and again: making one costs as much as sealing a small record. */
export function keyObjectOf(secret: Buffer): KeyObject {
  const known = keyObjects.get(secret);
  if (known !== undefined) return known;
  const made = createSecretKey(secret);
  keyObjects.set(secret, made);
  return made;
}

/** AES-256-GCM: IV (12), ciphertext, tag (16). A key object spares Node its slow guess at what a buffer is. */
export function encrypt(plaintext: Uint8Array, key: KeyObject, aad: Buffer): Buffer {
  const iv = freshBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(aad);
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The inverse of {@link encrypt}; throws whatever the cipher throws. A shorter tag would be a weaker one, so its length is fixed. */
export function decrypt(sealed: Buffer, key: KeyObject, aad: Buffer): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, 12), { authTagLength: 16 });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
}

function additionalData(purpose: string, head: Buffer, binding: string): Buffer {
  return Buffer.concat([Buffer.from(`ociseal-kbs/1 ${purpose}\0`, "utf8"), head, Buffer.from(`\0${binding}`, "utf8")]);
}

function corrupt(binding: string, what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", {
    message: `the stored record ${binding} ${what}`,
    hint: "restore it from a backup; other records are not affected",
    cause,
  });
}
