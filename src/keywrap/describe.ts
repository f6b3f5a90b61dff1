import { attestationAgentScheme, parseCocoPacket } from "./coco-packet.ts";
import type { KeyPacket, RecipientDescription } from "./contract.ts";
import { isKbsUri } from "./kbs-uri.ts";
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
  if (scheme === "pkcs7") return [{ scheme, id: undefined, kind: "certificate", algorithm: undefined }];
  if (scheme === "pgp") return [{ scheme, id: undefined, kind: "pgp", algorithm: undefined }];
  if (scheme === "pkcs11") return [{ scheme, id: undefined, kind: "pkcs11", algorithm: undefined }];
  return [{ scheme, id: scheme.slice("provider.".length), kind: "provider", algorithm: undefined }];
}
