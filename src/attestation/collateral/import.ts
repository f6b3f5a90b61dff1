import { parseJson } from "../../bytes/index.ts";
import { parseRevocationList } from "../der/crl.ts";
import { AttestationError } from "../errors.ts";
import { newFindingSink } from "../refuse.ts";
import { bundleFormat, emptyBundle, maxBundleSize, readBundle, type CollateralBundle, type PckCrlItem, type SignedItem } from "./bundle.ts";
import { joinSignedBody } from "./signed-body.ts";
import { importPcsClientTool } from "./import-pcs-tool.ts";

type Members = Readonly<Record<string, unknown>>;

/**
 * Reads collateral in any of the JSON forms in use: our bundle, dcap-qvl's `QuoteCollateralV3`, the output of Intel's PCS
 * client tool. Throws `ERR_COLLATERAL_MALFORMED`. Only the form is judged here; what is missing or wrong inside an item
 * is a finding when evidence is verified with it.
 */
export function importCollateral(bytes: Uint8Array, options: { readonly now: Date; readonly from?: string | undefined }): CollateralBundle {
  const value = parseJson(bytes, { maxBytes: maxBundleSize, subject: "collateral" });
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw unknownForm();
  const record = value as Members;
  if (record["format"] === bundleFormat) return readBundle(value);
  if ("tcb_info" in record || "qe_identity" in record) return importDcapQvl(record, options);
  if ("collaterals" in record) return importPcsClientTool(record["collaterals"], options);
  throw unknownForm();
}

/** dcap-qvl's form: strings that hold the signed bytes, hex for binaries, PEM chains. Source: reference C 3.3. */
function importDcapQvl(record: Members, { now, from }: { readonly now: Date; readonly from?: string | undefined }): CollateralBundle {
  const fetchedAt = now.toISOString();
  const signed = (name: "tcb_info" | "qe_identity", member: "tcbInfo" | "enclaveIdentity"): SignedItem | undefined => {
    const value = optionalText(record, name);
    if (value === undefined) return undefined;
    return {
      body: joinSignedBody(member, value, optionalText(record, `${name}_signature`) ?? ""),
      issuerChain: optionalText(record, `${name}_issuer_chain`) ?? "",
      fetchedAt,
      from,
    };
  };
  const tcbInfo = signed("tcb_info", "tcbInfo");
  const qeIdentity = signed("qe_identity", "enclaveIdentity");
  const summary = summarise(optionalText(record, "tcb_info"), optionalText(record, "qe_identity"));
  const rootCaCrl = optionalBinary(record, "root_ca_crl");
  const pckCrl = optionalBinary(record, "pck_crl");
  const chain = optionalText(record, "pck_certificate_chain");
  const crlItem: PckCrlItem | undefined =
    pckCrl === undefined
      ? undefined
      : { ca: caOfList(pckCrl), der: pckCrl, issuerChain: optionalText(record, "pck_crl_issuer_chain"), fetchedAt, from };
  return {
    ...emptyBundle(now.toISOString()),
    rootCaCrl: rootCaCrl === undefined ? undefined : { der: rootCaCrl, fetchedAt, from },
    pckCrls: crlItem === undefined ? [] : [crlItem],
    qeIdentity: qeIdentity === undefined ? {} : { [summary.tee]: qeIdentity },
    tcbInfos: tcbInfo === undefined ? [] : [{ ...tcbInfo, tee: summary.tee, fmspc: summary.fmspc }],
    // Without an index of its own: serves every quote that carries no chain, and is verified against it.
    pckCerts: chain === undefined ? [] : [{ ppid: "", cpuSvn: "", pceSvn: 0, chain }],
  };
}

/** Which TEE and platform the documents are about, for finding them again; verification checks both. */
function summarise(tcbInfo: string | undefined, qeIdentity: string | undefined): { readonly tee: "sgx" | "tdx"; readonly fmspc: string } {
  const isTdx = /"id"\s*:\s*"TDX"/.test(tcbInfo ?? "") || (tcbInfo === undefined && /"id"\s*:\s*"TD_QE"/.test(qeIdentity ?? ""));
  const fmspc = /"fmspc"\s*:\s*"([0-9a-fA-F]{12})"/.exec(tcbInfo ?? "")?.[1] ?? "";
  return { tee: isTdx ? "tdx" : "sgx", fmspc: fmspc.toLowerCase() };
}

/** Whose list it is; a broken one belongs to nobody and is tried on every quote, so that verification says what is wrong. */
function caOfList(der: Buffer): PckCrlItem["ca"] {
  const issuer = newFindingSink().attempt(() => parseRevocationList(der, "collateral.pckCrl"))?.issuerCommonName ?? "";
  if (issuer.includes("Platform")) return "platform";
  return issuer.includes("Processor") ? "processor" : "unknown";
}

function optionalText(record: Members, name: string): string | undefined {
  const value = record[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string")
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the member ${name} of the collateral is not a text` });
  return value;
}

/** Hex; what is not hex is kept as its text's bytes, so that verification says what is wrong with it and where. */
function optionalBinary(record: Members, name: string): Buffer | undefined {
  const value = optionalText(record, name);
  if (value === undefined) return undefined;
  return /^(?:[0-9a-fA-F]{2})*$/.test(value) ? Buffer.from(value, "hex") : Buffer.from(value, "utf8");
}

function unknownForm(): AttestationError {
  return new AttestationError("ERR_COLLATERAL_MALFORMED", {
    message:
      "the collateral is of no known form (expected an ociseal bundle, dcap-qvl collateral, or the output of Intel's PCS client tool)",
  });
}
