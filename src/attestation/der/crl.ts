import { refuse } from "../refuse.ts";
import { readExtensionList, type Extension } from "./extensions.ts";
import { childrenOf, expectTag, malformed, parseDer, sequenceOf, tags, type DerNode } from "./reader.ts";
import type { SignedDer } from "./signatures.ts";
import { readBitStringBytes, readSerial, readSmallInteger, readTime } from "./values.ts";
import { readCommonName } from "./x509.ts";

/** A revocation list, parsed strictly. Source: RFC 5280 section 5. */
export interface RevocationList extends SignedDer {
  readonly issuer: Buffer;
  readonly issuerCommonName: string;
  /** Milliseconds since the epoch. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers as lower-case hex without leading zeros. */
  readonly revoked: ReadonlySet<string>;
  readonly extensions: ReadonlyMap<string, Extension>;
}

/** Largest list that is looked at. Intel's largest is below 4 KiB today. */
const maxListSize = 1 << 20;

/** Parses a list. An empty input is `CRL_EMPTY`, not a list that revokes nothing. */
export function parseRevocationList(bytes: Uint8Array, path: string): RevocationList {
  if (bytes.length === 0) throw refuse("CRL_EMPTY", { path, message: "the revocation list is empty" });
  if (bytes.length > maxListSize) throw malformed(path, `a revocation list has ${bytes.length} bytes, more than ${maxListSize}`);
  const [tbs, algorithm, signature, more] = sequenceOf(parseDer(bytes, path), path);
  if (more !== undefined) throw malformed(path, "a revocation list has more than three parts");
  const tbsNode = expectTag(tbs, tags.sequence, path);
  const algorithmNode = expectTag(algorithm, tags.sequence, path);
  const [version, innerAlgorithm, issuer, thisUpdate, nextUpdate, ...rest] = childrenOf(tbsNode);
  if (readSmallInteger(version, path, 0xff) !== 1) throw malformed(path, "a revocation list is not of version 2");
  if (!expectTag(innerAlgorithm, tags.sequence, path).raw.equals(algorithmNode.raw)) {
    throw refuse("SIGNATURE_ALGORITHM_UNEXPECTED", { path, message: "the signed and the unsigned signature algorithm differ" });
  }
  const hasEntries = rest[0]?.tag === tags.sequence;
  const [extensionsNode, ...tooMany] = rest.slice(hasEntries ? 1 : 0);
  if (tooMany.length > 0) throw malformed(path, "a revocation list has fields after its extensions");
  const [list] = extensionsNode === undefined ? [] : childrenOf(expectTag(extensionsNode, 0xa0, path));
  // Which extensions a list must have is for its vendor's rules; here only that none is critical and unknown.
  const extensions: RevocationList["extensions"] = extensionsNode === undefined ? new Map() : readExtensionList(list, path, []);
  return {
    path,
    tbs: tbsNode.raw,
    algorithm: algorithmNode.raw,
    signature: readBitStringBytes(signature, path),
    issuer: expectTag(issuer, tags.sequence, path).raw,
    issuerCommonName: readCommonName(issuer, path),
    thisUpdate: readTime(thisUpdate, path),
    nextUpdate: readTime(nextUpdate, path),
    revoked: hasEntries ? readEntries(rest[0], path) : new Set(),
    extensions,
  };
}

function readEntries(node: DerNode | undefined, path: string): ReadonlySet<string> {
  const revoked = new Set<string>();
  for (const entry of sequenceOf(node, path)) {
    const [serial, date, extensions, more] = sequenceOf(entry, path);
    if (more !== undefined) throw malformed(path, "an entry of a revocation list has too many parts");
    readTime(date, path);
    // A critical entry extension could mean that the entry is not about this list's issuer; none is understood here.
    if (extensions !== undefined) readExtensionList(extensions, path, []);
    revoked.add(readSerial(serial, path));
  }
  return revoked;
}

/** Refuses a list outside its window. */
export function checkCurrent(list: RevocationList, at: number): void {
  if (at < list.thisUpdate) {
    throw refuse("CRL_FROM_THE_FUTURE", {
      path: list.path,
      message: `the revocation list of ${list.issuerCommonName} was issued after the time of verification`,
      expected: `a time from ${new Date(list.thisUpdate).toISOString()}`,
      actual: new Date(at).toISOString(),
    });
  }
  if (at > list.nextUpdate) {
    throw refuse("CRL_EXPIRED", {
      path: list.path,
      message: `the revocation list of ${list.issuerCommonName} has expired`,
      expected: `a time until ${new Date(list.nextUpdate).toISOString()}`,
      actual: new Date(at).toISOString(),
      hint: "fetch current collateral: ociseal attest collateral fetch",
    });
  }
}
