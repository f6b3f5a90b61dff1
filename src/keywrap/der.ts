import { malformedPacket } from "./errors.ts";

/** One DER element. */
export interface DerElement {
  /** Identifier octet: class, form and number; only numbers below 31 are known here. */
  readonly tag: number;
  readonly content: Uint8Array;
  /** Identifier, length and content. */
  readonly whole: Uint8Array;
}

export const derTags = { integer: 0x02, octets: 0x04, oid: 0x06, sequence: 0x30, set: 0x31, context0: 0xa0 } as const;

/** The elements that stand one after the other. Definite lengths only. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. Source: X.690. */
export function parseDer(bytes: Uint8Array): readonly DerElement[] {
  const elements: DerElement[] = [];
  for (let at = 0; at < bytes.length;) {
    const start = at;
    const tag = bytes[at] ?? 0;
    const first = bytes[at + 1] ?? 0x80;
    at += 2;
    let length = first;
    if (first >= 0x80) {
      const octets = first & 0x7f;
      if (octets === 0 || octets > 4) throw malformedPacket("a DER element has a length of an unknown form");
      length = 0;
      for (let i = 0; i < octets; i += 1) length = length * 256 + (bytes[at + i] ?? 0);
      at += octets;
    }
    if ((tag & 0x1f) === 0x1f || length > bytes.length - at) throw malformedPacket("a DER element is cut");
    elements.push({ tag, content: bytes.subarray(at, at + length), whole: bytes.subarray(start, at + length) });
    at += length;
  }
  return elements;
}

/** The elements inside a constructed element of the expected tag. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. */
export function childrenOf(element: DerElement | undefined, tag: number): readonly DerElement[] {
  return parseDer(contentOf(element, tag));
}

/** The content of an element of the expected tag. Throws `ERR_KEYWRAP_PACKET_MALFORMED`. */
export function contentOf(element: DerElement | undefined, tag: number): Uint8Array {
  if (element?.tag === tag) return element.content;
  throw malformedPacket(`a DER element is not of the expected kind ${tag}`);
}

/** Writes an element. */
export function writeDer(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content]);
  const length = content.length < 0x100 ? Buffer.of(0x81, content.length) : Buffer.of(0x82, content.length >> 8, content.length & 0xff);
  return Buffer.concat([Buffer.of(tag), length, content]);
}
