import { parseJson } from "../../bytes/index.ts";
import { amdProducts, productOfCommonName } from "../amd/products.ts";
import { parseEndorsementKey } from "../amd/vek.ts";
import { parseRevocationList } from "../der/crl.ts";
import { crlDerOf, parsePemChain } from "../der/pem.ts";
import { parseCertificate } from "../der/x509.ts";
import { newFindingSink } from "../refuse.ts";
import { emptyBundle, maxBundleSize, type CollateralBundle, type CrlItem, type SignedItem, type VcekItem } from "./bundle.ts";

/** A file of a folder of collateral. */
export interface LooseFile {
  readonly name: string;
  readonly bytes: Buffer;
}

const tcbSigner = "Intel SGX TCB Signing";

/**
 * Takes what a vendor's service answered, saved file by file: signed JSON bodies, revocation lists, chains and VCEKs, DER
 * or PEM. What a file is, its content says; names are not believed. An issuer chain comes from the file's own saved
 * headers (`NAME.headers`) or from a chain file of the TCB signer in the same folder. What is nothing of this is skipped.
 */
export function readLooseFiles(files: readonly LooseFile[], now: Date): CollateralBundle {
  const chain = files.map(({ bytes }) => chainOf(bytes, tcbSigner)).find((found) => found !== undefined) ?? "";
  const headers = new Map(
    files.filter(({ name }) => name.endsWith(".headers")).map(({ name, bytes }) => [name.slice(0, -".headers".length), headerChain(bytes)]),
  );
  return files.reduce((bundle, file) => addFile(bundle, file, headers.get(file.name) ?? chain, now), emptyBundle(now.toISOString()));
}

function addFile(bundle: CollateralBundle, { name, bytes }: LooseFile, issuerChain: string, now: Date): CollateralBundle {
  const provenance = { fetchedAt: now.toISOString(), from: name };
  const signed: SignedItem = { body: bytes, issuerChain, ...provenance };
  const body = bodyOf(bytes);
  if (body?.kind === "tcbInfo") return { ...bundle, tcbInfos: [...bundle.tcbInfos, { ...signed, tee: body.tee, fmspc: body.fmspc }] };
  if (body?.kind === "enclaveIdentity") return { ...bundle, qeIdentity: { ...bundle.qeIdentity, [body.tee]: signed } };
  const vcek = vcekOf(bytes, name, now);
  if (vcek !== undefined) return { ...bundle, vceks: [...bundle.vceks, vcek] };
  const list = newFindingSink().attempt(() => {
    const der = crlDerOf(bytes, name);
    return { der, issuer: parseRevocationList(der, name).issuerCommonName };
  });
  if (list !== undefined) return addList(bundle, { der: list.der, ...provenance }, list.issuer);
  return addAmdChain(bundle, bytes);
}

function addList(bundle: CollateralBundle, item: CrlItem, issuer: string): CollateralBundle {
  const ark = productOfCommonName(issuer);
  if (ark?.role === "ark")
    return { ...bundle, amd: { ...bundle.amd, [ark.product]: { ...bundle.amd[ark.product], vcekCrl: item, vlekCrl: item } } };
  if (issuer.includes("Platform CA")) return { ...bundle, pckCrls: [...bundle.pckCrls, { ca: "platform", ...item }] };
  if (issuer.includes("Processor CA")) return { ...bundle, pckCrls: [...bundle.pckCrls, { ca: "processor", ...item }] };
  return issuer.includes("Root CA") ? { ...bundle, rootCaCrl: item } : bundle;
}

function addAmdChain(bundle: CollateralBundle, bytes: Buffer): CollateralBundle {
  for (const product of amdProducts) {
    for (const [member, commonName] of [
      ["vcekChain", `SEV-${product}`],
      ["vlekChain", `SEV-VLEK-${product}`],
    ] as const) {
      const chain = chainOf(bytes, commonName);
      if (chain !== undefined) return { ...bundle, amd: { ...bundle.amd, [product]: { ...bundle.amd[product], [member]: chain } } };
    }
  }
  return bundle;
}

/** The text, when it is a PEM chain whose first certificate has the name. */
function chainOf(bytes: Buffer, commonName: string): string | undefined {
  return newFindingSink().attempt(() => {
    const [first] = parsePemChain(bytes, "chain");
    return first !== undefined && parseCertificate(first, "chain").subjectCommonName === commonName ? bytes.toString("latin1") : undefined;
  });
}

function headerChain(bytes: Buffer): string {
  const [, value] = /^(?:SGX-)?(?:TCB-Info|Enclave-Identity)-Issuer-Chain:\s*(\S+)/im.exec(bytes.toString("latin1")) ?? [];
  try {
    return decodeURIComponent(value ?? "");
  } catch {
    // Not URL-encoded as the service sends it; verification will say that the chain is no PEM.
    return value ?? "";
  }
}

type Body =
  | { readonly kind: "tcbInfo"; readonly tee: "sgx" | "tdx"; readonly fmspc: string }
  | { readonly kind: "enclaveIdentity"; readonly tee: "sgx" | "tdx" };

function bodyOf(bytes: Buffer): Body | undefined {
  if (!bytes.subarray(0, 64).toString("latin1").trimStart().startsWith("{")) return undefined;
  const value = parseJson(bytes, { maxBytes: maxBundleSize, subject: "collateral" });
  if (typeof value !== "object" || value === null) return undefined;
  const text = (document: unknown, name: string): string => {
    const member = (document as Readonly<Record<string, unknown>> | null)?.[name];
    return typeof member === "string" ? member : "";
  };
  if ("tcbInfo" in value) {
    return { kind: "tcbInfo", tee: text(value.tcbInfo, "id") === "TDX" ? "tdx" : "sgx", fmspc: text(value.tcbInfo, "fmspc").toLowerCase() };
  }
  return "enclaveIdentity" in value
    ? { kind: "enclaveIdentity", tee: text(value.enclaveIdentity, "id") === "TD_QE" ? "tdx" : "sgx" }
    : undefined;
}

/** Stores name VCEKs by TCB and folders by chip; the certificate says both itself. */
export function vcekOf(bytes: Uint8Array, from: string, now: Date): VcekItem | undefined {
  const key = newFindingSink().attempt(() => parseEndorsementKey(bytes, from));
  if (key?.hwid === undefined) return undefined;
  const { tcb, product } = key;
  const word =
    product === "Turin" ? [tcb.fmc ?? 0, tcb.bl, tcb.tee, tcb.snp, 0, 0, 0, tcb.ucode] : [tcb.bl, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.ucode];
  return {
    product,
    hwid: key.hwid.toString("hex"),
    tcb: Buffer.from(word).toString("hex"),
    der: bytes,
    fetchedAt: now.toISOString(),
    from,
  };
}
