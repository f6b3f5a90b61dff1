import { malformedPacket } from "./errors.ts";

const pkeskTag = 1;
const maxRecipients = 1000;

/**
 * The key ids, in hex, that an OpenPGP message is encrypted for; read without any library, so that an image can be
 * described without one. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. Source: RFC 9580 sections 4.2 and 5.1.
 */
export function pgpRecipientIds(bytes: Uint8Array): readonly string[] {
  const ids: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const { tag, start, end } = packetAt(bytes, at);
    if (tag !== pkeskTag) break;
    const body = bytes.subarray(start, end);
    if (body[0] !== 3 || body.length < 9) throw malformedPacket("a pgp packet has a session key packet of an unknown version");
    ids.push(Buffer.from(body.subarray(1, 9)).toString("hex").toUpperCase());
    if (ids.length > maxRecipients) throw malformedPacket(`a pgp packet has more than ${maxRecipients} recipients, the limit`);
    at = end;
  }
  if (ids.length === 0) throw malformedPacket("a pgp packet is not an encrypted OpenPGP message");
  return ids;
}

function packetAt(bytes: Uint8Array, at: number): { readonly tag: number; readonly start: number; readonly end: number } {
  const head = bytes[at] ?? 0;
  if ((head & 0x80) === 0) throw malformedPacket("a pgp packet is not binary OpenPGP");
  const byte = (i: number) => bytes[at + i] ?? 0;
  if ((head & 0x40) === 0) {
    const kind = head & 3;
    const [size, length] =
      kind === 0
        ? [1, byte(1)]
        : kind === 1
          ? [2, byte(1) * 256 + byte(2)]
          : [4, ((byte(1) * 256 + byte(2)) * 256 + byte(3)) * 256 + byte(4)];
    return { tag: (head >> 2) & 0xf, start: at + 1 + size, end: kind === 3 ? bytes.length : at + 1 + size + length };
  }
  const first = byte(1);
  const tag = head & 0x3f;
  if (first < 192) return { tag, start: at + 2, end: at + 2 + first };
  if (first < 224) return { tag, start: at + 3, end: at + 3 + (first - 192) * 256 + byte(2) + 192 };
  if (first === 255) return { tag, start: at + 6, end: at + 6 + ((byte(2) * 256 + byte(3)) * 256 + byte(4)) * 256 + byte(5) };
  // Partial lengths: only data packets have them, and those are not looked into.
  return { tag, start: at + 2, end: bytes.length };
}
