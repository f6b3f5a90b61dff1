import { readSgxRules, readTdxRules } from "./read-intel.ts";
import { readSnpRules } from "./read-snp.ts";
import { noCollateralRules, type AttestationPolicy } from "./schema.ts";

/**
 * The policy when none is given: TCB status `UpToDate`, no debug, no migration, no service TD, VMPL 0, an event log that
 * replays if there is one. It identifies nobody (no measurement is compared), so it says that the evidence is genuine and
 * current, and no more: not enough to release a key on.
 */
export function defaultPolicy(): AttestationPolicy {
  return {
    name: "built-in default",
    source: "built-in",
    tees: ["tdx", "sgx", "snp"],
    reportData: undefined,
    initData: undefined,
    hosts: { allow: undefined, deny: [] },
    collateral: {
      ...noCollateralRules,
      revocation: { kind: "unchecked", reason: "the built-in policy takes AMD reports without a revocation list" },
    },
    tdx: readTdxRules({}, "policy.tdx"),
    sgx: readSgxRules({}, "policy.sgx"),
    snp: readSnpRules({}, "policy.snp"),
    notes: [],
  };
}
