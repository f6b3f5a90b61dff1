import { withoutOaepRemark } from "../../bytes/index.ts";
import type { CallOptions } from "../../store/index.ts";
import { keyServiceError } from "./checked-signer.ts";
import { outputOf, openTokenKey, type Pkcs11Access } from "./pkcs11-token.ts";

/** An RSA key pair in a token that decrypts with RSA-OAEP; the same hash is used for the mask, and the label is empty. */
export interface Pkcs11Oaep {
  /** The URI without query. */
  readonly name: string;
  /** SubjectPublicKeyInfo; reading it needs no PIN. */
  readonly spki: Buffer;
  /** `undefined` when the blob was not made for this key. Throws `ERR_KEY_SERVICE` when the token fails or is locked. */
  decrypt(blob: Uint8Array, hash: "sha1" | "sha256", options?: CallOptions): Promise<Buffer | undefined>;
}

/**
 * The tool got as far as decrypting, so module, PIN, key and mechanism are right, and the data is not. OpenSC 0.23 hides
 * the first failure behind that of its second attempt, C_DecryptUpdate (measured).
 */
const notForThisKey = /function C_Decrypt(?:Update|Final)? failed: rv = CKR_(?!DEVICE|TOKEN|SESSION|USER|HOST)/;
/** SoftHSM 2.6 does RSA-OAEP with SHA-1 only, and says so with this (measured). */
const hashRefused = /function C_DecryptInit failed: rv = CKR_(?:ARGUMENTS_BAD|MECHANISM)/;

const hashes = { sha1: ["SHA-1", "MGF1-SHA1"], sha256: ["SHA256", "MGF1-SHA256"] } as const;

/** Opens such a key by its URI. Throws `ERR_KEY_SERVICE`. */
export async function openPkcs11Oaep(reference: string, access: Pkcs11Access, options: CallOptions = {}): Promise<Pkcs11Oaep> {
  const key = await openTokenKey(reference, access, options);
  const size = (key.publicKey.key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
  return {
    name: key.name,
    spki: key.spki,
    async decrypt(blob, hash, call) {
      if (blob.length !== size) return undefined;
      const [digest, mask] = hashes[hash];
      const result = await key.use(["--decrypt", "--mechanism", "RSA-PKCS-OAEP", "--hash-algorithm", digest, "--mgf", mask], blob, call);
      if (result.code === 0) return withoutOaepRemark(outputOf(key, result));
      if (notForThisKey.test(result.stderr)) return undefined;
      if (!hashRefused.test(result.stderr)) return outputOf(key, result);
      throw keyServiceError(
        `${key.name}: the token does no RSA-OAEP with ${hash}`,
        "SHA-1 is what tokens do most often, and safe in OAEP: name the recipient as pkcs11:FILE;hash=sha1",
      );
    },
  };
}
