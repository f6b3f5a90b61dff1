import { createHash, type KeyObject } from "node:crypto";
import { refuse } from "../refuse.ts";
import { parseExtensions, type Extension } from "./extensions.ts";
import { childrenOf, expectTag, malformed, parseDer, sequenceOf, tags, type DerNode } from "./reader.ts";
import { importSpki, type SignedDer } from "./signatures.ts";
import { readBitStringBytes, readOid, readSerial, readSmallInteger, readText, readTime } from "./values.ts";

/** A certificate, parsed strictly; every buffer is a view of the input. Source: RFC 5280 section 4.1. */
export interface Certificate extends SignedDer {
  readonly raw: Buffer;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
  /** Raw Names, for exact comparison. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly issuerCommonName: string;
  readonly subjectCommonName: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Buffer;
  readonly publicKey: KeyObject;
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
  /** Bit numbers of KeyUsage; `undefined` when the extension is absent. */
  readonly keyUsage: ReadonlySet<number> | undefined;
  /** SHA-256 of the whole certificate, lower-case hex. */
  readonly fingerprint: string;
}

/** Largest certificate that is looked at. Real ones are below 1700 bytes. */
const maxCertificateSize = 8192;

/** Parses one certificate. `path` is where it came from, for findings: `evidence.certificationData[0]`. */
export function parseCertificate(bytes: Uint8Array, path: string): Certificate {
  if (bytes.length === 0) throw refuse("CERTIFICATE_MISSING", { path, message: "the certificate is empty" });
  if (bytes.length > maxCertificateSize) throw malformed(path, `a certificate has ${bytes.length} bytes, more than ${maxCertificateSize}`);
  const root = parseDer(bytes, path);
  const [tbs, algorithm, signature, more] = sequenceOf(root, path);
  if (more !== undefined) throw malformed(path, "a certificate has more than three parts");
  const tbsNode = expectTag(tbs, tags.sequence, path);
  const algorithmNode = expectTag(algorithm, tags.sequence, path);
  const fields = childrenOf(tbsNode);
  const [version, serial, innerAlgorithm, issuer, validity, subject, spki, ...rest] = fields;
  const [versionNumber] = childrenOf(expectTag(version, 0xa0, path));
  if (readSmallInteger(versionNumber, path, 0xff) !== 2) throw malformed(path, "a certificate is not of version 3");
  if (!expectTag(innerAlgorithm, tags.sequence, path).raw.equals(algorithmNode.raw)) {
    throw refuse("SIGNATURE_ALGORITHM_UNEXPECTED", { path, message: "the signed and the unsigned signature algorithm differ" });
  }
  const [notBefore, notAfter, moreTimes] = sequenceOf(validity, path);
  if (moreTimes !== undefined) throw malformed(path, "a validity has more than two times");
  // Version 3 certificates of these vendors have no unique identifiers ([1], [2]); only extensions may follow.
  const [extensionsNode, moreFields] = rest;
  if (moreFields !== undefined) throw malformed(path, "a certificate has fields that no TEE vendor uses");
  const parsed = parseExtensions(expectTag(extensionsNode, 0xa3, path), path);
  const spkiNode = expectTag(spki, tags.sequence, path);
  let publicKey: KeyObject | undefined;
  return {
    path,
    raw: root.raw,
    tbs: tbsNode.raw,
    algorithm: algorithmNode.raw,
    signature: readBitStringBytes(signature, path),
    serial: readSerial(serial, path),
    issuer: expectTag(issuer, tags.sequence, path).raw,
    subject: expectTag(subject, tags.sequence, path).raw,
    issuerCommonName: readCommonName(issuer, path),
    subjectCommonName: readCommonName(subject, path),
    notBefore: readTime(notBefore, path),
    notAfter: readTime(notAfter, path),
    spki: spkiNode.raw,
    // Importing a key costs more than all of the parsing, and not every certificate's key is used.
    get publicKey() {
      publicKey ??= importSpki(spkiNode.raw, path);
      return publicKey;
    },
    ...parsed,
    fingerprint: createHash("sha256").update(root.raw).digest("hex"),
  };
}

const commonNameOid = "2.5.4.3";

/** The one common name of a Name; a second one would make "the" name ambiguous. */
export function readCommonName(name: DerNode | undefined, path: string): string {
  let found: string | undefined;
  for (const rdn of sequenceOf(name, path)) {
    for (const attribute of childrenOf(expectTag(rdn, tags.set, path))) {
      const [type, value, more] = sequenceOf(attribute, path);
      if (more !== undefined) throw malformed(path, "a name's attribute has more than two parts");
      if (readOid(type, path) !== commonNameOid) continue;
      if (found !== undefined) throw malformed(path, "a name has two common names");
      found = readText(value, path);
    }
  }
  if (found === undefined) throw malformed(path, "a name has no common name");
  return found;
}

/** Refuses a certificate outside its validity. */
export function checkValidity(certificate: Pick<Certificate, "path" | "notBefore" | "notAfter" | "subjectCommonName">, at: number): void {
  const { path, notBefore, notAfter, subjectCommonName } = certificate;
  if (at < notBefore) {
    throw refuse("CERTIFICATE_NOT_YET_VALID", {
      path,
      message: `the certificate of ${subjectCommonName} is not valid yet`,
      expected: `a time from ${new Date(notBefore).toISOString()}`,
      actual: new Date(at).toISOString(),
    });
  }
  if (at > notAfter) {
    throw refuse("CERTIFICATE_EXPIRED", {
      path,
      message: `the certificate of ${subjectCommonName} has expired`,
      expected: `a time until ${new Date(notAfter).toISOString()}`,
      actual: new Date(at).toISOString(),
    });
  }
}
