import { AttestationError } from "../errors.ts";
import { emptyBundle, type CollateralBundle, type PckCrlItem, type SignedItem, type TcbInfoItem, type UpdateChannel } from "./bundle.ts";

type Members = Readonly<Record<string, unknown>>;

/**
 * The JSON of Intel's PCS client tool, as Trustee's `file://` store keeps it: all platforms of a fleet in one file.
 *
 * The tool stores the signed documents as parsed JSON, so they are written out again here in the order of the file. That
 * reproduces the signed bytes as long as the tool kept the order; if it did not, verification says that the signature is
 * wrong. Source: reference C 3.3.
 */
export function importPcsClientTool(
  value: unknown,
  { now, from }: { readonly now: Date; readonly from?: string | undefined },
): CollateralBundle {
  const root = object(value, "collaterals");
  const certificates = object(root["certificates"] ?? {}, "collaterals.certificates");
  const pckChains = object(
    certificates["SGX-PCK-Certificate-Issuer-Chain"] ?? {},
    "collaterals.certificates.SGX-PCK-Certificate-Issuer-Chain",
  );
  const pckCrls = object(root["pckcacrl"] ?? {}, "collaterals.pckcacrl");
  const common = { fetchedAt: now.toISOString(), from };
  const tcbChain = pemOf(certificates["TCB-Info-Issuer-Chain"]);
  const qeChain = pemOf(certificates["SGX-Enclave-Identity-Issuer-Chain"]);
  const qe = (name: string): SignedItem | undefined => {
    const body = bodyOf(root[name]);
    return body === undefined
      ? undefined
      : { body, issuerChain: qeChain, update: name.endsWith("_early") ? "early" : "standard", ...common };
  };
  const sgx = qe("qeidentity") ?? qe("qeidentity_early");
  const tdx = qe("tdqeidentity") ?? qe("tdqeidentity_early");
  const crl = (name: "processorCrl" | "platformCrl", ca: "processor" | "platform", chain: string): readonly PckCrlItem[] => {
    const der = binaryOf(pckCrls[name]);
    return der === undefined ? [] : [{ ca, der, issuerChain: pemOf(pckChains[chain]), ...common }];
  };
  const rootCaCrl = binaryOf(root["rootcacrl"]);
  return {
    ...emptyBundle(now.toISOString()),
    rootCaCrl: rootCaCrl === undefined ? undefined : { der: rootCaCrl, ...common },
    pckCrls: [...crl("platformCrl", "platform", "PLATFORM"), ...crl("processorCrl", "processor", "PROCESSOR")],
    qeIdentity: { ...(sgx === undefined ? {} : { sgx }), ...(tdx === undefined ? {} : { tdx }) },
    tcbInfos: tcbInfosOf(root["tcbinfos"], tcbChain, common),
  };
}

const tcbMembers: readonly (readonly [string, "sgx" | "tdx", UpdateChannel])[] = [
  ["sgx_tcbinfo", "sgx", "standard"],
  ["sgx_tcbinfo_early", "sgx", "early"],
  ["tdx_tcbinfo", "tdx", "standard"],
  ["tdx_tcbinfo_early", "tdx", "early"],
];

function tcbInfosOf(
  value: unknown,
  issuerChain: string,
  common: { readonly fetchedAt: string; readonly from: string | undefined },
): readonly TcbInfoItem[] {
  if (!Array.isArray(value)) return [];
  return (value as readonly unknown[]).flatMap((item, i) => {
    const record = object(item, `collaterals.tcbinfos[${i}]`);
    const fmspc = typeof record["fmspc"] === "string" ? record["fmspc"].toLowerCase() : "";
    return tcbMembers.flatMap(([name, tee, update]) => {
      const body = bodyOf(record[name]);
      return body === undefined ? [] : [{ tee, fmspc, update, body, issuerChain, ...common }];
    });
  });
}

function bodyOf(value: unknown): Buffer | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value), "utf8");
}

/** Chains may be URL-encoded as in the header they came from. */
function pemOf(value: unknown): string {
  if (typeof value !== "string") return "";
  if (!value.includes("%")) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

function binaryOf(value: unknown): Buffer | undefined {
  if (typeof value !== "string" || value === "") return undefined;
  const text = value.trim();
  if (text.startsWith("-----BEGIN")) return Buffer.from(text.replaceAll(/-----[^-]+-----/g, ""), "base64");
  return /^(?:[0-9a-fA-F]{2})+$/.test(text) ? Buffer.from(text, "hex") : Buffer.from(text, "base64");
}

function object(value: unknown, path: string): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `${path} is not a JSON object` });
  return value as Members;
}
