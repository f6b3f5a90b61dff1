import { parsePemChain } from "../der/pem.ts";
import { parseCertificate } from "../der/x509.ts";
import { extensionOids } from "../der/extensions.ts";
import { AttestationError } from "../errors.ts";
import { newFindingSink } from "../refuse.ts";
import type { CachedAnswer } from "./cache.ts";
import { emptyBundle, type CollateralBundle, type CrlItem, type SignedItem, type UpdateChannel } from "./bundle.ts";
import { fetchAnswer, type FetchOptions } from "./http.ts";

/** Intel's service; a PCCS offers the same paths on its own host. Source: reference C 3.1. */
export const intelPcs = "https://api.trustedservices.intel.com";

/** Which collateral to fetch. */
export interface IntelFetchRequest {
  readonly tee: "tdx" | "sgx";
  /** 12 hex digits; see `platformOf` for a quote's. */
  readonly fmspc: string;
  readonly ca: "platform" | "processor";
  /** Base of the service, without `/sgx/certification`. */
  readonly service?: string | undefined;
  readonly update?: UpdateChannel | undefined;
}

const rootCrlFallback = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/** Intel renews every day and gives 30 days; half a day keeps TCB recoveries visible without asking all the time. */
const freshFor = { ms: 12 * 3_600_000 } as const;

/** Fetches everything that one platform's quotes need. Throws `ERR_COLLATERAL_UNAVAILABLE`, `ERR_COLLATERAL_NOT_FOUND` or `ERR_COLLATERAL_MALFORMED`. */
export async function fetchIntelCollateral(request: IntelFetchRequest, options: FetchOptions): Promise<CollateralBundle> {
  const { tee, ca, service = intelPcs, update = "standard" } = request;
  const fmspc = request.fmspc.toLowerCase();
  if (!/^[0-9a-f]{12}$/.test(fmspc)) throw malformed(`the FMSPC ${JSON.stringify(fmspc.slice(0, 40))} is not 12 hex digits`);
  const base = service.replace(/\/+$/, "");
  const at = (path: string) => `${base}/${path}`;
  const early = update === "early" ? "update=early" : "";
  const tcb = await fetchAnswer(at(`${tee}/certification/v4/tcb?fmspc=${fmspc}${early === "" ? "" : `&${early}`}`), freshFor, options);
  const qe = await fetchAnswer(at(`${tee}/certification/v4/qe/identity${early === "" ? "" : `?${early}`}`), freshFor, options);
  const pckCrl = await fetchAnswer(at(`sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`), freshFor, options);
  const tcbItem = signedItem(tcb, ["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"], update);
  return {
    ...emptyBundle(options.now.toISOString()),
    tcbInfos: [{ tee, fmspc, ...tcbItem }],
    qeIdentity: { [tee]: signedItem(qe, ["sgx-enclave-identity-issuer-chain"], update) },
    pckCrls: [{ ca, ...crlItem(pckCrl, chainHeader(pckCrl, ["sgx-pck-crl-issuer-chain"])) }],
    rootCaCrl: await fetchRootCrl(base, service, tcbItem.issuerChain, options),
  };
}

/** A PCCS caches the root's list; Intel serves it where the root certificate says. */
async function fetchRootCrl(base: string, service: string, issuerChain: string, options: FetchOptions): Promise<CrlItem> {
  const url = service === intelPcs ? (distributionPoint(issuerChain) ?? rootCrlFallback) : `${base}/sgx/certification/v4/rootcacrl`;
  return crlItem(await fetchAnswer(url, freshFor, options), undefined);
}

/** The address inside the root's CRL distribution points; only Intel's own hosts over TLS are followed. */
function distributionPoint(issuerChain: string): string | undefined {
  const root = newFindingSink()
    .attempt(() => parsePemChain(issuerChain, "collateral.issuerChain").map((der) => parseCertificate(der, "collateral.issuerChain")))
    ?.at(-1);
  const text = root?.extensions.get(extensionOids.crlDistributionPoints)?.value.toString("latin1") ?? "";
  return /https:\/\/[a-z0-9.-]+\.trustedservices\.intel\.com\/[A-Za-z0-9._/-]+/.exec(text)?.[0];
}

function signedItem(answer: CachedAnswer, headers: readonly string[], update: UpdateChannel): SignedItem {
  return { body: answer.body, issuerChain: chainHeader(answer, headers), update, fetchedAt: answer.fetchedAt, from: answer.url };
}

/** Issuer chains travel in a header, URL-encoded. */
function chainHeader(answer: CachedAnswer, names: readonly string[]): string {
  const value = names.map((name) => answer.headers[name]).find((found) => found !== undefined);
  if (value === undefined) throw malformed(`the answer of ${answer.url} has no header ${names.join(" or ")}`);
  try {
    return decodeURIComponent(value);
  } catch (cause) {
    throw malformed(`the header ${names.join(" or ")} of ${answer.url} is not URL-encoded`, cause);
  }
}

/** DER as asked for; a PCCS answers hex, and some proxies PEM. */
function crlItem(answer: CachedAnswer, issuerChain: string | undefined): CrlItem {
  const text = Buffer.from(answer.body).toString("latin1").trim();
  const der = /^(?:[0-9a-fA-F]{2})+$/.test(text)
    ? Buffer.from(text, "hex")
    : text.startsWith("-----BEGIN")
      ? Buffer.from(text.replaceAll(/-----[^-]+-----/g, ""), "base64")
      : answer.body;
  return { der, issuerChain, fetchedAt: answer.fetchedAt, from: answer.url };
}

function malformed(message: string, cause?: unknown): AttestationError {
  return new AttestationError("ERR_COLLATERAL_MALFORMED", { message, cause });
}
