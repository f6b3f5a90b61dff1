import { parsePemChain } from "../der/pem.ts";
import { parseCertificate, type Certificate } from "../der/x509.ts";
import type { AmdEndorsements } from "../amd/chain.ts";
import { productRows, type AmdProduct } from "../amd/products.ts";
import type { SnpReport } from "../amd/report.ts";
import { newFindingSink } from "../refuse.ts";
import type { IntelCollateral, SignedJson } from "../intel/collateral.ts";
import { parsePckExtension } from "../intel/pck.ts";
import type { Quote } from "../intel/quote.ts";
import type { CollateralBundle, SignedItem, TcbInfoItem, UpdateChannel } from "./bundle.ts";
import { splitSignedBody } from "./signed-body.ts";

/** What decides which items of a bundle belong to a quote. */
export interface PlatformKey {
  readonly fmspc: string | undefined;
  readonly ca: "platform" | "processor" | undefined;
}

/** The platform that a quote's own certificate names, unverified: only good for finding collateral. */
export function platformOf(quote: Quote): PlatformKey {
  const { certification } = quote.signature;
  if (certification.kind !== "pck-chain" && certification.kind !== "pck-leaf") return { fmspc: undefined, ca: undefined };
  // Whatever is wrong with the chain will be said when it is verified.
  const leaf = newFindingSink().attempt(() => leafOf(certification.pem));
  const extension = leaf === undefined ? undefined : newFindingSink().attempt(() => parsePckExtension(leaf));
  return { fmspc: extension?.fmspc.toString("hex"), ca: caOf(leaf) };
}

function leafOf(pem: Buffer): Certificate | undefined {
  const [der] = parsePemChain(pem, "quote.certificationData");
  return der === undefined ? undefined : parseCertificate(der, "quote.certificationData");
}

function caOf(leaf: Certificate | undefined): PlatformKey["ca"] {
  if (leaf?.issuerCommonName.includes("Platform") === true) return "platform";
  return leaf?.issuerCommonName.includes("Processor") === true ? "processor" : undefined;
}

/** The parts of a bundle that belong to a quote. Falls back to the only candidate there is, so that a mismatch gets its own finding. */
export function selectIntelCollateral(bundle: CollateralBundle, quote: Quote, update: UpdateChannel = "standard"): IntelCollateral {
  const { fmspc, ca } = platformOf(quote);
  const candidates = bundle.tcbInfos.filter(({ tee }) => tee === quote.tee);
  const matching = candidates.filter((item) => item.fmspc === fmspc);
  const tcbInfo = preferred(matching, update) ?? preferred(candidates, update) ?? bundle.tcbInfos[0];
  const qeIdentity = bundle.qeIdentity[quote.tee] ?? bundle.qeIdentity.tdx ?? bundle.qeIdentity.sgx;
  const pckCrl = bundle.pckCrls.find((item) => item.ca === ca) ?? bundle.pckCrls.find((item) => item.ca === "unknown") ?? bundle.pckCrls[0];
  return {
    rootCaCrl: bundle.rootCaCrl?.der,
    pckCrl: pckCrl?.der,
    tcbInfo: tcbInfo === undefined ? undefined : signed(tcbInfo, "tcbInfo"),
    qeIdentity: qeIdentity === undefined ? undefined : signed(qeIdentity, "enclaveIdentity"),
    pckChain: pckChainOf(bundle, quote),
  };
}

function preferred(items: readonly TcbInfoItem[], update: UpdateChannel): TcbInfoItem | undefined {
  return items.find((item) => (item.update ?? "standard") === update) ?? items[0];
}

function signed(item: SignedItem, member: "tcbInfo" | "enclaveIdentity"): SignedJson {
  const { value, signature } = splitSignedBody(item.body, member);
  return { bytes: value, signature, issuerChain: item.issuerChain };
}

function pckChainOf(bundle: CollateralBundle, quote: Quote): string | undefined {
  const { certification } = quote.signature;
  if (certification.kind === "pck-chain") return undefined;
  if (certification.kind === "ppid") {
    const { ppid, cpuSvn, pceSvn } = certification;
    const found = bundle.pckCerts.find(
      (item) => item.ppid === ppid.toString("hex") && item.cpuSvn === cpuSvn.toString("hex") && item.pceSvn === pceSvn,
    );
    if (found !== undefined) return found.chain;
  }
  return bundle.pckCerts.find((item) => item.ppid === "")?.chain ?? bundle.pckCerts[0]?.chain;
}

/** The endorsements of a bundle that belong to a report. */
export function selectAmdEndorsements(bundle: CollateralBundle, report: SnpReport, product: AmdProduct): AmdEndorsements {
  const items = bundle.amd[product];
  const isVlek = report.signingKey === "VLEK";
  const hwid = report.chipId.subarray(0, productRows[product].hwidSize).toString("hex");
  const tcb = report.tcbWords.reported.toString("hex");
  const vcek = isVlek ? undefined : bundle.vceks.find((item) => item.product === product && item.hwid === hwid && item.tcb === tcb);
  const chain = isVlek ? items?.vlekChain : items?.vcekChain;
  const ders = chain === undefined ? [] : parsePemChain(chain, "endorsements.chain");
  return { vek: vcek?.der, ask: ders[0], ark: ders[1], crl: (isVlek ? items?.vlekCrl : items?.vcekCrl)?.der };
}
