import { createHash } from "node:crypto";
import type { CollateralBundle, UpdateChannel } from "../collateral/bundle.ts";
import { platformOf, selectIntelCollateral, type PlatformKey } from "../collateral/select.ts";
import type { FindingSink } from "../refuse.ts";
import { ChainMemory } from "./chain-memory.ts";
import { verifyIntelCollateral, type CollateralContext, type IntelCollateral, type VerifiedIntelCollateral } from "./collateral.ts";
import type { Quote } from "./quote.ts";

/** Collateral that is remembered: one for each family of platforms and kind of TEE, and some that were replaced. */
const maxRemembered = 64;
/** Certificates of hosts whose platform is remembered. */
const maxPlatforms = 256;

/**
 * What a service that judges many quotes need not find out again: which collateral belongs to a host's certificate, and
 * that its signatures and chains hold.
 *
 * Nothing is remembered but what held, and nothing is used but for exactly the same bytes, the same roots and a moment
 * within every window: those of the documents, the lists and the certificates. Otherwise everything is verified anew, so
 * every refusal is found where it always was.
 */
export class IntelMemory {
  readonly #verified = new Map<string, VerifiedIntelCollateral>();
  readonly #digests = new WeakMap<IntelCollateral, string>();
  readonly #platforms = new ChainMemory<PlatformKey>(maxPlatforms);
  readonly #selections = new WeakMap<CollateralBundle, Map<string, IntelCollateral>>();

  /** As {@link selectIntelCollateral}; the same object again for the same bundle and certificate. */
  select(bundle: CollateralBundle, quote: Quote, update: UpdateChannel | undefined): IntelCollateral {
    const { certification } = quote.signature;
    // Without a chain in the quote the choice rests on more than the platform.
    if (certification.kind !== "pck-chain") return selectIntelCollateral(bundle, quote, update);
    const { fmspc, ca } = this.#platformOf(quote, certification.pem);
    const key = `${quote.tee} ${fmspc} ${ca} ${update}`;
    const selections = this.#selections.get(bundle) ?? new Map<string, IntelCollateral>();
    const known = selections.get(key);
    if (known !== undefined) return known;
    const selected = selectIntelCollateral(bundle, quote, update);
    keep(selections, key, selected, maxPlatforms);
    this.#selections.set(bundle, selections);
    return selected;
  }

  /** As {@link verifyIntelCollateral}. */
  verify(raw: IntelCollateral, context: CollateralContext, sink: FindingSink): VerifiedIntelCollateral | undefined {
    const at = context.at.getTime();
    const key = this.#digestOf(raw);
    const known = this.#verified.get(key);
    if (known !== undefined && known.roots === context.roots && isWithin(known, at)) return { ...known, at };
    const verified = verifyIntelCollateral(raw, context, sink);
    if (verified !== undefined) keep(this.#verified, key, verified, maxRemembered);
    return verified;
  }

  #platformOf(quote: Quote, pem: Buffer): PlatformKey {
    const known = this.#platforms.get(pem);
    if (known !== undefined) return known;
    const found = platformOf(quote);
    this.#platforms.set(pem, found);
    return found;
  }

  #digestOf(raw: IntelCollateral): string {
    const known = this.#digests.get(raw);
    if (known !== undefined) return known;
    const hash = createHash("sha256");
    for (const part of [
      raw.rootCaCrl,
      raw.pckCrl,
      raw.tcbInfo?.bytes,
      raw.tcbInfo?.signature,
      raw.tcbInfo?.issuerChain,
      raw.qeIdentity?.bytes,
      raw.qeIdentity?.signature,
      raw.qeIdentity?.issuerChain,
      raw.pckChain,
    ]) {
      hash.update(part === undefined ? "-" : `${Buffer.byteLength(part)}:`);
      if (part !== undefined) hash.update(part);
    }
    const digest = hash.digest("hex");
    this.#digests.set(raw, digest);
    return digest;
  }
}

/** Whether a moment is within every window of verified collateral. */
function isWithin({ validFrom, expiresAt, certificatesExpireAt }: VerifiedIntelCollateral, at: number): boolean {
  return at >= validFrom && at < Math.min(expiresAt, certificatesExpireAt);
}

function keep<Value>(map: Map<string, Value>, key: string, value: Value, max: number): void {
  if (map.size >= max && !map.has(key)) map.clear();
  map.set(key, value);
}
