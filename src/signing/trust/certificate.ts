import { X509Certificate as NodeCertificate, type KeyObject } from "node:crypto";
import { X509Certificate as SigstoreCertificate } from "@sigstore/core";

/** A certificate in both libraries' forms, over the bytes as they came. */
export interface Certificate {
  readonly der: Buffer;
  readonly key: KeyObject;
  readonly node: NodeCertificate;
  readonly sigstore: SigstoreCertificate;
}

/** Decodes a certificate; what is thrown is the libraries' own. Source: RFC 5280 section 4. */
export function parseCertificate(der: Buffer): Certificate {
  const node = new NodeCertificate(der);
  return { der, node, key: node.publicKey, sigstore: SigstoreCertificate.parse(Buffer.from(der)) };
}
