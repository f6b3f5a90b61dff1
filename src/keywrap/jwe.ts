import type { KeyObject } from "node:crypto";
import { describeCause } from "../errors/index.ts";
import type { KeyUnwrapper, KeyWrapper } from "./contract.ts";
import { KeywrapError } from "./errors.ts";
import { headerText, parseJwe, type JweForm, type JweRecipient } from "./jwe-form.ts";
import type { RecipientKey } from "./key-files.ts";
import { openPkcs7, parsePkcs7 } from "./pkcs7.ts";

/** Key management algorithms for RSA and EC recipients. RSA-OAEP (SHA-1) only on request: needed by ocicrypt-rs alone. */
export type JweAlgorithm = "RSA-OAEP-256" | "RSA-OAEP" | "ECDH-ES+A256KW";

interface AlgorithmRow {
  readonly keyType: "rsa" | "ec";
  /** Whether we write it; the others are read only. */
  readonly use: "write" | "read";
}

/** What every Go reader since ocicrypt 1.1.10 accepts. Source: ocicrypt `keywrap/jwe`. */
const algorithms: ReadonlyMap<string, AlgorithmRow> = new Map([
  ["RSA-OAEP-256", { keyType: "rsa", use: "write" }],
  ["RSA-OAEP", { keyType: "rsa", use: "write" }],
  ["ECDH-ES+A256KW", { keyType: "ec", use: "write" }],
  ["ECDH-ES+A192KW", { keyType: "ec", use: "read" }],
  ["ECDH-ES+A128KW", { keyType: "ec", use: "read" }],
  ["ECDH-ES", { keyType: "ec", use: "read" }],
]);

/** Content encryption is always this when we write; readers accept the others of RFC 7518 section 5.1. */
const contentEncryption = "A256GCM";
const contentEncryptions = ["A256GCM", "A192GCM", "A128GCM", "A256CBC-HS512", "A192CBC-HS384", "A128CBC-HS256"];

export interface JweWrapperRequest {
  readonly publicKey: RecipientKey;
  /** The JWK's `alg`, else RSA-OAEP-256 or ECDH-ES+A256KW, when not given. */
  readonly algorithm?: JweAlgorithm | undefined;
  /** What to call the recipient; its thumbprint when not given. */
  readonly name?: string | undefined;
}

/**
 * A recipient with an RSA or EC key. Writes one flattened JWE whose `kid` is the key's RFC 7638 thumbprint: the form
 * that every reader of ocicrypt images handles. Throws `ERR_KEYWRAP_KEY_UNSUPPORTED` when the algorithm does not fit.
 */
export function jweWrapper(request: JweWrapperRequest): KeyWrapper {
  const { publicKey } = request;
  const algorithm =
    request.algorithm ?? writableAlgorithm(publicKey.algorithm) ?? (publicKey.type === "rsa" ? "RSA-OAEP-256" : "ECDH-ES+A256KW");
  if (algorithms.get(algorithm)?.keyType !== publicKey.type) {
    throw new KeywrapError("ERR_KEYWRAP_KEY_UNSUPPORTED", {
      message: `the algorithm ${algorithm} does not fit an ${publicKey.type.toUpperCase()} key`,
      hint: "leave ;alg= out of the recipient",
    });
  }
  return {
    name: request.name ?? publicKey.thumbprint,
    id: publicKey.thumbprint,
    schemes: ["jwe"],
    async wrap(optsdata) {
      const bytes = await writeJwe(optsdata, { alg: algorithm, kid: publicKey.thumbprint }, publicKey.key);
      return [{ scheme: "jwe", bytes }];
    },
  };
}

function writableAlgorithm(name: string | undefined): string | undefined {
  return name !== undefined && algorithms.get(name)?.use === "write" ? name : undefined;
}

/** A flattened JWE as text; members in go-jose's order. */
export async function writeJwe(
  plaintext: Uint8Array,
  header: { readonly alg: string; readonly kid: string },
  key: KeyObject | Uint8Array,
): Promise<Buffer> {
  const { FlattenedEncrypt } = await import("jose/jwe/flattened/encrypt");
  const { alg, kid } = header;
  const jwe = await new FlattenedEncrypt(plaintext).setProtectedHeader({ alg, enc: contentEncryption, kid }).encrypt(key);
  const { protected: head, encrypted_key, iv, ciphertext, tag } = jwe;
  return Buffer.from(JSON.stringify({ protected: head, encrypted_key, iv, ciphertext, tag }), "utf8");
}

/** Keys of one holder at hand, for packets of the schemes `jwe` and `pkcs7`; the latter needs no certificate here. */
export function privateKeyUnwrapper(keys: readonly RecipientKey[], name = "the given private keys"): KeyUnwrapper {
  return {
    name,
    reach: "local",
    accepts: (scheme) => scheme === "jwe" || scheme === "pkcs7",
    async unwrap(packet) {
      if (packet.scheme === "pkcs7") return unwrapPkcs7(packet.bytes, keys);
      const form = parseJwe(packet.bytes);
      let damaged: KeywrapError | undefined;
      for (const recipient of form.recipients) {
        const algorithm = headerText(recipient.joined, "alg") ?? "";
        const row = algorithms.get(algorithm);
        if (row === undefined) continue;
        const kid = headerText(recipient.joined, "kid");
        for (const key of candidates(keys, row, kid)) {
          const opened = await openRecipient(form, recipient, key.key, algorithm);
          if (opened.kind === "opened") return opened.plaintext;
          // Only a matching thumbprint says "mine": without it a failure cannot be told from somebody else's packet.
          if (kid === key.thumbprint) damaged = damagedPacket(`the JWE for the key ${kid}`, opened.cause);
        }
      }
      if (damaged !== undefined) throw damaged;
      return undefined;
    },
  };
}

function unwrapPkcs7(bytes: Uint8Array, keys: readonly RecipientKey[]): Uint8Array | undefined {
  const packet = parsePkcs7(bytes);
  for (const key of keys) {
    const plaintext = openPkcs7(packet, key);
    if (plaintext !== undefined) return plaintext;
  }
  return undefined;
}

/** The keys that may fit: the one with the thumbprint, else, as `kid` may be anything, all of the type. */
function candidates(keys: readonly RecipientKey[], row: AlgorithmRow, kid: string | undefined): readonly RecipientKey[] {
  const typed = keys.filter((key) => key.type === row.keyType);
  const named = typed.filter((key) => key.thumbprint === kid);
  return named.length > 0 ? named : typed;
}

export type OpenedJwe = { readonly kind: "opened"; readonly plaintext: Uint8Array } | { readonly kind: "failed"; readonly cause: unknown };

/** Tries one way into a JWE with one key. */
export async function openRecipient(
  form: JweForm,
  recipient: JweRecipient,
  key: KeyObject | Uint8Array,
  algorithm: string,
): Promise<OpenedJwe> {
  const { flattenedDecrypt } = await import("jose/jwe/flattened/decrypt");
  const { header, encryptedKey } = recipient;
  try {
    const { plaintext } = await flattenedDecrypt(
      {
        ...(form.protected === undefined ? {} : { protected: form.protected }),
        ...(form.unprotected === undefined ? {} : { unprotected: form.unprotected }),
        ...(form.aad === undefined ? {} : { aad: form.aad }),
        ...(header === undefined ? {} : { header }),
        ...(encryptedKey === undefined ? {} : { encrypted_key: encryptedKey }),
        iv: form.iv,
        ciphertext: form.ciphertext,
        tag: form.tag,
      },
      key,
      { keyManagementAlgorithms: [algorithm], contentEncryptionAlgorithms: contentEncryptions },
    );
    return { kind: "opened", plaintext };
  } catch (cause) {
    return { kind: "failed", cause };
  }
}

export function damagedPacket(what: string, cause: unknown): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_PACKET_DAMAGED", {
    message: `${what} does not open with it: ${describeCause(cause)}`,
    hint: "the annotation was changed, or another key is kept under this name; fetch the image again, then ask its owner",
    cause,
  });
}
