import type { Finding, FindingCode } from "../findings.ts";

/** The trust claims of an EAR vector that this room speaks about. Source: RATS AR4SI, section 2.3. */
export type VectorClaim = "instance-identity" | "configuration" | "executables" | "hardware";

/** AR4SI values; a claim about which nothing is known is 0. */
export type TrustVector = Readonly<Record<VectorClaim, number>>;

/** The tier of a vector, worst claim first. */
export type TrustStatus = "none" | "affirming" | "warning" | "contraindicated";

/** Which claim a refusal of the policy speaks about. Codes that are not listed are about the hardware. */
const claimOfCode: Readonly<Partial<Record<FindingCode, VectorClaim>>> = {
  POLICY_MEASUREMENT: "executables",
  POLICY_SIGNER: "executables",
  POLICY_IMAGE: "executables",
  POLICY_EVENT_LOG_MISSING: "executables",
  POLICY_EVENT_MISSING: "executables",
  POLICY_EVENT_UNLISTED: "executables",
  EVENT_LOG_MALFORMED: "executables",
  EVENT_LOG_MISMATCH: "executables",
  POLICY_DEBUG: "configuration",
  POLICY_MIGRATION: "configuration",
  POLICY_ATTRIBUTES: "configuration",
  POLICY_SERVICE_TD: "configuration",
  POLICY_SECURE_BOOT: "configuration",
  POLICY_INIT_DATA: "configuration",
  POLICY_VMPL: "configuration",
  POLICY_GUEST: "configuration",
  POLICY_REPORT_DATA: "instance-identity",
  POLICY_HOST: "instance-identity",
};

/** Values of AR4SI that are used. */
const values = {
  nothing: 0,
  approved: 2,
  approvedBootAndRuntime: 3,
  knownVulnerabilities: 32,
  executablesUnrecognised: 33,
  refused: 96,
  unrecognised: 97,
} as const;

/** What the vector is made of. */
export interface VectorFacts {
  readonly findings: readonly Finding[];
  /** Whether a measurement was compared and matched. */
  readonly identified: boolean;
  /** Whether the host was compared and matched. */
  readonly knownHost: boolean;
  /** Genuine hardware, allowed by the policy, with vulnerabilities that its vendor names. */
  readonly vulnerable: boolean;
}

/** The vector of accepted evidence under a policy. */
export function vectorOf(facts: VectorFacts): TrustVector {
  const refused = new Set(
    facts.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => claimOfCode[code] ?? "hardware"),
  );
  const valueOf = (claim: VectorClaim, otherwise: number) => (refused.has(claim) ? values.refused : otherwise);
  return {
    "instance-identity": valueOf("instance-identity", facts.knownHost ? values.approved : values.nothing),
    configuration: valueOf("configuration", values.approved),
    executables: valueOf("executables", facts.identified ? values.approvedBootAndRuntime : values.executablesUnrecognised),
    hardware: valueOf("hardware", facts.vulnerable ? values.knownVulnerabilities : values.approved),
  };
}

/** The vector of evidence that does not hold: nothing about it is known to be genuine. */
export const refusedVector: TrustVector = {
  "instance-identity": values.unrecognised,
  configuration: values.nothing,
  executables: values.executablesUnrecognised,
  hardware: values.unrecognised,
};

/** The worst tier of a vector. Source: EAR (draft-fv-rats-ear), section 3.2. */
export function trustStatusOf(vector: TrustVector): TrustStatus {
  const order: readonly TrustStatus[] = ["none", "affirming", "warning", "contraindicated"];
  const tiers = Object.values(vector).map((value) => {
    if (value >= -1 && value <= 1) return 0;
    if (value >= -32 && value <= 31) return 1;
    return value >= -96 && value <= 95 ? 2 : 3;
  });
  return order[Math.max(...tiers)] ?? "contraindicated";
}
