import type { FindingCode } from "../findings.ts";
import { refuse } from "../refuse.ts";

/** Universal tags that certificates and revocation lists use. Source: ITU-T X.690. */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** One tag-length-value. `raw` and `content` are views of the input. */
export interface DerNode {
  readonly tag: number;
  readonly raw: Buffer;
  readonly content: Buffer;
  /** Path of the document, for findings. */
  readonly path: string;
}

/**
 * Reads exactly one DER value that fills the input. Definite, minimal lengths of at most four bytes and one-byte tags
 * only (X.690 section 10.1); anything else, and any trailing byte, is a {@link Refusal}.
 */
export function parseDer(bytes: Uint8Array, path: string): DerNode {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const node = readNode(input, 0, path);
  if (node.raw.length !== input.length) {
    throw refuse("DER_TRAILING_DATA", { path, message: `${input.length - node.raw.length} bytes follow the end of the DER value` });
  }
  return node;
}

/** The values inside a constructed value. */
export function childrenOf(node: DerNode): readonly DerNode[] {
  if ((node.tag & 0x20) === 0) throw malformed(node.path, `tag 0x${node.tag.toString(16)} is not a constructed value`);
  const children: DerNode[] = [];
  for (let offset = 0; offset < node.content.length;) {
    const child = readNode(node.content, offset, node.path);
    children.push(child);
    offset += child.raw.length;
  }
  return children;
}

/** The children of a SEQUENCE. */
export function sequenceOf(node: DerNode | undefined, path: string): readonly DerNode[] {
  return childrenOf(expectTag(node, tags.sequence, path));
}

/** The node, if it is there and has the tag. */
export function expectTag(node: DerNode | undefined, tag: number, path: string): DerNode {
  if (node === undefined) throw malformed(path, `a value with tag 0x${tag.toString(16)} is missing`);
  if (node.tag !== tag) throw malformed(path, `expected tag 0x${tag.toString(16)}, got 0x${node.tag.toString(16)}`);
  return node;
}

function readNode(input: Buffer, offset: number, path: string): DerNode {
  const tag = input[offset];
  const first = input[offset + 1];
  if (tag === undefined || first === undefined) throw malformed(path, "a value ends inside its header");
  if ((tag & 0x1f) === 0x1f) throw malformed(path, "a tag has more than one byte");
  let header = 2;
  let length = first;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw malformed(path, count === 0 ? "a length is indefinite" : "a length has more than four bytes");
    length = 0;
    for (let i = 0; i < count; i += 1) {
      const byte = input[offset + 2 + i];
      if (byte === undefined) throw malformed(path, "a value ends inside its header");
      length = length * 256 + byte;
    }
    if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw malformed(path, "a length is not in its shortest form");
    header += count;
  }
  const end = offset + header + length;
  if (end > input.length) throw malformed(path, "a value is longer than what holds it");
  return { tag, raw: input.subarray(offset, end), content: input.subarray(offset + header, end), path };
}

/** A DER refusal with another code than the usual one where a caller has a better word. */
export function malformed(path: string, message: string, code: FindingCode = "DER_MALFORMED") {
  return refuse(code, { path, message });
}
