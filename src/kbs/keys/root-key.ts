import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from "node:crypto";
import { link, open, readFile, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { KbsError } from "../errors.ts";

/**
 * The top of the key hierarchy: it wraps key-encryption keys and nothing else.
 *
 * `id` says which root wrapped something and reveals nothing about it. `unwrap` throws `ERR_KBS_ROOT_KEY_UNUSABLE` for a
 * wrong root or changed bytes, `ERR_KBS_STORE_UNAVAILABLE` when a remote root does not answer.
 */
export interface RootKey {
  readonly id: string;
  wrap(plaintext: Uint8Array, additionalData: Uint8Array): Promise<Buffer>;
  unwrap(wrapped: Uint8Array, additionalData: Uint8Array): Promise<Buffer>;
  /** Of a root that is rotated elsewhere and keeps its `id`: which version wrapped something. */
  versionOf?(wrapped: Uint8Array): string | undefined;
  close?(): Promise<void>;
}

/** A root key that is in memory: 32 bytes from a file, an environment value or a generator. */
export function localRootKey(secret: Uint8Array): RootKey {
  if (secret.length !== 32) throw unusable(`a root key has 32 bytes (got ${secret.length})`);
  const derive = (purpose: string) => Buffer.from(hkdfSync("sha256", secret, "", `ociseal-kbs/1 root ${purpose}`, 32));
  const key = derive("wrap");
  const id = `local:${createHash("sha256").update(derive("id")).digest("hex").slice(0, 16)}`;
  return {
    id,
    wrap: (plaintext, additionalData) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, iv);
      cipher.setAAD(additionalData);
      return Promise.resolve(Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
    },
    unwrap: (wrapped, additionalData) => {
      try {
        const decipher = createDecipheriv("aes-256-gcm", key, wrapped.subarray(0, 12), { authTagLength: 16 });
        decipher.setAAD(additionalData);
        decipher.setAuthTag(wrapped.subarray(-16));
        return Promise.resolve(Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()]));
      } catch (cause) {
        return Promise.reject(unusable(`the root key ${id} does not open this store's keys`, cause));
      }
    },
  };
}

/** A root key that lives as long as the process: for memory stores and tests. */
export function generateRootKey(): RootKey {
  return localRootKey(randomBytes(32));
}

/** Reads a root key from text: 64 hex digits, or base64 of 32 bytes. Throws `ERR_KBS_ROOT_KEY_UNUSABLE`. */
export function parseRootKey(text: string): RootKey {
  const trimmed = text.trim();
  const bytes = /^[0-9a-fA-F]{64}$/.test(trimmed) ? Buffer.from(trimmed, "hex") : Buffer.from(trimmed, "base64");
  if (bytes.length !== 32) throw unusable("a root key is 64 hex digits or base64 of 32 bytes");
  return localRootKey(bytes);
}

/**
 * Opens the root key in a file, text as in {@link parseRootKey}; with `ifMissing: "create"` one is generated (mode 0600)
 * when the file does not exist, and is on disk before this returns. Throws `ERR_KBS_ROOT_KEY_UNUSABLE`.
 */
export async function openRootKeyFile(path: string, options: { readonly ifMissing: "create" | "fail" }): Promise<RootKey> {
  try {
    return parseRootKey(await readFile(path, "utf8"));
  } catch (cause) {
    if (cause instanceof KbsError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    if (!missing || options.ifMissing === "fail") {
      throw unusable(`the root key file ${path} cannot be read`, cause, "create one with: openssl rand -hex 32");
    }
  }
  const temporary = join(dirname(path), `.root-key-${randomBytes(8).toString("hex")}`);
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(`${randomBytes(32).toString("hex")}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    // A link, not a rename: of two processes that start at once, one must lose instead of replacing the other's key.
    await link(temporary, path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw unusable(`the root key file ${path} cannot be written`, cause);
  } finally {
    await unlink(temporary);
  }
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
  return openRootKeyFile(path, { ifMissing: "fail" });
}

function unusable(message: string, cause?: unknown, hint?: string): KbsError {
  return new KbsError("ERR_KBS_ROOT_KEY_UNUSABLE", { message, cause, hint });
}
