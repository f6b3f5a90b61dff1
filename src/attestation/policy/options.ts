import type { MaskedChipId } from "../amd/verify.ts";
import type { UpdateChannel } from "../collateral/bundle.ts";
import type { AttestationPolicy } from "./schema.ts";

/** What a policy decides about verification itself: spread into a `VerifyRequest`. */
export function verificationOptionsOf(policy: AttestationPolicy): { readonly maskedChipId: MaskedChipId; readonly update: UpdateChannel } {
  return {
    maskedChipId: policy.snp?.allowMaskedChipId === true ? "leave-to-policy" : "refuse",
    update: policy.collateral.update ?? "standard",
  };
}
