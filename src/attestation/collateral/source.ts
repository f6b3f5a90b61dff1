import { parseSnpReport } from "../amd/report.ts";
import type { RawEvidence } from "../evidence-format.ts";
import { parseQuote } from "../intel/quote.ts";
import { newFindingSink } from "../refuse.ts";
import { emptyBundle, type CollateralBundle, type UpdateChannel } from "./bundle.ts";
import { memoryCache, type CollateralCache } from "./cache.ts";
import { fetchAmdCollateral } from "./fetch-amd.ts";
import { fetchIntelCollateral } from "./fetch-intel.ts";
import type { FetchOptions } from "./http.ts";
import { mergeBundles } from "./merge.ts";
import { platformOf } from "./select.ts";

/** Finds the collateral that one piece of evidence needs. Throws `ERR_COLLATERAL_UNAVAILABLE` or `ERR_COLLATERAL_NOT_FOUND`. */
export interface CollateralSource {
  /** Whether finding may ask the network: then evidence is checked first, as far as it can be without. */
  readonly reach: "network" | "at-hand";
  /** What is there without asking anybody. */
  readonly atHand: CollateralBundle | undefined;
  find(evidence: RawEvidence, options: { readonly now: Date; readonly signal?: AbortSignal | undefined }): Promise<CollateralBundle>;
}

/** A bundle at hand, for work without a network. */
export function offlineCollateral(bundle: CollateralBundle): CollateralSource {
  return { reach: "at-hand", atHand: bundle, find: () => Promise.resolve(bundle) };
}

/** How to reach the vendors. */
export interface VendorCollateralOptions extends Pick<FetchOptions, "dispatcher" | "maxWaitMs"> {
  readonly cache?: CollateralCache | undefined;
  /** A PCCS, or Intel's service unless told. */
  readonly intelService?: string | undefined;
  readonly amdService?: string | undefined;
  readonly update?: UpdateChannel | undefined;
  /** Items at hand win over nothing, and lose to fresh ones. */
  readonly bundle?: CollateralBundle | undefined;
}

/** Asks Intel's and AMD's services, through a cache. Only to be used where the network may be. */
export function vendorCollateral(options: VendorCollateralOptions = {}): CollateralSource {
  const { cache = memoryCache(), intelService, amdService, update, bundle, dispatcher, maxWaitMs } = options;
  return {
    reach: "network",
    atHand: bundle,
    find: async (evidence, { now, signal }) => {
      const fetch: FetchOptions = { cache, now, signal, dispatcher, maxWaitMs };
      const fetched =
        evidence.tee === "snp"
          ? await findAmd(evidence, amdService, fetch)
          : await findIntel(evidence, { service: intelService, update }, fetch);
      return bundle === undefined ? fetched : mergeBundles(bundle, fetched);
    },
  };
}

async function findIntel(
  evidence: RawEvidence,
  request: { readonly service: string | undefined; readonly update: UpdateChannel | undefined },
  fetch: FetchOptions,
): Promise<CollateralBundle> {
  // A quote that does not parse needs no collateral: it will be refused for what it is.
  const quote = newFindingSink().attempt(() => parseQuote(evidence.bytes));
  const { fmspc, ca } = quote === undefined ? { fmspc: undefined, ca: undefined } : platformOf(quote);
  if (quote === undefined || fmspc === undefined || ca === undefined) return emptyBundle(fetch.now.toISOString());
  return fetchIntelCollateral({ tee: quote.tee, fmspc, ca, ...request }, fetch);
}

async function findAmd(evidence: RawEvidence, service: string | undefined, fetch: FetchOptions): Promise<CollateralBundle> {
  const report = newFindingSink().attempt(() => parseSnpReport(evidence.bytes));
  if (report === undefined) return emptyBundle(fetch.now.toISOString());
  const hasKey = evidence.endorsements?.vek !== undefined || report.signingKey !== "VCEK";
  // With the key at hand only chain and list are wanted, and AMD's slow key service is spared.
  return fetchAmdCollateral({ report: hasKey ? undefined : evidence.bytes, product: report.product, service }, fetch);
}
