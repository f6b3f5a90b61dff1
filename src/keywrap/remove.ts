import type { KeyPacket } from "./contract.ts";
import { KeywrapError } from "./errors.ts";
import { describePacket } from "./describe.ts";
import { parseJwe } from "./jwe-form.ts";

/**
 * A packet without some of its recipients, numbered as {@link describePacket} lists them; `undefined` when none
 * remains. No key is needed: in a JWE for several recipients each has an entry of its own. Throws
 * `ERR_KEYWRAP_SCHEME_UNSUPPORTED` for other packets that several recipients share.
 */
export function withoutRecipients(packet: KeyPacket, gone: readonly number[]): KeyPacket | undefined {
  if (gone.length === 0) return packet;
  const all = describePacket(packet);
  if (all.every((_, index) => gone.includes(index))) return undefined;
  if (packet.scheme !== "jwe") {
    throw new KeywrapError("ERR_KEYWRAP_SCHEME_UNSUPPORTED", {
      message: `one recipient cannot be taken out of a ${packet.scheme} packet that several share`,
      hint: "remove all recipients of this packet and add those that shall stay",
    });
  }
  const { protected: head, unprotected, aad, iv, ciphertext, tag, recipients } = parseJwe(packet.bytes);
  const kept = recipients
    .filter((_, index) => !gone.includes(index))
    .map(({ header, encryptedKey }) => ({ header, encrypted_key: encryptedKey }));
  return {
    scheme: "jwe",
    bytes: Buffer.from(JSON.stringify({ protected: head, unprotected, recipients: kept, aad, iv, ciphertext, tag }), "utf8"),
  };
}
