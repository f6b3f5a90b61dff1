import { eventTypeName, eventTypes } from "../eventlog/event-types.ts";
import type { EventLogOutcome } from "../eventlog/outcome.ts";
import type { Finding } from "../findings.ts";
import type { Verified, VerificationResult } from "../result.ts";
import { newAppraiser, uncheckedFacts, type Appraiser } from "./appraiser.ts";
import { appraiseCollateral, appraiseEnclave, appraiseTcb, appraiseTd } from "./appraise-intel.ts";
import { appraiseSnp } from "./appraise-snp.ts";
import type { AttestationPolicy, EventRule, HostId, TdxRules } from "./schema.ts";
import { refusedVector, trustStatusOf, vectorOf, type TrustStatus, type TrustVector } from "./vector.ts";

/** What a policy says about a verification result. RFC 9334 calls it appraisal; the outcome is part of the Attestation Result. */
export interface Appraisal {
  readonly verdict: "accept" | "reject";
  readonly policy: string;
  /**
   * `identified`: a measurement was compared and matched. `unidentified`: genuine, but nobody said which guest it must
   * be; that must not release a key unless somebody decided so.
   */
  readonly identity: "identified" | "unidentified";
  readonly vector: TrustVector;
  readonly status: TrustStatus;
  /** Of the policy alone; those of verification are in the result. */
  readonly findings: readonly Finding[];
}

/** Appraises a result. Evidence that was refused stays refused, whatever the policy. All rules are looked at. */
export function appraise(result: VerificationResult, policy: AttestationPolicy): Appraisal {
  if (result.verdict === "reject") {
    return {
      verdict: "reject",
      policy: policy.name,
      identity: "unidentified",
      vector: refusedVector,
      status: trustStatusOf(refusedVector),
      findings: [],
    };
  }
  const appraiser = newAppraiser();
  for (const note of policy.notes) appraiser.warn(note.code, note);
  const knownHost = appraiseHost(result, policy, appraiser);
  appraiseBinding(result, policy, appraiser);
  const measured = appraiseTee(result, policy, appraiser);
  const refused = appraiser.findings.some(({ severity }) => severity === "refusal");
  const identified = measured && !appraiser.findings.some(({ code }) => code === "POLICY_MEASUREMENT" || code === "POLICY_SIGNER");
  if (!measured && !refused) {
    appraiser.warn("POLICY_NO_MEASUREMENT", {
      path: "policy",
      message: "the policy compares no measurement: the evidence is genuine, and says nothing about which guest this is",
      hint: "write a policy from known-good evidence: ociseal attest policy create --from EVIDENCE",
    });
  }
  const vulnerable = result.tcbStatus !== undefined && result.tcbStatus !== "UpToDate";
  const vector = vectorOf({ findings: appraiser.findings, identified, knownHost, vulnerable });
  return {
    verdict: refused ? "reject" : "accept",
    policy: policy.name,
    identity: identified ? "identified" : "unidentified",
    vector,
    status: trustStatusOf(vector),
    findings: appraiser.findings,
  };
}

function appraiseTee(result: Verified, policy: AttestationPolicy, appraiser: Appraiser): boolean {
  const { detail, tee } = result;
  const allowed = policy.tees.includes(tee);
  if (detail.kind === "snp" && allowed && policy.snp !== undefined)
    return appraiseSnp(detail.verified, policy.snp, policy.collateral, appraiser);
  if (detail.kind === "dcap" && allowed) {
    const { verified } = detail;
    const { body } = verified.quote;
    if (body.kind === "sgx" && policy.sgx !== undefined) {
      appraiseTcb(verified, policy.sgx, "sgx", appraiser);
      appraiseCollateral(verified, policy.collateral, appraiser);
      return appraiseEnclave(verified, policy.sgx, appraiser);
    }
    if (body.kind !== "sgx" && policy.tdx !== undefined) {
      appraiseTcb(verified, policy.tdx, "tdx", appraiser);
      appraiseCollateral(verified, policy.collateral, appraiser);
      const byEvent = appraiseEventLog(detail.eventLog, policy.tdx, appraiser);
      return appraiseTd(body, policy.tdx, appraiser) || byEvent;
    }
  }
  if (!(detail.kind === "sample" && allowed)) {
    appraiser.refuse("POLICY_TEE_NOT_ALLOWED", {
      path: "policy",
      message: `the policy has no rules for ${tee}`,
      expected: policy.tees.join(", "),
      actual: tee,
    });
  }
  return false;
}

/** A log that failed is refused by every policy; a missing one only where the policy needs it. */
function appraiseEventLog(log: EventLogOutcome, { eventLog: rules }: TdxRules, appraiser: Appraiser): boolean {
  const path = "policy.tdx.eventLog";
  if (log.kind === "failed") {
    appraiser.refuse(log.finding.code, log.finding);
    return false;
  }
  if (log.kind === "absent") {
    appraiser.expect(!rules.require, rules.secureBoot ? "POLICY_SECURE_BOOT" : "POLICY_EVENT_LOG_MISSING", {
      path: rules.secureBoot ? `${path}.secureBoot` : `${path}.require`,
      message: rules.secureBoot
        ? "secure boot can only be proved by the event log, and there is none"
        : "the policy needs the event log, and there is none",
      hint: "send it with the evidence (cc_eventlog), or give it with --event-log",
    });
    return false;
  }
  appraiser.expect(!rules.secureBoot || log.secureBoot === "on", "POLICY_SECURE_BOOT", {
    path: `${path}.secureBoot`,
    message: log.secureBoot === "off" ? "the guest booted with secure boot off" : "the event log does not prove secure boot",
    expected: "on",
    actual: log.secureBoot,
    hint: "enrol keys and enable secure boot in the guest's firmware variables",
  });
  const missing = rules.events.filter((rule) => !holds(rule, log));
  for (const rule of missing) {
    appraiser.refuse("POLICY_EVENT_MISSING", {
      path: `${path}.events`,
      message: `no event of RTMR${rule.rtmr}${rule.type === undefined ? "" : ` of type ${rule.type}`} has an allowed digest`,
      expected: rule.digests.slice(0, 4).join(", "),
    });
  }
  for (const register of rules.onlyListed) {
    const allowed = rules.events.filter(({ rtmr }) => rtmr === register).flatMap(({ digests }) => digests);
    const stranger = log.events.find(
      (event) => event.register === register + 1 && event.type !== eventTypes.noAction && !allowed.includes(event.digest.toString("hex")),
    );
    appraiser.expect(stranger === undefined, "POLICY_EVENT_UNLISTED", {
      path: `${path}.onlyListed`,
      message: `RTMR${register} holds an event that no rule lists`,
      actual: stranger === undefined ? undefined : `${eventTypeName(stranger.type)} ${stranger.digest.toString("hex")}`,
      hint: `if it belongs there, add its digest to the rules for RTMR${register}`,
    });
  }
  // An event that merely occurred identifies nobody: the guest could have appended it. See EventLogRules.
  return (
    rules.events.some(({ rtmr }) => rules.onlyListed.includes(rtmr)) &&
    !appraiser.findings.some(({ code }) => code.startsWith("POLICY_EVENT_"))
  );
}

function holds(rule: EventRule, log: Extract<EventLogOutcome, { kind: "replayed" }>): boolean {
  return log.events.some(
    ({ register, type, digest }) =>
      register === rule.rtmr + 1 &&
      type !== eventTypes.noAction &&
      (rule.type === undefined || eventTypeName(type) === rule.type) &&
      rule.digests.includes(digest.toString("hex")),
  );
}

function appraiseBinding(result: Verified, policy: AttestationPolicy, appraiser: Appraiser): void {
  const { reportData, initData } = policy;
  if (reportData === "required") {
    appraiser.expect(result.checked.reportData, "POLICY_REPORT_DATA", {
      path: "policy.reportData",
      message: "the policy wants report data compared, and nobody said what to expect",
      hint: "give the expected bytes with --report-data",
    });
  } else if (reportData !== undefined) {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts("policy.reportData", "the report data", reportData));
  }
  if (initData === undefined) return;
  if (initData.kind === "unchecked") {
    appraiser.warn("POLICY_UNCHECKED", uncheckedFacts("policy.initData", "the init-data", initData));
    return;
  }
  const field = result.initData ?? Buffer.alloc(0);
  const fits = initData.values.some((value) => {
    const expected = Buffer.alloc(field.length);
    expected.set(Buffer.from(value, "hex").subarray(0, field.length));
    return field.length > 0 && expected.equals(field);
  });
  appraiser.expect(fits, "POLICY_INIT_DATA", {
    path: "policy.initData",
    message: "the guest was started with init-data that the policy does not allow",
    expected: initData.values.slice(0, 4).join(", "),
    actual: field.toString("hex"),
  });
}

/** Identities of the host that the evidence proves. */
function hostsOf({ detail }: Verified): readonly HostId[] {
  switch (detail.kind) {
    case "sample":
      return [];
    case "dcap": {
      const { ppid, platformInstanceId } = detail.verified.pck.extension;
      return [
        { kind: "ppid", value: ppid.toString("hex") },
        ...(platformInstanceId === undefined ? [] : [{ kind: "piid" as const, value: platformInstanceId.toString("hex") }]),
      ];
    }
    case "snp": {
      const { hwid, cspId } = detail.verified.endorsements.key;
      return [
        ...(hwid === undefined ? [] : [{ kind: "chip" as const, value: hwid.toString("hex") }]),
        ...(cspId === undefined ? [] : [{ kind: "csp" as const, value: cspId }]),
      ];
    }
  }
}

function appraiseHost(result: Verified, { hosts }: AttestationPolicy, appraiser: Appraiser): boolean {
  const found = hostsOf(result);
  const among = (list: readonly HostId[]) =>
    found.some((host) => list.some((listed) => listed.kind === host.kind && listed.value === host.value));
  const actual = found.map(({ kind, value }) => `${kind}:${value}`).join(", ") || "none";
  appraiser.expect(!among(hosts.deny), "POLICY_HOST", {
    path: "policy.hosts.deny",
    message: "the host is on the policy's deny list",
    actual,
  });
  if (hosts.allow === undefined) return false;
  const known = among(hosts.allow);
  appraiser.expect(known, "POLICY_HOST", {
    path: "policy.hosts.allow",
    message: "the host is not on the policy's allow list",
    actual,
    hint: "if this host is meant, add one of its identities to policy.hosts.allow",
  });
  return known;
}
