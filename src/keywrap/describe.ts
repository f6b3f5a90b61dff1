import { attestationAgentScheme, parseCocoPacket } from "./coco-packet.ts";
import type { KeyPacket, RecipientDescription } from "./contract.ts";
import { isKbsUri } from "./kbs-uri.ts";
import { describeIssuerAndSerial, parsePkcs7 } from "./pkcs7.ts";
import { pgpRecipientIds } from "./pgp-packets.ts";
import { parsePkcs11 } from "./pkcs11.ts";
import { headerText, parseJwe } from "./jwe-form.ts";

/**
 * Who can open a packet, without any key. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. Nothing in it is verified: whoever
 * wrote the annotation chose the ids.
 */
export function describePacket(packet: KeyPacket): readonly RecipientDescription[] {
  const { scheme } = packet;
  if (scheme === "jwe") {
    return parseJwe(packet.bytes).recipients.map(({ joined }) => {
      const id = headerText(joined, "kid");
      return { scheme, id, kind: id !== undefined && isKbsUri(id) ? "kbs" : "public-key", algorithm: headerText(joined, "alg") };
    });
  }
  if (scheme === attestationAgentScheme) {
    const { kid, wrapType, provider } = parseCocoPacket(packet.bytes);
    return [{ scheme, id: kid, kind: provider === "kbs" ? "kbs" : "provider", algorithm: wrapType }];
  }
  if (scheme === "pkcs7") {
    return parsePkcs7(packet.bytes).recipients.map(({ issuerAndSerial }) => {
      return { scheme, id: describeIssuerAndSerial(issuerAndSerial), kind: "certificate", algorithm: "RSA-PKCS1-v1_5" };
    });
  }
  if (scheme === "pgp") return pgpRecipientIds(packet.bytes).map((id) => ({ scheme, id, kind: "pgp", algorithm: undefined }));
  if (scheme === "pkcs11") {
    return parsePkcs11(packet.bytes).map(({ hash }) => ({
      scheme,
      id: undefined,
      kind: "pkcs11",
      algorithm: hash === "sha256" ? "RSA-OAEP-256" : "RSA-OAEP",
    }));
  }
  return [{ scheme, id: scheme.slice("provider.".length), kind: "provider", algorithm: undefined }];
}
