import { ToolError } from "../../errors/index.ts";
import { parseRevocationList } from "../der/crl.ts";
import { parsePemChain } from "../der/pem.ts";
import { parseCertificate } from "../der/x509.ts";
import { parseQeIdentity } from "../intel/qe-identity.ts";
import { parseTcbInfo } from "../intel/tcb-info.ts";
import type { CollateralBundle, CrlItem, Provenance, SignedItem } from "./bundle.ts";
import { splitSignedBody } from "./signed-body.ts";

/** One line of `attest collateral show`. */
export interface CollateralRow {
  readonly item: string;
  /** RFC 3339; `undefined` when the item cannot be read. */
  readonly from: string | undefined;
  readonly until: string | undefined;
  readonly state: "current" | "expired" | "not-yet" | "unreadable";
  /** Whole days until it expires; negative afterwards. */
  readonly daysLeft: number | undefined;
  readonly tcbEvaluationDataNumber?: number | undefined;
  readonly fetchedAt?: string | undefined;
  readonly source?: string | undefined;
  /** Why it cannot be read. */
  readonly problem?: string | undefined;
}

/** What a bundle holds and how long it is good. Windows only: signatures are checked when evidence is verified. */
export function describeBundle(
  bundle: CollateralBundle,
  now: Date,
): { readonly rows: readonly CollateralRow[]; readonly nextExpiry: string | undefined } {
  const describe = (item: string, provenance: Provenance, read: () => Window) => describeRow(item, provenance, read, now);
  const crl = (item: string, value: CrlItem) =>
    describe(item, value, () => {
      const list = parseRevocationList(value.der, item);
      return { from: list.thisUpdate, until: list.nextUpdate };
    });
  const rows = [
    ...(bundle.rootCaCrl === undefined ? [] : [crl("Intel root CRL", bundle.rootCaCrl)]),
    ...bundle.pckCrls.map((item) => crl(`PCK CRL (${item.ca})`, item)),
    ...Object.entries(bundle.qeIdentity).map(([tee, item]) => describe(`QE identity (${tee})`, item, () => qeWindow(item))),
    ...bundle.tcbInfos.map((item) =>
      describe(`TCB info (${item.tee} ${item.fmspc}${item.update === "early" ? ", early" : ""})`, item, () => tcbWindow(item)),
    ),
    ...Object.entries(bundle.amd).flatMap(([product, items]) => [
      ...(items.vcekCrl === undefined ? [] : [crl(`${product} VCEK CRL`, items.vcekCrl)]),
      ...(items.vlekCrl === undefined ? [] : [crl(`${product} VLEK CRL`, items.vlekCrl)]),
      ...(items.vcekChain === undefined ? [] : [describe(`${product} VCEK chain`, {}, () => chainWindow(items.vcekChain ?? ""))]),
      ...(items.vlekChain === undefined ? [] : [describe(`${product} VLEK chain`, {}, () => chainWindow(items.vlekChain ?? ""))]),
    ]),
    ...bundle.vceks.map((item) =>
      describe(`${item.product} VCEK ${item.hwid.slice(0, 16)}… TCB ${item.tcb}`, item, () => certificateWindow(item.der)),
    ),
  ];
  const ends = rows.flatMap(({ until }) => (until === undefined ? [] : [until]));
  return { rows, nextExpiry: ends.toSorted()[0] };
}

interface Window {
  readonly from: number;
  readonly until: number;
  readonly number?: number;
}

function describeRow(item: string, provenance: Provenance, read: () => Window, now: Date): CollateralRow {
  const common = { item, fetchedAt: provenance.fetchedAt, source: provenance.from };
  let window: Window;
  try {
    window = read();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return { ...common, from: undefined, until: undefined, state: "unreadable", daysLeft: undefined, problem: error.message };
  }
  const at = now.getTime();
  return {
    ...common,
    from: new Date(window.from).toISOString(),
    until: new Date(window.until).toISOString(),
    state: at < window.from ? "not-yet" : at > window.until ? "expired" : "current",
    daysLeft: Math.floor((window.until - at) / 86_400_000),
    tcbEvaluationDataNumber: window.number,
  };
}

function tcbWindow(item: SignedItem): Window {
  const info = parseTcbInfo(splitSignedBody(item.body, "tcbInfo").value, "tcbInfo");
  return { from: info.issueDate, until: info.nextUpdate, number: info.tcbEvaluationDataNumber };
}

function qeWindow(item: SignedItem): Window {
  const identity = parseQeIdentity(splitSignedBody(item.body, "enclaveIdentity").value, "qeIdentity");
  return { from: identity.issueDate, until: identity.nextUpdate, number: identity.tcbEvaluationDataNumber };
}

function chainWindow(chain: string): Window {
  const windows = parsePemChain(chain, "chain").map(certificateWindow);
  return { from: Math.max(...windows.map(({ from }) => from)), until: Math.min(...windows.map(({ until }) => until)) };
}

function certificateWindow(der: Uint8Array): Window {
  const certificate = parseCertificate(der, "certificate");
  return { from: certificate.notBefore, until: certificate.notAfter };
}
