/**
 * Trust claims and tiers of an attestation result. Source: RATS AR4SI, section 2.3; EAR, section 3.
 */

import { trustClaims, type TrustVector } from "../../policy/index.ts";

export type TrustTier = "none" | "affirming" | "warning" | "contraindicated";

const order: readonly TrustTier[] = ["none", "affirming", "warning", "contraindicated"];

/** The tier of one claim. */
export function tierOf(value: number): TrustTier {
  if (value >= -1 && value <= 1) return "none";
  if (value >= -32 && value <= 31) return "affirming";
  if (value >= -96 && value <= 95) return "warning";
  return "contraindicated";
}

/** The worst tier of a vector. */
export function statusOf(vector: TrustVector): TrustTier {
  let worst = 0;
  for (const claim of trustClaims) worst = Math.max(worst, order.indexOf(tierOf(vector[claim] ?? 0)));
  return order[worst] ?? "contraindicated";
}
