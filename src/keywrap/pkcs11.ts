import { constants, publicEncrypt } from "node:crypto";
import { decodeBase64, encodeBase64, parseJson } from "../bytes/index.ts";
import type { KeyUnwrapper, KeyWrapper, KeywrapOptions } from "./contract.ts";
import { KeywrapError, malformedPacket } from "./errors.ts";
import type { RecipientKey } from "./key-files.ts";

/** The hash of RSA-OAEP, also of its mask. Source: ocicrypt `crypto/pkcs11`: absent or empty means SHA-1. */
export type OaepHash = "sha1" | "sha256";

export interface Pkcs11Recipient {
  readonly blob: Uint8Array;
  readonly hash: OaepHash;
}

const maxPacket = 1 << 20;
const maxRecipients = 1000;

/** Reads `{"version":0,"recipients":[{"version":0,"blob":…,"hash":…}]}`. Throws `ERR_KEYWRAP_PACKET_MALFORMED`, `ERR_KEYWRAP_SCHEME_UNSUPPORTED`. */
export function parsePkcs11(bytes: Uint8Array): readonly Pkcs11Recipient[] {
  let value: unknown;
  try {
    value = parseJson(bytes, { maxBytes: maxPacket, maxDepth: 8, subject: "pkcs11 packet" });
  } catch (cause) {
    throw malformedPacket("a pkcs11 packet is malformed", cause);
  }
  const recipients = member(value, "recipients");
  if (!Array.isArray(recipients) || recipients.length > maxRecipients)
    throw malformedPacket("a pkcs11 packet has no list of recipients, or too many");
  for (const part of [value, ...(recipients as unknown[])]) {
    const version = member(part, "version") ?? 0;
    if (version === 0) continue;
    throw new KeywrapError("ERR_KEYWRAP_SCHEME_UNSUPPORTED", {
      message: "a pkcs11 packet has an unknown version (expected 0)",
      hint: "open it with the tool that encrypted the image",
    });
  }
  return recipients.map((recipient: unknown) => {
    const blob = member(recipient, "blob");
    const hash = member(recipient, "hash") ?? "";
    if (typeof blob !== "string" || (hash !== "" && hash !== "sha1" && hash !== "sha256"))
      throw malformedPacket("a recipient of a pkcs11 packet lacks its blob, or has an unknown hash");
    try {
      return { blob: decodeBase64(blob, "blob"), hash: hash === "sha256" ? "sha256" : "sha1" };
    } catch (cause) {
      throw malformedPacket("the blob of a pkcs11 packet is not base64", cause);
    }
  });
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (Reflect.get(value, name) as unknown) : undefined;
}

/**
 * A recipient whose RSA key is kept in a token; its public key is enough to wrap. The private options must fit one RSA
 * block, so the key needs 3072 bits with SHA-256. Throws `ERR_KEYWRAP_KEY_UNSUPPORTED`.
 */
export function pkcs11Wrapper(request: {
  readonly publicKey: RecipientKey;
  readonly hash?: OaepHash | undefined;
  readonly name?: string | undefined;
}): KeyWrapper {
  const { publicKey, hash = "sha256", name = publicKey.thumbprint } = request;
  if (publicKey.type !== "rsa") throw unsupported(name, "an EC key");
  const bits = publicKey.key.asymmetricKeyDetails?.modulusLength ?? 0;
  // Source: RFC 8017 section 7.1.1, step 1.
  const room = bits / 8 - 2 * (hash === "sha256" ? 32 : 20) - 2;
  return {
    name,
    id: undefined,
    schemes: ["pkcs11"],
    async wrap(optsdata) {
      if (optsdata.length > room)
        throw unsupported(name, `an RSA key of ${bits} bits, which has room for ${room} bytes of ${optsdata.length}`);
      const blob = publicEncrypt({ key: publicKey.key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hash }, optsdata);
      const packet = { version: 0, recipients: [{ version: 0, blob: encodeBase64(blob), hash }] };
      return [{ scheme: "pkcs11", bytes: Buffer.from(JSON.stringify(packet), "utf8") }];
    },
  };
}

/** A token that decrypts with RSA-OAEP. */
export interface OaepToken {
  readonly name: string;
  /** `undefined` when the blob is not for its key. Throws when the token fails or is locked. */
  decrypt(blob: Uint8Array, hash: OaepHash, options?: KeywrapOptions): Promise<Uint8Array | undefined>;
}

/** Opens packets with a key in a token. The caller opens and closes the token. */
export function pkcs11Unwrapper(token: OaepToken): KeyUnwrapper {
  return {
    name: token.name,
    reach: "local",
    accepts: (scheme) => scheme === "pkcs11",
    async unwrap({ bytes }, options) {
      for (const { blob, hash } of parsePkcs11(bytes)) {
        const optsdata = await token.decrypt(blob, hash, options);
        if (optsdata !== undefined) return optsdata;
      }
      return undefined;
    },
  };
}

function unsupported(name: string, got: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_KEY_UNSUPPORTED", {
    message: `${name} cannot be a pkcs11 recipient (expected an RSA key of at least 3072 bits, got ${got})`,
    hint: "make a larger key in the token, or use jwe: with its public key and unwrap through a key provider",
  });
}
