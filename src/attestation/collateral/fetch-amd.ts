import { splitTcb, productRows, type AmdProduct } from "../amd/products.ts";
import { parseSnpReport } from "../amd/report.ts";
import { AttestationError } from "../errors.ts";
import type { CachedAnswer } from "./cache.ts";
import { emptyBundle, type CollateralBundle, type VcekItem } from "./bundle.ts";
import { fetchAnswer, type FetchOptions } from "./http.ts";

/** AMD's key distribution service. Source: AMD 57230; reference C 3.2. */
export const amdKds = "https://kdsintf.amd.com";

/** Which collateral to fetch. */
export interface AmdFetchRequest {
  /** The report whose endorsement key is wanted; or only a product, for its chains and lists. */
  readonly report?: Uint8Array | undefined;
  /** Needed when the report (version 2) does not name it, or there is none. */
  readonly product?: AmdProduct | undefined;
  readonly service?: string | undefined;
}

/** Chains and lists change rarely; a day keeps a revocation visible. */
const freshFor = { ms: 24 * 3_600_000 } as const;

/**
 * Fetches a product's chains and lists and, for a report signed by a VCEK, the VCEK of its chip and reported TCB (kept for
 * ever: it never changes). VLEKs come from the host only. Throws as `fetchIntelCollateral`.
 */
export async function fetchAmdCollateral(request: AmdFetchRequest, options: FetchOptions): Promise<CollateralBundle> {
  const { service = amdKds } = request;
  const base = service.replace(/\/+$/, "");
  const report = request.report === undefined ? undefined : parseSnpReport(request.report);
  const product = report?.product ?? request.product;
  if (product === undefined) {
    throw new AttestationError("ERR_COLLATERAL_NOT_FOUND", {
      message: "the product is unknown: the report does not name it",
      hint: "name the product: Milan, Genoa or Turin",
    });
  }
  const get = (path: string) => fetchAnswer(`${base}/${path}`, freshFor, options);
  const vcekChain = await get(`vcek/v1/${product}/cert_chain`);
  const vcekCrl = await get(`vcek/v1/${product}/crl`);
  const vlek =
    report?.signingKey === "VLEK"
      ? { chain: await get(`vlek/v1/${product}/cert_chain`), crl: await get(`vlek/v1/${product}/crl`) }
      : undefined;
  const vceks = report === undefined || report.signingKey !== "VCEK" ? [] : [await fetchVcek(base, product, report, options)];
  return {
    ...emptyBundle(options.now.toISOString()),
    amd: {
      [product]: {
        vcekChain: pemText(vcekChain),
        vcekCrl: crl(vcekCrl),
        ...(vlek === undefined ? {} : { vlekChain: pemText(vlek.chain), vlekCrl: crl(vlek.crl) }),
      },
    },
    vceks,
  };
}

async function fetchVcek(
  base: string,
  product: AmdProduct,
  report: ReturnType<typeof parseSnpReport>,
  options: FetchOptions,
): Promise<VcekItem> {
  const hwid = report.chipId.subarray(0, productRows[product].hwidSize).toString("hex");
  if (/^0+$/.test(hwid)) {
    throw new AttestationError("ERR_COLLATERAL_NOT_FOUND", {
      message: "the chip id of the report is masked, so its VCEK cannot be asked for",
      hint: "take the VCEK from the host (the certificate table), and give it with --vek",
    });
  }
  const answer = await fetchAnswer(`${base}/${vcekPath(product, hwid, report.tcbWords.reported)}`, "for-ever", options);
  return { product, hwid, tcb: report.tcbWords.reported.toString("hex"), der: answer.body, fetchedAt: answer.fetchedAt, from: answer.url };
}

/** The path of a VCEK: two digits per level, FMC first where there is one. */
export function vcekPath(product: AmdProduct, hwid: string, reported: Uint8Array): string {
  const tcb = splitTcb(reported, product);
  if (tcb === undefined)
    throw new AttestationError("ERR_COLLATERAL_MALFORMED", { message: `the reported TCB does not fit the layout of ${product}` });
  const digits = (level: number) => String(level).padStart(2, "0");
  const levels = [
    ...(tcb.fmc === undefined ? [] : [`fmcSPL=${digits(tcb.fmc)}`]),
    `blSPL=${digits(tcb.bl)}`,
    `teeSPL=${digits(tcb.tee)}`,
    `snpSPL=${digits(tcb.snp)}`,
    `ucodeSPL=${digits(tcb.ucode)}`,
  ];
  return `vcek/v1/${product}/${hwid}?${levels.join("&")}`;
}

const pemText = (answer: CachedAnswer) => Buffer.from(answer.body).toString("latin1");
const crl = (answer: CachedAnswer) => ({ der: answer.body, fetchedAt: answer.fetchedAt, from: answer.url });
