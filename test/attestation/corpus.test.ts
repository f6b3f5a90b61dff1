import { describe, expect, it } from "vitest";
import { appraise, attestationReport, defaultPolicy, parsePolicy, type JsonObject, type Verified } from "../../src/attestation/index.ts";
import { parseEventLog } from "../../src/attestation/eventlog/parse.ts";
import { replay } from "../../src/attestation/eventlog/replay.ts";
import { secureBootOf } from "../../src/attestation/eventlog/secure-boot.ts";
import { corpusFile, loadCorpus, verifyCase, type CorpusCase } from "./corpus.ts";

const corpus = loadCorpus();
const cases = corpus?.cases ?? [];

/** The finding that a refused case must bring, besides being refused: "it rejects" is not enough, a typo rejects too. */
const expectedFindings: Readonly<Record<string, string>> = {
  "synthetic/dcap/mrsignerseam-mismatch": "TDX_MODULE_FOREIGN",
  "synthetic/dcap/pck-crl-expired": "CRL_EXPIRED",
  "synthetic/dcap/pck-revoked": "PCK_REVOKED",
  "synthetic/dcap/tcb-revoked": "TCB_REVOKED",
  "synthetic/snp/ask-revoked": "CERTIFICATE_REVOKED",
  "synthetic/snp/chip-id-mismatch": "SNP_CHIP_ID_MISMATCH",
  "synthetic/snp/reserved-flipped-unsigned": "EVIDENCE_RESERVED_NOT_ZERO",
};

describe.skipIf(corpus === undefined)("the evidence corpus", () => {
  it("has all the cases that it is known to have", () => {
    expect(cases).toHaveLength(27);
  });

  it.each(cases.map((corpusCase) => [corpusCase.id, corpusCase] as const))("%s is judged as measured", (id, corpusCase) => {
    const result = verifyCase(corpusCase);
    const { outcome, tcbStatus, advisoryIds, defaultPolicy: policyVerdict, debug, secureBoot } = corpusCase.expect;
    expect(result.verdict).toBe(outcome);
    expect(result.tcbStatus ?? null).toBe(tcbStatus ?? null);
    if (advisoryIds !== undefined) expect(result.advisoryIds).toEqual(advisoryIds);
    const appraisal = appraise(result, defaultPolicy());
    expect(appraisal.verdict).toBe(policyVerdict);
    expect(attestationReport(result, appraisal).policy.verdict).toBe(policyVerdict);
    if (result.verdict === "reject") {
      const refusals = result.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => code);
      expect(refusals).toEqual([expectedFindings[id]]);
      return;
    }
    expect(appraisal.identity).toBe("unidentified");
    expect(result.claims["debug"]).toBe(debug);
    if (secureBoot !== undefined) expect(result.claims["secureBoot"]).toBe(secureBoot);
    checkIntelStatus(result, corpusCase);
    checkClaims(result.claims, corpusCase);
  });

  it.each(cases.filter(({ trust }) => trust.startsWith("synthetic/")).map((corpusCase) => [corpusCase.id, corpusCase] as const))(
    "%s is refused under the built-in roots",
    (_id, corpusCase) => {
      const result = verifyCase(corpusCase, { roots: undefined });
      expect(result).toMatchObject({ verdict: "reject" });
      if (corpusCase.id !== "synthetic/snp/reserved-flipped-unsigned")
        expect(result.findings.map(({ code }) => code)).toContain("TRUST_ROOT_UNKNOWN");
    },
  );

  it.each(cases.filter(({ validWindow }) => validWindow !== undefined).map((corpusCase) => [corpusCase.id, corpusCase] as const))(
    "%s keeps its status inside its window and is refused outside",
    (_id, corpusCase) => {
      const [from = "", until = ""] = corpusCase.validWindow ?? [];
      const hour = 3_600_000;
      const verifyAt = (time: number) => verifyCase(corpusCase, { at: new Date(time) });
      for (const time of [Date.parse(from), Date.parse(from) + hour, Date.parse(until) - hour, Date.parse(until)]) {
        expect(verifyAt(time)).toMatchObject({ verdict: "accept", tcbStatus: corpusCase.expect["tcbStatus"] });
      }
      expect(verifyAt(Date.parse(from) - 24 * hour)).toMatchObject({ verdict: "reject" });
      expect(verifyAt(Date.parse(until) + 24 * hour)).toMatchObject({ verdict: "reject" });
    },
  );

  it("says which root was used when it was not the vendor's", () => {
    const [corpusCase] = cases.filter(({ id }) => id === "synthetic/dcap/base-v4");
    expect(corpusCase === undefined ? [] : verifyCase(corpusCase).findings.map(({ code }) => code)).toContain("TRUST_ROOT_SUPPLIED");
  });

  it("proves secure boot from the log that has it on, and refuses it where the log says off", () => {
    const extra = corpus?.extras.find(({ id }) => id === "ccel/ccel-secureboot-on");
    const events = parseEventLog(corpusFile("ccel/ccel-secureboot-on.bin"));
    expect(replay(events).map((value) => value.toString("hex"))).toEqual(Object.values(extra?.["replay"] as JsonObject));
    expect(secureBootOf(events)).toBe("on");
    const google = cases.find(({ id }) => id === "tdx/v4-gcp-ccel");
    if (google === undefined) throw new Error("the corpus lacks its case with an event log");
    const legacy = parsePolicy(JSON.stringify({ version: "1.0", tee_type: "tdx", require_secure_boot: true }));
    const verified = verifyCase(google);
    expect(appraise(verified, legacy)).toMatchObject({ verdict: "reject", findings: [{ code: "POLICY_SECURE_BOOT", actual: "off" }] });
    expect(appraise(verifyCase(google, { eventLog: undefined }), legacy).findings.map(({ code }) => code)).toContain("POLICY_SECURE_BOOT");
  });

  it("refuses a log that does not replay, under every policy", () => {
    const google = cases.find(({ id }) => id === "tdx/v4-gcp-ccel");
    if (google === undefined) throw new Error("the corpus lacks its case with an event log");
    const log = Buffer.from(corpusFile(google.files["ccel"] ?? ""));
    // The first byte of the first event's digest, after the specification event (65 bytes) and 14 bytes of header.
    log[79] = (log[79] ?? 0) ^ 1;
    const result = verifyCase(google, { eventLog: log });
    const appraisal = appraise(result, defaultPolicy());
    expect(appraisal.verdict).toBe("reject");
    expect(appraisal.findings.map(({ code }) => code)).toSatisfy((codes: readonly string[]) =>
      codes.some((code) => code.startsWith("EVENT_LOG_")),
    );
  });
});

function checkIntelStatus(result: Verified, { expect: expected }: CorpusCase): void {
  if (result.detail.kind !== "dcap") return;
  const { launch } = result.detail.verified.tcb;
  if (expected["platformTcbStatus"] !== undefined) expect(launch.platform.status).toBe(expected["platformTcbStatus"]);
  if (expected["tdxModuleStatus"] !== undefined && expected["tdxModuleStatus"] !== null && launch.module !== undefined) {
    expect(launch.module.status).toBe(expected["tdxModuleStatus"]);
  }
  if (expected["qeStatus"] !== undefined) expect(launch.qe.status).toBe(expected["qeStatus"]);
}

/** Where the manifest's decoded claims stand in ours. */
const claimPaths: Readonly<Record<string, readonly string[]>> = {
  mrTd: ["quote", "body", "mr_td"],
  mrConfigId: ["quote", "body", "mr_config_id"],
  mrOwner: ["quote", "body", "mr_owner"],
  rtmr0: ["rtmr_0"],
  rtmr1: ["rtmr_1"],
  rtmr2: ["rtmr_2"],
  rtmr3: ["quote", "body", "rtmr_3"],
  reportData: ["report_data"],
  mrSeam: ["mr_seam"],
  mrSignerSeam: ["quote", "body", "mrsigner_seam"],
  teeTcbSvn: ["quote", "body", "tcb_svn"],
  teeTcbSvn2: ["quote", "body", "tee_tcb_svn2"],
  mrServiceTd: ["quote", "body", "mr_servicetd"],
  tdAttributes: ["quote", "body", "td_attributes"],
  xfam: ["xfam"],
  debug: ["debug"],
  fmspc: ["fmspc"],
  pceId: ["pce_id"],
  pckIssuer: ["pck_issuer"],
  pckCompSvn: ["pck_tcb_components"],
  pceSvn: ["pce_svn"],
  trailingBytes: ["trailing_bytes"],
  mrenclave: ["mr_enclave"],
  mrsigner: ["mr_signer"],
  version: ["version"],
  product: ["product"],
  signingKey: ["signing_key"],
  vmpl: ["vmpl"],
  guestSvn: ["guest_svn"],
  policy: ["policy"],
  debugAllowed: ["policy_debug_allowed"],
  migrateMaAllowed: ["policy_migrate_ma"],
  smtAllowed: ["policy_smt_allowed"],
  platformInfo: ["platform_info"],
  measurement: ["measurement"],
  hostData: ["host_data"],
  idKeyDigest: ["id_key_digest"],
  chipId: ["chip_id"],
  currentVersion: ["current_version"],
  committedVersion: ["committed_version"],
  cpuid: ["cpuid"],
};
const derivedElsewhere = new Set([
  "quoteVersion",
  "body",
  "isvProdId",
  "isvSvn",
  "attributes",
  "reportedTcb",
  "currentTcb",
  "committedTcb",
  "launchTcb",
]);

function checkClaims(claims: JsonObject, { claims: expected = {} }: CorpusCase): void {
  for (const [name, value] of Object.entries(expected)) {
    const path = claimPaths[name];
    if (path !== undefined) {
      const actual = path.reduce<unknown>((at, member) => (at as Readonly<Record<string, unknown>>)[member], claims);
      expect(actual, name).toEqual(value);
      continue;
    }
    expect(derivedElsewhere, `the manifest has a claim that this test does not know: ${name}`).toContain(name);
  }
  for (const word of ["reported", "current", "committed", "launch"]) {
    const tcb = expected[`${word}Tcb`] as Readonly<Record<string, number>> | undefined;
    if (tcb === undefined) continue;
    const names = { fmc: "fmc", bl: "bootloader", tee: "tee", snp: "snp", ucode: "microcode" } as const;
    for (const [component, level] of Object.entries(tcb))
      expect(claims[`${word}_tcb_${names[component as keyof typeof names]}`]).toBe(level);
  }
}
