import { refuse } from "../refuse.ts";
import { childrenOf, expectTag, malformed, parseDer, sequenceOf, tags, type DerNode } from "./reader.ts";
import { readBoolean, readNamedBits, readOid, readSmallInteger } from "./values.ts";

/** One extension of a certificate or a revocation list. */
export interface Extension {
  readonly critical: boolean;
  /** The DER inside the OCTET STRING. */
  readonly value: Buffer;
}

export const extensionOids = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  reasonCode: "2.5.29.21",
  crlDistributionPoints: "2.5.29.31",
  authorityKeyIdentifier: "2.5.29.35",
} as const;

/** Bit numbers of KeyUsage. Source: RFC 5280 section 4.2.1.3. */
export const keyUsageBits = { digitalSignature: 0, keyCertSign: 5, crlSign: 6 } as const;

/** Critical extensions whose meaning this room enforces; any other critical one is refused (RFC 5280 section 4.2). */
const understoodWhenCritical: readonly string[] = [extensionOids.keyUsage, extensionOids.basicConstraints];

/** Reads a list of extensions: none twice, none critical that is not understood. */
export function readExtensionList(list: DerNode | undefined, path: string, understood: readonly string[]): ReadonlyMap<string, Extension> {
  const extensions = new Map<string, Extension>();
  for (const node of sequenceOf(list, path)) {
    const parts = childrenOf(expectTag(node, tags.sequence, path));
    const oid = readOid(parts[0], path);
    const hasFlag = parts[1]?.tag === tags.boolean;
    const critical = hasFlag && readBoolean(parts[1], path);
    if (hasFlag && !critical) throw malformed(path, "an extension writes out the default of its critical flag");
    const value = expectTag(parts[hasFlag ? 2 : 1], tags.octetString, path).content;
    if (parts.length !== (hasFlag ? 3 : 2)) throw malformed(path, "an extension has too many parts");
    if (extensions.has(oid)) throw refuse("EXTENSION_DUPLICATE", { path, message: `the extension ${oid} occurs twice` });
    if (critical && !understood.includes(oid)) {
      throw refuse("EXTENSION_CRITICAL_UNKNOWN", { path, message: `the critical extension ${oid} is not understood` });
    }
    extensions.set(oid, { critical, value });
  }
  if (extensions.size === 0) throw malformed(path, "a list of extensions is empty");
  return extensions;
}

/** What the extensions of a certificate say. */
export interface CertificateExtensions {
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
  readonly keyUsage: ReadonlySet<number> | undefined;
}

/** Reads the `[3]` field of a certificate. */
export function parseExtensions(field: DerNode, path: string): CertificateExtensions {
  const [list, more] = childrenOf(field);
  if (more !== undefined) throw malformed(path, "the extensions field holds more than one list");
  const extensions = readExtensionList(list, path, understoodWhenCritical);
  const usage = extensions.get(extensionOids.keyUsage);
  return {
    extensions,
    ...readBasicConstraints(extensions.get(extensionOids.basicConstraints), path),
    keyUsage: usage === undefined ? undefined : readNamedBits(parseDer(usage.value, path), path),
  };
}

function readBasicConstraints(extension: Extension | undefined, path: string): { isCa: boolean; pathLength: number | undefined } {
  if (extension === undefined) return { isCa: false, pathLength: undefined };
  const parts = sequenceOf(parseDer(extension.value, path), path);
  const hasFlag = parts[0]?.tag === tags.boolean;
  const isCa = hasFlag && readBoolean(parts[0], path);
  const lengthNode = parts[hasFlag ? 1 : 0];
  if (parts.length > (hasFlag ? 2 : 1)) throw malformed(path, "basic constraints have too many parts");
  return { isCa, pathLength: lengthNode === undefined ? undefined : readSmallInteger(lengthNode, path, 255) };
}
