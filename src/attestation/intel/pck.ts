import { parseDer, sequenceOf, tags, expectTag, malformed, type DerNode } from "../der/reader.ts";
import { readBoolean, readOid, readSmallInteger } from "../der/values.ts";
import type { Certificate } from "../der/x509.ts";
import { refuse } from "../refuse.ts";

/** What the SGX extension of a PCK certificate says about the platform. Source: reference C 1.5; Intel "SGX PCK Certificate and CRL Profile". */
export interface PckExtension {
  readonly ppid: Buffer;
  /** 16 component SVNs. */
  readonly components: readonly number[];
  readonly pceSvn: number;
  readonly cpuSvn: Buffer;
  readonly pceId: Buffer;
  readonly fmspc: Buffer;
  readonly sgxType: "standard" | "scalable" | "scalable-with-integrity";
  readonly platformInstanceId: Buffer | undefined;
  readonly configuration: { readonly dynamicPlatform?: boolean; readonly cachedKeys?: boolean; readonly smtEnabled?: boolean } | undefined;
}

/** A PCK whose chain holds and is not revoked. */
export interface VerifiedPck {
  readonly leaf: Certificate;
  readonly intermediate: Certificate;
  readonly extension: PckExtension;
}

export const sgxExtensionOid = "1.2.840.113741.1.13.1";
const prefix = `${sgxExtensionOid}.`;
const sgxTypes = ["standard", "scalable", "scalable-with-integrity"] as const;

/** Reads the extension; refuses duplicates, missing members and SVNs out of range. */
export function parsePckExtension(certificate: Certificate): PckExtension {
  const { path } = certificate;
  const extension = certificate.extensions.get(sgxExtensionOid);
  if (extension === undefined) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: `the certificate of ${certificate.subjectCommonName} has no SGX extension, so it is no PCK certificate`,
    });
  }
  const members = readMembers(parseDer(extension.value, path), prefix, path);
  const tcb = readMembers(required(members, "2", path), `${prefix}2.`, path);
  const components = Array.from({ length: 16 }, (_, i) => readSmallInteger(required(tcb, String(i + 1), path), path, 255));
  const typeNumber = readSmallInteger(required(members, "5", path), path, 255, tags.enumerated);
  const sgxType = sgxTypes[typeNumber];
  if (sgxType === undefined) throw malformed(path, `the SGX extension names the unknown SGX type ${typeNumber}`);
  const instance = members.get("6");
  const configuration = members.get("7");
  return {
    ppid: octets(required(members, "1", path), 16, path),
    components,
    pceSvn: readSmallInteger(required(tcb, "17", path), path, 65535),
    cpuSvn: octets(required(tcb, "18", path), 16, path),
    pceId: octets(required(members, "3", path), 2, path),
    fmspc: octets(required(members, "4", path), 6, path),
    sgxType,
    platformInstanceId: instance === undefined ? undefined : octets(instance, 16, path),
    configuration: configuration === undefined ? undefined : readConfiguration(configuration, path),
  };
}

function readConfiguration(node: DerNode, path: string): NonNullable<PckExtension["configuration"]> {
  const flags = readMembers(node, `${prefix}7.`, path);
  const names = { dynamicPlatform: "1", cachedKeys: "2", smtEnabled: "3" } as const;
  const found: { dynamicPlatform?: boolean; cachedKeys?: boolean; smtEnabled?: boolean } = {};
  for (const name of ["dynamicPlatform", "cachedKeys", "smtEnabled"] as const) {
    const flag = flags.get(names[name]);
    if (flag !== undefined) found[name] = readBoolean(flag, path);
  }
  return found;
}

/** A SEQUENCE of {OID, value} as a map from the last part of the OID. */
function readMembers(node: DerNode, oidPrefix: string, path: string): ReadonlyMap<string, DerNode> {
  const members = new Map<string, DerNode>();
  for (const member of sequenceOf(node, path)) {
    const [oid, value, more] = sequenceOf(member, path);
    const name = readOid(oid, path);
    if (value === undefined || more !== undefined || !name.startsWith(oidPrefix))
      throw malformed(path, "the SGX extension holds a malformed member");
    const key = name.slice(oidPrefix.length);
    if (members.has(key)) throw refuse("EXTENSION_DUPLICATE", { path, message: `the SGX extension holds ${name} twice` });
    members.set(key, value);
  }
  return members;
}

function required(members: ReadonlyMap<string, DerNode>, key: string, path: string): DerNode {
  const node = members.get(key);
  if (node === undefined) throw malformed(path, `the SGX extension lacks member .${key}`);
  return node;
}

function octets(node: DerNode, size: number, path: string): Buffer {
  const { content } = expectTag(node, tags.octetString, path);
  if (content.length !== size) throw malformed(path, `a member of the SGX extension has ${content.length} bytes, not ${size}`);
  return content;
}
