import type { Finding } from "../findings.ts";
import type { TeeName } from "../tee.ts";
import { malformed, optional, readConstraint, readFlag, readList, readObject, readText, readWord } from "./read.ts";
import { readSgxRules, readSvns, readTdxRules } from "./read-intel.ts";
import { readSnpRules, readTcbs } from "./read-snp.ts";
import { noCollateralRules, type AttestationPolicy, type Constraint } from "./schema.ts";

const legacyTees = { tdx: "tdx", sgx: "sgx", snp: "snp", "sev-snp": "snp" } as const;
type RuleTee = (typeof legacyTees)[keyof typeof legacyTees];

const members = [
  "version",
  "name",
  "tee_type",
  "min_tcb_level",
  "allowed_measurements",
  "enforce_debug_disabled",
  "require_secure_boot",
  "runtime_policy",
];

/**
 * Reads the short policy form, `version: "1.0"`, into the full one: `tee_type`, `min_tcb_level`, `allowed_measurements`,
 * `enforce_debug_disabled`, `require_secure_boot`. What hardware cannot attest (`runtime_policy`, secure boot of an SNP
 * guest) is said aloud or refused, never ignored. Reference C 5.1.
 */
export function parseLegacyPolicy(value: unknown): AttestationPolicy {
  const object = readObject(value, "policy", members);
  if (object.members["version"] !== "1.0") throw malformed("policy.version", 'is not "1.0"');
  const named = readConstraint(readWord(Object.keys(legacyTees) as (keyof typeof legacyTees)[]))(
    object.members["tee_type"],
    "policy.tee_type",
  );
  if (named.kind === "unchecked") throw malformed("policy.tee_type", "cannot be unchecked");
  const tees: readonly RuleTee[] = [...new Set(named.values.map((name) => legacyTees[name]))];
  const allowDebug = !(optional(object, "enforce_debug_disabled", readFlag) ?? true);
  const secureBoot = optional(object, "require_secure_boot", readFlag) ?? false;
  const minimum = optional(object, "min_tcb_level", (item, at) => readObject(item, at, ["tdx_tcb", "sgx_tcb", "snp_tcb"]));
  const teeTcb = minimum === undefined ? undefined : optional(minimum, "tdx_tcb", readSvns);
  const sgxTcb = minimum === undefined ? undefined : optional(minimum, "sgx_tcb", readSvns);
  const snpTcb = minimum === undefined ? undefined : optional(minimum, "snp_tcb", readTcbs);
  const pck = sgxTcb === undefined ? undefined : { components: sgxTcb, pceSvn: 0 };
  const measurements = optional(object, "allowed_measurements", readList(readMeasurement));
  const wide = only(measurements, 96);
  const tdx = readTdxRules({}, "policy");
  const snp = readSnpRules({}, "policy");
  const sgx = readSgxRules({}, "policy");
  const name = optional(object, "name", readText) ?? "policy";
  return {
    name,
    source: "supplied",
    tees: tees satisfies readonly TeeName[],
    reportData: undefined,
    initData: undefined,
    hosts: { allow: undefined, deny: [] },
    collateral: noCollateralRules,
    tdx: tees.includes("tdx")
      ? {
          ...tdx,
          allowDebug,
          minTeeTcbSvn: teeTcb,
          minPckTcb: pck,
          mrTd: wide,
          eventLog: { require: secureBoot, secureBoot, events: [], onlyListed: [] },
        }
      : undefined,
    snp: tees.includes("snp")
      ? { ...snp, guestPolicy: { ...snp.guestPolicy, allowDebug }, minTcb: snpTcb, measurement: wide, requireSecureBoot: secureBoot }
      : undefined,
    sgx: tees.includes("sgx") ? { ...sgx, allowDebug, minPckTcb: pck, mrEnclave: only(measurements, 64) } : undefined,
    notes: object.members["runtime_policy"] === undefined ? [] : [runtimePolicyNote],
  };
}

const runtimePolicyNote: Finding = {
  code: "POLICY_NOT_ENFORCED",
  severity: "warning",
  path: "policy.runtime_policy",
  message: "runtime_policy is not enforced by attestation: no hardware measures memory, CPU or network limits",
  hint: "put these settings into the guest's init-data and constrain its digest (initData)",
};

/** `sha384:` and `sha256:` measurements stand in one list; each TEE takes those of its size. */
function readMeasurement(value: unknown, path: string): string {
  const [, algorithm, hex] = /^(sha256|sha384):([0-9a-fA-F]+)$/.exec(readText(value, path)) ?? [];
  if (hex?.length !== (algorithm === "sha384" ? 96 : 64))
    throw malformed(path, "is not a measurement (sha384: and 96 hex digits; sha256: and 64 for SGX)");
  return hex.toLowerCase();
}

function only(measurements: readonly string[] | undefined, digits: number): Constraint<string> | undefined {
  return measurements === undefined ? undefined : { kind: "one-of", values: measurements.filter((hex) => hex.length === digits) };
}
