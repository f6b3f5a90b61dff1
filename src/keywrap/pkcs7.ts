import { constants, createCipheriv, createDecipheriv, privateDecrypt, publicEncrypt, randomBytes, X509Certificate } from "node:crypto";
import { equalBytes } from "../bytes/index.ts";
import type { KeyWrapper } from "./contract.ts";
import { childrenOf, contentOf, derTags, parseDer, writeDer, type DerElement } from "./der.ts";
import { KeywrapError, malformedPacket } from "./errors.ts";
import type { RecipientKey } from "./key-files.ts";

const { context0, integer, octets, oid, sequence, set } = derTags;

/** Object identifiers, as their DER content. Source: RFC 5652 section 14, RFC 8017 appendix C, RFC 5084 section 5. */
const oids = {
  data: Buffer.from("2a864886f70d010701", "hex"),
  envelopedData: Buffer.from("2a864886f70d010703", "hex"),
  rsaEncryption: Buffer.from("2a864886f70d010101", "hex"),
} as const;

interface ContentCipher {
  readonly oid: Buffer;
  readonly cipher: "aes-128-gcm" | "aes-192-gcm" | "aes-256-gcm";
  readonly keySize: number;
}

/** What we write and ocicrypt writes is the first; its readers take no other. */
const writtenCipher: ContentCipher = { oid: Buffer.from("608648016503040106", "hex"), cipher: "aes-128-gcm", keySize: 16 };
const contentCiphers: readonly ContentCipher[] = [
  writtenCipher,
  { oid: Buffer.from("60864801650304011a", "hex"), cipher: "aes-192-gcm", keySize: 24 },
  { oid: Buffer.from("60864801650304012e", "hex"), cipher: "aes-256-gcm", keySize: 32 },
];

const goNonceTag = 0x84;
const tagSize = 16;
const maxPacket = 1 << 20;
const maxRecipients = 1000;

/** One recipient of a packet: who, by issuer and serial number of a certificate, and the wrapped content key. */
export interface Pkcs7Recipient {
  /** DER of IssuerAndSerialNumber. */
  readonly issuerAndSerial: Uint8Array;
  readonly encryptedKey: Uint8Array;
}

/** An EnvelopedData packet, taken apart. */
export interface Pkcs7Packet {
  readonly recipients: readonly Pkcs7Recipient[];
  readonly content: ContentCipher;
  readonly nonce: Uint8Array;
  /** Ciphertext and tag. */
  readonly ciphertext: Uint8Array;
}

/**
 * Reads an EnvelopedData as Go's ocicrypt writes it, whose GCM parameters are a sequence marked as primitive. Throws
 * `ERR_KEYWRAP_PACKET_MALFORMED`, `ERR_KEYWRAP_SCHEME_UNSUPPORTED`. Source: RFC 5652 section 6, RFC 5084.
 */
export function parsePkcs7(bytes: Uint8Array): Pkcs7Packet {
  if (bytes.length > maxPacket) throw malformedPacket(`a pkcs7 packet of ${bytes.length} bytes is too large (limit ${maxPacket})`);
  const [type, wrapped] = childrenOf(parseDer(bytes)[0], sequence);
  if (!equalBytes(contentOf(type, oid), oids.envelopedData)) throw malformedPacket("a pkcs7 packet is not an EnvelopedData");
  const [, infos, encrypted] = childrenOf(childrenOf(wrapped, context0)[0], sequence);
  const list = childrenOf(infos, set);
  if (list.length > maxRecipients)
    throw malformedPacket(`a pkcs7 packet has ${list.length} recipients, more than the limit of ${maxRecipients}`);
  const recipients = list.map((info) => {
    const [, who, algorithm, key] = childrenOf(info, sequence);
    if (!equalBytes(contentOf(childrenOf(algorithm, sequence)[0], oid), oids.rsaEncryption)) throw unsupported("key transport");
    contentOf(who, sequence);
    return { issuerAndSerial: who?.whole ?? new Uint8Array(0), encryptedKey: contentOf(key, octets) };
  });
  const [, algorithm, content] = childrenOf(encrypted, sequence);
  const [name, parameters] = childrenOf(algorithm, sequence);
  const cipher = contentCiphers.find((candidate) => equalBytes(candidate.oid, contentOf(name, oid)));
  if (cipher === undefined) throw unsupported("content encryption");
  const nonce = nonceOf(parameters);
  const ciphertext = content?.tag === 0x80 ? content.content : contentOf(childrenOf(content, context0)[0], octets);
  if (nonce.length === 0 || nonce.length > 64 || ciphertext.length < tagSize)
    throw malformedPacket("a pkcs7 packet has a nonce or content of a wrong length");
  return { recipients, content: cipher, nonce, ciphertext };
}

/**
 * RFC 5084 has a sequence of nonce and tag length. Go's ocicrypt wraps that sequence into another, marked as primitive
 * (0x10), and tags the nonce as context-specific 4; OpenSSL refuses to read it.
 */
function nonceOf(parameters: DerElement | undefined): Uint8Array {
  if (parameters === undefined || (parameters.tag & ~0x20) !== (sequence & ~0x20))
    throw malformedPacket("a pkcs7 packet lacks the parameters of its cipher");
  const [first] = parseDer(parameters.content);
  const [nonce] = first?.tag === sequence ? parseDer(first.content) : [first];
  return contentOf(nonce, nonce?.tag === goNonceTag ? goNonceTag : octets);
}

/** Opens a packet with one RSA key, trying every recipient; `undefined` when it is for none of them. */
export function openPkcs7(packet: Pkcs7Packet, key: RecipientKey): Uint8Array | undefined {
  if (key.type !== "rsa") return undefined;
  const { cipher, keySize } = packet.content;
  for (const { encryptedKey } of packet.recipients) {
    let contentKey: Uint8Array;
    try {
      // A wrong key gives random bytes, not an error, in current OpenSSL; the tag decides.
      contentKey = privateDecrypt({ key: key.key, padding: constants.RSA_PKCS1_PADDING }, encryptedKey);
    } catch {
      // A modulus of another size, or padding that an older OpenSSL reports: not for this key.
      continue;
    }
    if (contentKey.length !== keySize) continue;
    const decipher = createDecipheriv(cipher, contentKey, packet.nonce, { authTagLength: tagSize });
    const end = packet.ciphertext.length - tagSize;
    decipher.setAuthTag(packet.ciphertext.subarray(end));
    const plaintext = decipher.update(packet.ciphertext.subarray(0, end));
    try {
      decipher.final();
      return plaintext;
    } catch {
      plaintext.fill(0);
    }
  }
  return undefined;
}

/**
 * A recipient by X.509 certificate, PEM or DER, with an RSA key. Writes what ocicrypt writes: RSA PKCS#1 v1.5 and
 * AES-128-GCM, its only choice. Throws `ERR_KEYWRAP_KEY_MALFORMED`, `ERR_KEYWRAP_KEY_UNSUPPORTED`.
 */
export function pkcs7Wrapper(request: { readonly certificate: Uint8Array; readonly name?: string | undefined }): KeyWrapper {
  const { name = "certificate" } = request;
  const certificate = parseCertificate(request.certificate, name);
  const publicKey = certificate.publicKey;
  if (publicKey.asymmetricKeyType !== "rsa") {
    throw new KeywrapError("ERR_KEYWRAP_KEY_UNSUPPORTED", {
      message: `${name} has a key of type ${publicKey.asymmetricKeyType} (pkcs7 recipients need RSA)`,
      hint: "use jwe: with the certificate's public key instead",
    });
  }
  const issuerAndSerial = issuerAndSerialOf(certificate);
  return {
    name,
    id: describeIssuerAndSerial(issuerAndSerial),
    schemes: ["pkcs7"],
    async wrap(optsdata) {
      const contentKey = randomBytes(writtenCipher.keySize);
      const nonce = randomBytes(12);
      const cipher = createCipheriv(writtenCipher.cipher, contentKey, nonce, { authTagLength: tagSize });
      const ciphertext = Buffer.concat([cipher.update(optsdata), cipher.final(), cipher.getAuthTag()]);
      const encryptedKey = publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, contentKey);
      return [{ scheme: "pkcs7", bytes: serialize(issuerAndSerial, encryptedKey, nonce, ciphertext) }];
    },
  };
}

function serialize(issuerAndSerial: Uint8Array, encryptedKey: Uint8Array, nonce: Uint8Array, ciphertext: Uint8Array): Buffer {
  const zero = writeDer(integer, Buffer.of(0));
  const info = writeDer(
    sequence,
    zero,
    issuerAndSerial,
    writeDer(sequence, writeDer(oid, oids.rsaEncryption)),
    writeDer(octets, encryptedKey),
  );
  const parameters = writeDer(sequence, writeDer(sequence, writeDer(goNonceTag, nonce), writeDer(integer, Buffer.of(tagSize))));
  const content = writeDer(
    sequence,
    writeDer(oid, oids.data),
    writeDer(sequence, writeDer(oid, writtenCipher.oid), parameters),
    writeDer(context0, writeDer(octets, ciphertext)),
  );
  const enveloped = writeDer(sequence, zero, writeDer(set, info), content);
  return writeDer(sequence, writeDer(oid, oids.envelopedData), writeDer(context0, enveloped));
}

function parseCertificate(bytes: Uint8Array, name: string): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch (cause) {
    throw new KeywrapError("ERR_KEYWRAP_KEY_MALFORMED", {
      message: `${name} is not an X.509 certificate in PEM or DER`,
      hint: "pkcs7 recipients are certificates; for a public key use jwe:",
      cause,
    });
  }
}

/** Source: RFC 5280 section 4.1: version, serial number, signature algorithm, issuer. */
function issuerAndSerialOf(certificate: X509Certificate): Buffer {
  const members = childrenOf(childrenOf(parseDer(certificate.raw)[0], sequence)[0], sequence);
  const [serial, , issuer] = members[0]?.tag === context0 ? members.slice(1) : members;
  return writeDer(sequence, issuer?.whole ?? Buffer.alloc(0), serial?.whole ?? Buffer.alloc(0));
}

/** A certificate by its serial number, in hex, as `openssl x509 -serial` prints it. */
export function describeIssuerAndSerial(issuerAndSerial: Uint8Array): string {
  const serial = contentOf(childrenOf(parseDer(issuerAndSerial)[0], sequence)[1], integer);
  return `serial ${Buffer.from(serial)
    .toString("hex")
    .replace(/^00(?=..)/, "")
    .toUpperCase()}`;
}

function unsupported(what: string): KeywrapError {
  return new KeywrapError("ERR_KEYWRAP_SCHEME_UNSUPPORTED", {
    message: `a pkcs7 packet uses a ${what} that is not supported (expected RSA PKCS#1 v1.5 and AES-GCM, as ocicrypt writes)`,
    hint: "open it with the tool that encrypted the image",
  });
}
