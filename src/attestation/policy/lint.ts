import type { Finding, FindingCode } from "../findings.ts";
import type { AttestationPolicy, Constraint, SgxRules, SnpRules, TdxRules } from "./schema.ts";

/** SVNs above this occur on no platform that Intel sells (255 alone marks an unused component). */
const highestRealSvn = 64;
const mostUnusedComponents = 2;

/**
 * What is doubtful about a policy that parses: checks that nobody does, and checks that nothing can pass. An empty list
 * means that nothing was found. Reads nothing but the policy.
 */
export function lintPolicy(policy: AttestationPolicy): readonly Finding[] {
  const findings: Finding[] = [...policy.notes];
  const warn = (code: FindingCode, path: string, message: string, hint?: string) =>
    void findings.push({ code, severity: "warning", path, message, hint });
  if (policy.reportData === undefined) {
    warn(
      "POLICY_UNCHECKED",
      "policy.reportData",
      "nothing demands that report data is compared, so old evidence of somebody else would pass",
      'write "reportData": "required"',
    );
  }
  if (policy.tdx !== undefined) lintTdx(policy.tdx, warn);
  if (policy.sgx !== undefined) lintSgx(policy.sgx, warn);
  if (policy.snp !== undefined) lintSnp(policy.snp, policy, warn);
  if (policy.hosts.allow?.length === 0) warn("POLICY_UNSATISFIABLE", "policy.hosts.allow", "the list is empty, so no host is allowed");
  return findings;
}

type Warn = (code: FindingCode, path: string, message: string, hint?: string) => void;

function lintMeasurements(path: string, members: Readonly<Record<string, Constraint<string> | undefined>>, warn: Warn): void {
  const given = Object.entries(members).filter(([, constraint]) => constraint !== undefined);
  if (given.length === 0) {
    warn(
      "POLICY_NO_MEASUREMENT",
      path,
      "no measurement is compared, so any guest on such hardware would pass",
      "ociseal attest policy create --from EVIDENCE writes them from a known-good guest",
    );
  }
  for (const [name, constraint] of given) {
    if (constraint?.kind === "one-of" && constraint.values.length === 0)
      warn("POLICY_UNSATISFIABLE", `${path}.${name}`, "the list is empty, so nothing can satisfy it");
  }
}

function lintSvns(path: string, components: readonly number[] | undefined, warn: Warn): void {
  const unused = components?.filter((svn) => svn === 255).length ?? 0;
  if (components?.some((svn) => svn > highestRealSvn && svn !== 255) === true || unused > mostUnusedComponents) {
    warn(
      "POLICY_UNSATISFIABLE",
      path,
      "the minimum is far above what any platform reports: nothing satisfies it",
      "use tcbStatus to say how current a platform must be",
    );
  }
}

function lintTdx(rules: TdxRules, warn: Warn): void {
  const path = "policy.tdx";
  lintMeasurements(path, { mrTd: rules.mrTd, ...Object.fromEntries(rules.rtmr.map((constraint, i) => [`rtmr.${i}`, constraint])) }, warn);
  lintSvns(`${path}.minTeeTcbSvn`, rules.minTeeTcbSvn, warn);
  lintSvns(`${path}.minPckTcb`, rules.minPckTcb?.components, warn);
  lintStatus(path, rules.tcbStatus, warn);
  const open = [...new Set(rules.eventLog.events.map(({ rtmr }) => rtmr))].filter((rtmr) => !rules.eventLog.onlyListed.includes(rtmr));
  if (open.length > 0) {
    warn(
      "POLICY_EVENT_UNLISTED",
      `${path}.eventLog.events`,
      `an event in RTMR${open.join(", RTMR")} only has to occur: a guest that booted something else can append it afterwards`,
      `list every event of the register and add it to eventLog.onlyListed`,
    );
  }
  if (rules.allowDebug) warn("POLICY_DEBUG", `${path}.allowDebug`, "debuggable guests are allowed: their host can read everything");
  if (rules.rtmr[0]?.kind === "one-of" && rules.rtmr[0].values.length > 0) {
    warn(
      "POLICY_MEASUREMENT",
      `${path}.rtmr.0`,
      "RTMR0 differs with the shape of the virtual machine (CPUs, memory, devices)",
      "match events of the log instead (eventLog.events)",
    );
  }
}

function lintSgx(rules: SgxRules, warn: Warn): void {
  lintMeasurements("policy.sgx", { mrEnclave: rules.mrEnclave, mrSigner: rules.mrSigner }, warn);
  lintSvns("policy.sgx.minPckTcb", rules.minPckTcb?.components, warn);
  lintStatus("policy.sgx", rules.tcbStatus, warn);
  if (rules.allowDebug) warn("POLICY_DEBUG", "policy.sgx.allowDebug", "debuggable enclaves are allowed: their host can read everything");
}

function lintStatus(path: string, tcbStatus: TdxRules["tcbStatus"], warn: Warn): void {
  if (tcbStatus.kind === "unchecked") warn("POLICY_UNCHECKED", `${path}.tcbStatus`, `the TCB status is not checked: ${tcbStatus.reason}`);
  else if (tcbStatus.values.length === 0) warn("POLICY_UNSATISFIABLE", `${path}.tcbStatus`, "the list is empty, so no platform is allowed");
}

function lintSnp(rules: SnpRules, policy: AttestationPolicy, warn: Warn): void {
  const path = "policy.snp";
  lintMeasurements(path, { measurement: rules.measurement, idKeyDigest: rules.idKeyDigest, authorKeyDigest: rules.authorKeyDigest }, warn);
  if (rules.minTcb === undefined)
    warn(
      "POLICY_NO_MINIMUM_TCB",
      `${path}.minTcb`,
      "there is no minimum TCB, and AMD publishes no verdict: outdated firmware would pass",
      "take the minimums from AMD's security bulletins, per product",
    );
  if (policy.collateral.revocation === undefined)
    warn("POLICY_REVOCATION", "policy.collateral.revocation", "nothing demands AMD's revocation list", 'write "revocation": "require"');
  if (rules.guestPolicy.allowDebug)
    warn("POLICY_DEBUG", `${path}.guestPolicy.allowDebug`, "debuggable guests are allowed: their host can read everything");
  if (rules.requireSecureBoot)
    warn(
      "POLICY_UNSATISFIABLE",
      "policy.require_secure_boot",
      "an SNP report cannot prove secure boot, so every SNP guest is refused",
      "constrain the measurement of a firmware that enforces it",
    );
  if (rules.signer?.kind === "one-of" && rules.signer.values.includes("VLEK") && rules.cspId === undefined) {
    warn("POLICY_HOST", `${path}.cspId`, "VLEKs are allowed and no cloud is named: any cloud's would pass", "name the cloud in cspId");
  }
}
