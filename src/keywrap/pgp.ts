import type { Key, PrivateKey } from "openpgp";
import type { KeyUnwrapper, KeyWrapper } from "./contract.ts";
import { pgpRecipientIds } from "./pgp-packets.ts";
import { KeywrapError, malformedPacket } from "./errors.ts";
import { trimPassword, type KeyFileOptions } from "./key-files.ts";
import { damagedPacket } from "./jwe.ts";
import { loadPeer } from "./optional-peer.ts";

const maxPacket = 1 << 20;
const loadOpenpgp = () => loadPeer("openpgp", "pgp", () => import("openpgp"));

export interface PgpWrapperRequest {
  /** A public key file or keyring, armoured or binary. */
  readonly keys: Uint8Array;
  /** Which of them: an address, a name, a whole user id, a key id or a fingerprint. All, when not given. */
  readonly select?: string | undefined;
  readonly name?: string | undefined;
}

/**
 * Recipients with OpenPGP keys. Writes what ocicrypt reads: one message for all, SEIPD version 1 with AES-256, without
 * compression. Throws `ERR_KEYWRAP_KEY_MALFORMED`, `ERR_KEYWRAP_KEY_UNSUPPORTED`, `ERR_KEYWRAP_PEER_MISSING`.
 * Source: RFC 9580; ocicrypt `keywrap/pgp`.
 */
export async function pgpWrapper(request: PgpWrapperRequest): Promise<KeyWrapper> {
  const { select, name = select ?? "pgp" } = request;
  const { readKeys, createMessage, encrypt, enums } = await loadOpenpgp();
  const all = await readRing(name, () =>
    isArmoured(request.keys) ? readKeys({ armoredKeys: textOf(request.keys) }) : readKeys({ binaryKeys: request.keys }),
  );
  const chosen = all.filter((key) => select === undefined || matches(key, select));
  if (chosen.length === 0) {
    throw new KeywrapError("ERR_KEYWRAP_KEY_MALFORMED", {
      message: `${name} names none of the ${all.length} keys in the keyring`,
      hint: "give an address, a name, or a key id that gpg --list-keys shows",
    });
  }
  const ids: string[] = [];
  for (const key of chosen) {
    try {
      ids.push((await key.getEncryptionKey()).getKeyID().toHex().toUpperCase());
    } catch (cause) {
      throw new KeywrapError("ERR_KEYWRAP_KEY_UNSUPPORTED", {
        message: `the OpenPGP key ${key.getFingerprint()} cannot encrypt now: it is expired, revoked, or for signatures only`,
        hint: "ask the recipient for a current key",
        cause,
      });
    }
  }
  return {
    name,
    id: ids.join(" "),
    schemes: ["pgp"],
    async wrap(optsdata) {
      const bytes = await encrypt({
        message: await createMessage({ binary: optsdata }),
        encryptionKeys: [...chosen],
        format: "binary",
        config: {
          aeadProtect: false,
          preferredSymmetricAlgorithm: enums.symmetric.aes256,
          preferredCompressionAlgorithm: enums.compression.uncompressed,
        },
      });
      return [{ scheme: "pgp", bytes }];
    },
  };
}

export interface PgpUnwrapperRequest {
  /** An exported secret keyring, armoured or binary. */
  readonly keys: Uint8Array;
  readonly options?: KeyFileOptions | undefined;
}

/**
 * Opens packets with OpenPGP secret keys. Throws `ERR_KEYWRAP_KEY_MALFORMED`, `ERR_KEYWRAP_PASSWORD_MISSING`,
 * `ERR_KEYWRAP_PASSWORD_WRONG`, `ERR_KEYWRAP_PEER_MISSING`.
 */
export async function pgpUnwrapper(request: PgpUnwrapperRequest): Promise<KeyUnwrapper> {
  const { name = "the given OpenPGP keys", password } = request.options ?? {};
  const { readPrivateKeys, decryptKey, readMessage, decrypt } = await loadOpenpgp();
  const ring = await readRing(name, () =>
    isArmoured(request.keys) ? readPrivateKeys({ armoredKeys: textOf(request.keys) }) : readPrivateKeys({ binaryKeys: request.keys }),
  );
  const keys: PrivateKey[] = [];
  for (const key of ring)
    keys.push(key.isDecrypted() ? key : await unlock(key, name, password, (passphrase) => decryptKey({ privateKey: key, passphrase })));
  const mine = new Set(keys.flatMap((key) => key.getKeys()).map((key) => key.getKeyID().toHex().toUpperCase()));
  return {
    name,
    reach: "local",
    accepts: (scheme) => scheme === "pgp",
    async unwrap({ bytes }) {
      if (bytes.length > maxPacket) throw malformedPacket(`a pgp packet of ${bytes.length} bytes is too large (limit ${maxPacket})`);
      const recipient = pgpRecipientIds(bytes).find((id) => mine.has(id));
      // An all-zero id hides the recipient: then only trying tells.
      try {
        const message = await readMessage({ binaryMessage: bytes });
        const { data } = await decrypt({
          message,
          decryptionKeys: keys,
          format: "binary",
          config: { maxDecompressedMessageSize: maxPacket },
        });
        return data;
      } catch (cause) {
        if (recipient === undefined) return undefined;
        throw damagedPacket(`the OpenPGP message for the key ${recipient}`, cause);
      }
    },
  };
}

async function unlock(
  key: PrivateKey,
  name: string,
  password: string | Uint8Array | undefined,
  decryptWith: (passphrase: string) => Promise<PrivateKey>,
): Promise<PrivateKey> {
  const shown = key.getFingerprint().toUpperCase();
  if (password === undefined) {
    throw new KeywrapError("ERR_KEYWRAP_PASSWORD_MISSING", {
      message: `the OpenPGP key ${shown} in ${name} is encrypted and no password was given`,
      hint: "append :file=PATH, :fd=N or :env=NAME to the key's file name",
    });
  }
  try {
    return await decryptWith(trimPassword(password).toString("utf8"));
  } catch (cause) {
    throw new KeywrapError("ERR_KEYWRAP_PASSWORD_WRONG", {
      message: `the password of the OpenPGP key ${shown} in ${name} is wrong`,
      hint: "check the password's source; one trailing newline is ignored, other white space is not",
      cause,
    });
  }
}

async function readRing<Ring extends Key>(name: string, read: () => Promise<Ring[]>): Promise<readonly Ring[]> {
  try {
    return await read();
  } catch (cause) {
    throw new KeywrapError("ERR_KEYWRAP_KEY_MALFORMED", {
      message: `${name} is not an OpenPGP keyring (expected an export by gpg, armoured or binary)`,
      hint: "write one with: gpg --export ADDRESS, or gpg --export-secret-keys ADDRESS",
      cause,
    });
  }
}

/** An address or name must be a whole user id, address or name; a key id the end of one. */
function matches(key: Key, select: string): boolean {
  const wanted = select.toLowerCase();
  const users = key.users.map(({ userID }) => userID);
  if (users.some((user) => [user?.userID, user?.email, user?.name].some((text) => text?.toLowerCase() === wanted))) return true;
  return /^(?:0x)?[0-9a-f]{16,}$/.test(wanted) && key.getKeys().some((part) => part.getFingerprint().endsWith(wanted.replace(/^0x/, "")));
}

function isArmoured(bytes: Uint8Array): boolean {
  return textOf(bytes.subarray(0, 4096)).includes("-----BEGIN PGP");
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
