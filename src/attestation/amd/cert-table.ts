import { derOf } from "../der/pem.ts";
import { refuse } from "../refuse.ts";
import type { AmdEndorsements } from "./chain.ts";

/** GUIDs of the certificate table in textual order. Source: AMD GHCB 56421, "SNP Extended Guest Request"; reference C 1.8. */
const guids = {
  "63da758de6644564adc5f4b93be8accd": "vcek",
  a8074bc2a25a483eaae639c045a0b8a1: "vlek",
  "4ab7b379bbac4fe4a02f05aef327c782": "ask",
  c0b406a4a803495297433fb6014cd0ae: "ark",
  "92f81bc358114d3d97ffd19f88dc67ea": "crl",
} as const;

type TableKind = (typeof guids)[keyof typeof guids];

const entrySize = 24;
/** Bounds of the table: entries looked at, and bytes of the whole. */
const maxEntries = 64;
const maxTableSize = 256 * 1024;

/**
 * Reads the certificate table that the host hands to the guest (`auxblob`). What it holds is a convenience: each
 * certificate is verified like any other. An empty table is no certificates. Unknown GUIDs are skipped; overlapping or
 * outlying ranges and repeated entries are refused.
 */
export function parseCertTable(bytes: Uint8Array): AmdEndorsements {
  const table = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (table.length > maxTableSize) throw malformed(`the certificate table has ${table.length} bytes, more than ${maxTableSize}`);
  const entries = readEntries(table);
  const sorted = entries.toSorted((left, right) => left.offset - right.offset);
  for (const [i, entry] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next !== undefined && entry.offset + entry.length > next.offset) throw malformed("two entries of the certificate table overlap");
  }
  const found = new Map<TableKind, Buffer>();
  for (const { guid, offset, length } of entries) {
    const kind = (guids as Readonly<Record<string, TableKind>>)[guid];
    if (kind === undefined || length === 0) continue;
    if (found.has(kind)) throw malformed(`the certificate table holds two entries for the ${kind}`);
    const content = table.subarray(offset, offset + length);
    found.set(kind, kind === "crl" ? Buffer.from(content) : single(content, kind));
  }
  if (found.has("vcek") && found.has("vlek")) throw malformed("the certificate table holds both a VCEK and a VLEK");
  return { vek: found.get("vcek") ?? found.get("vlek"), ask: found.get("ask"), ark: found.get("ark"), crl: found.get("crl") };
}

interface Entry {
  readonly guid: string;
  readonly offset: number;
  readonly length: number;
}

function readEntries(table: Buffer): readonly Entry[] {
  const entries: Entry[] = [];
  if (table.length === 0) return entries;
  for (let at = 0; ; at += entrySize) {
    if (at + entrySize > table.length) throw malformed("the certificate table has no end entry");
    const guid = table.subarray(at, at + 16).toString("hex");
    const offset = table.readUInt32LE(at + 16);
    const length = table.readUInt32LE(at + 20);
    if (/^0+$/.test(guid)) {
      const headerEnd = at + entrySize;
      for (const entry of entries) {
        if (entry.offset < headerEnd || entry.offset + entry.length > table.length)
          throw malformed("an entry of the certificate table lies outside it");
      }
      return entries;
    }
    entries.push({ guid, offset, length });
    if (entries.length > maxEntries) throw malformed(`the certificate table has more than ${maxEntries} entries`);
  }
}

function single(content: Buffer, kind: TableKind): Buffer {
  const [der, more] = derOf(content, `evidence.certTable.${kind}`);
  if (der === undefined || more !== undefined) throw malformed(`the ${kind} entry holds more than one certificate`);
  return der;
}

function malformed(message: string) {
  return refuse("CERT_TABLE_MALFORMED", { path: "evidence.certTable", message });
}
