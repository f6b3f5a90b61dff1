import {
  constants,
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHash,
  createSecretKey,
  privateDecrypt,
  publicEncrypt,
  type ECDH,
  type KeyObject,
} from "node:crypto";
import { decodeBase64Url, encodeBase64Url, parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { freshBytes } from "../random.ts";
import { isObject } from "./shape.ts";
import { ecCurves, importTeePublicKey, type EcCurve, type TeePublicKey } from "./tee-key.ts";

/** A resource on its way to a guest. Source: RFC 7516 section 7.2.2, flattened JWE JSON serialization. */
export interface ResponseJwe {
  readonly protected: string;
  readonly encrypted_key: string;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
}

/** The guest's half of `tee-pubkey`. */
export type TeePrivateKey =
  | { readonly kty: "EC"; readonly crv: EcCurve; readonly scalar: Buffer; readonly public: TeePublicKey }
  | { readonly kty: "RSA"; readonly key: KeyObject; readonly public: TeePublicKey };

/** Randomness of one sealing; given only by tests with known answers. */
export interface SealRandomness {
  readonly cek: Buffer;
  readonly iv: Buffer;
  readonly ephemeralScalar?: Buffer | undefined;
}

const keyWrapIv = Buffer.alloc(8, 0xa6);
const ecdhAlgorithm = "ECDH-ES+A256KW";
const wrappedCekSize = 40;

/**
 * Encrypts a resource to a guest's key: A256GCM under a fresh content key.
 *
 * The protected header is built by hand: real guests parse it and serialise it again for the additional data, some with
 * sorted members. Only `alg`, `enc`, then the rest in alphabetical order, nested members too, compact, survives that in
 * every build. Throws `ERR_KBS_EVIDENCE_INVALID`. Source: kbs-types, `ProtectedHeader::generate_aad`; RFC 7518 sections 4.3, 4.6, 5.3.
 */
export function sealResponse(plaintext: Uint8Array, recipient: TeePublicKey, randomness?: SealRandomness): ResponseJwe {
  const cek = randomness?.cek ?? freshBytes(32);
  const iv = randomness?.iv ?? freshBytes(12);
  const { header, encryptedKey } =
    recipient.kty === "EC" ? wrapToEc(cek, recipient, randomness?.ephemeralScalar) : wrapToRsa(cek, recipient);
  const protectedHeader = encodeBase64Url(Buffer.from(header, "ascii"));
  const cipher = createCipheriv("aes-256-gcm", createSecretKey(cek), iv);
  cipher.setAAD(Buffer.from(protectedHeader, "ascii"));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const sealed = {
    protected: protectedHeader,
    encrypted_key: encodeBase64Url(encryptedKey),
    iv: encodeBase64Url(iv),
    ciphertext: encodeBase64Url(ciphertext),
    tag: encodeBase64Url(cipher.getAuthTag()),
  };
  cek.fill(0);
  return sealed;
}

/** One for each curve, given a new key for each answer: setting the curve up costs a tenth of making the key. */
const ephemerals = new Map<string, ECDH>();

function ephemeralOn(curve: string): ECDH {
  const known = ephemerals.get(curve);
  if (known !== undefined) return known;
  const made = createECDH(curve);
  ephemerals.set(curve, made);
  return made;
}

function wrapToEc(cek: Buffer, recipient: TeePublicKey & { kty: "EC" }, scalar: Buffer | undefined) {
  const { openssl, size } = ecCurves[recipient.crv];
  const ephemeral = ephemeralOn(openssl);
  if (scalar !== undefined) ephemeral.setPrivateKey(scalar);
  const point = scalar === undefined ? ephemeral.generateKeys() : ephemeral.getPublicKey();
  const kek = deriveKek(usable(() => ephemeral.computeSecret(pointOf(recipient))));
  const x = encodeBase64Url(point.subarray(1, 1 + size));
  const y = encodeBase64Url(point.subarray(1 + size));
  const header = `{"alg":"${ecdhAlgorithm}","enc":"A256GCM","epk":{"crv":"${recipient.crv}","kty":"EC","x":"${x}","y":"${y}"}}`;
  const wrap = createCipheriv("id-aes256-wrap", createSecretKey(kek), keyWrapIv);
  return { header, encryptedKey: Buffer.concat([wrap.update(cek), wrap.final()]) };
}

function wrapToRsa(cek: Buffer, recipient: TeePublicKey & { kty: "RSA" }) {
  const key = importTeePublicKey(recipient);
  const encryptedKey = usable(() => publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, cek));
  return { header: `{"alg":"RSA-OAEP-256","enc":"A256GCM"}`, encryptedKey };
}

/** Keys of our own tokens were checked before; one in another service's token may be no point of its curve. */
function usable<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new KbsError("ERR_KBS_EVIDENCE_INVALID", { message: "nothing can be sealed to the tee-pubkey", cause });
  }
}

const kdfRound = u32(1);
/** Algorithm with its length, no party info, bits of the key. */
const kdfOtherInfo = Buffer.concat([u32(ecdhAlgorithm.length), Buffer.from(ecdhAlgorithm, "ascii"), u32(0), u32(0), u32(256)]);

function pointOf(key: { readonly x: string; readonly y: string }): Buffer {
  return Buffer.concat([Buffer.of(4), decodeBase64Url(key.x, "x"), decodeBase64Url(key.y, "y")]);
}

/** Concat KDF with SHA-256, one round, empty party info. The secret is the x coordinate at full field size. Source: RFC 7518 section 4.6.2. */
function deriveKek(secret: Buffer): Buffer {
  return createHash("sha256").update(kdfRound).update(secret).update(kdfOtherInfo).digest();
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Checks the shape of an answer. Throws `ERR_KBS_RESPONSE_MALFORMED`. */
export function parseResponseJwe(value: unknown): ResponseJwe {
  if (!isObject(value)) throw malformed("is not a JSON object");
  const text = (name: string): string => {
    const member = value[name];
    if (typeof member !== "string") throw malformed(`has no text member ${name}`);
    return member;
  };
  return {
    protected: text("protected"),
    encrypted_key: text("encrypted_key"),
    iv: text("iv"),
    ciphertext: text("ciphertext"),
    tag: text("tag"),
  };
}

/**
 * Opens an answer with the guest's key. The additional data is the received header text, as RFC 7516 section 5.2 says.
 *
 * Throws `ERR_KBS_RESPONSE_MALFORMED` for algorithms and shapes that we do not accept, and `ERR_KBS_RESPONSE_UNSEALED`
 * for whatever fails in the cryptography: its parts are not told apart, for the difference would be an oracle.
 */
export function openResponse(jwe: ResponseJwe, recipient: TeePrivateKey): Buffer {
  const bytes = (name: keyof ResponseJwe, size?: number): Buffer => {
    let decoded: Buffer;
    try {
      decoded = decodeBase64Url(jwe[name], name);
    } catch (cause) {
      throw malformed(`has a member ${name} that is not base64url`, cause);
    }
    if (size !== undefined && decoded.length !== size)
      throw malformed(`has a member ${name} of ${decoded.length} bytes (expected ${size})`);
    return decoded;
  };
  const header = parseHeader(bytes("protected"));
  const iv = bytes("iv", 12);
  const tag = bytes("tag", 16);
  const ciphertext = bytes("ciphertext");
  const encryptedKey = bytes("encrypted_key", recipient.kty === "EC" ? wrappedCekSize : undefined);
  const unwrap = unwrapperFor(header, recipient);
  let cek: Buffer | undefined;
  try {
    cek = unwrap(encryptedKey);
    const decipher = createDecipheriv("aes-256-gcm", cek, iv, { authTagLength: 16 });
    decipher.setAAD(Buffer.from(jwe.protected, "ascii"));
    decipher.setAuthTag(tag);
    return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  } catch (cause) {
    throw new KbsError("ERR_KBS_RESPONSE_UNSEALED", {
      message: "the answer of the Key Broker Service does not open with the key of this handshake",
      hint: "something between guest and service changed the answer, or the service wrapped it to another guest's key",
      cause,
    });
  } finally {
    cek?.fill(0);
  }
}

function parseHeader(bytes: Buffer): Readonly<Record<string, unknown>> {
  const header = parseJson(bytes, { maxBytes: 16 << 10, maxDepth: 4, subject: "protected header" });
  if (!isObject(header)) throw malformed("has a protected header that is not an object");
  if (header["enc"] !== "A256GCM") throw malformed("has an enc other than A256GCM");
  // RFC 7516 section 4.1.13: a critical extension that is not understood must be refused.
  if ("crit" in header || "zip" in header) throw malformed("has crit or zip in its header");
  return header;
}

function unwrapperFor(header: Readonly<Record<string, unknown>>, recipient: TeePrivateKey): (encryptedKey: Buffer) => Buffer {
  if (recipient.kty === "RSA") {
    if (header["alg"] !== "RSA-OAEP-256") throw malformed("has an alg other than RSA-OAEP-256, which this guest's key demands");
    return (encryptedKey) =>
      privateDecrypt({ key: recipient.key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" }, encryptedKey);
  }
  if (header["alg"] !== ecdhAlgorithm) throw malformed(`has an alg other than ${ecdhAlgorithm}, which this guest's key demands`);
  const epk = header["epk"];
  if (!isObject(epk) || epk["kty"] !== "EC" || epk["crv"] !== recipient.crv) throw malformed(`has an epk that is not on ${recipient.crv}`);
  const { openssl, size } = ecCurves[recipient.crv];
  const coordinate = (name: "x" | "y"): string => {
    const member = epk[name];
    if (typeof member !== "string" || Buffer.from(member, "base64url").length !== size)
      throw malformed(`has an epk whose ${name} is not ${size} bytes`);
    return member;
  };
  const point = pointOf({ x: coordinate("x"), y: coordinate("y") });
  return (encryptedKey) => {
    const own = createECDH(openssl);
    own.setPrivateKey(recipient.scalar);
    // OpenSSL refuses a point that is not on the curve here.
    const unwrap = createDecipheriv("id-aes256-wrap", deriveKek(own.computeSecret(point)), keyWrapIv);
    return Buffer.concat([unwrap.update(encryptedKey), unwrap.final()]);
  };
}

function malformed(what: string, cause?: unknown): KbsError {
  return new KbsError("ERR_KBS_RESPONSE_MALFORMED", { message: `the encrypted answer ${what}`, cause });
}
