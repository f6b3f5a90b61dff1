import * as fc from "fast-check";
import { ToolError } from "../../src/errors/index.ts";
import { describe, expect, it } from "vitest";
import {
  appraise,
  createPolicy,
  defaultPolicy,
  explain,
  lintPolicy,
  parsePolicy,
  parseTrustRoots,
  requireAccepted,
  runtimeRegisterAfter,
  trustStatusOf,
  verificationOptionsOf,
  verifyEvidence,
  verifySample,
  type Appraisal,
  type Verified,
} from "../../src/attestation/index.ts";
import {
  dcapPki,
  intelCollateral,
  makeQuote,
  now,
  pckTcb,
  qeIdentityJson,
  tcbInfoJson,
  type QuoteOptions,
  type TcbInfoOptions,
} from "./generator/dcap.ts";
import { eventLog, registersOf, secureBootEvent, type EventSpec } from "./generator/event-log.ts";
import { amdPki, makeReport, type ReportOptions, type SnpOptions } from "./generator/snp.ts";

const unchecked = { kind: "unchecked", reason: "not of interest here" } as const;
const pki = dcapPki();
const roots = parseTrustRoots([pki.root.der]);

function tdx(quote: QuoteOptions = {}, info: TcbInfoOptions = {}, log?: Buffer): Verified {
  const intel = intelCollateral(pki, { tcbInfo: tcbInfoJson(info) });
  return requireAccepted(
    verifyEvidence({ evidence: makeQuote(pki, quote), at: now, reportData: unchecked, initData: unchecked, intel, roots, eventLog: log }),
  );
}

function sgx(): Verified {
  const intel = intelCollateral(pki, { tcbInfo: tcbInfoJson({ tee: "sgx" }), qeIdentity: qeIdentityJson({ tee: "sgx" }) });
  return requireAccepted(
    verifyEvidence({ evidence: makeQuote(pki, { form: "v3" }), at: now, reportData: unchecked, initData: unchecked, intel, roots }),
  );
}

const milan = amdPki();
function snp(report: ReportOptions = {}, endorsements: SnpOptions & { readonly noCrl?: true } = {}): Verified {
  const parts = Object.keys(endorsements).length === 0 ? milan : amdPki(endorsements);
  return requireAccepted(
    verifyEvidence({
      evidence: makeReport(report),
      at: now,
      reportData: unchecked,
      initData: unchecked,
      endorsements: endorsements.noCrl === true ? { ...parts, crl: undefined } : parts,
      roots: parseTrustRoots([parts.ark]),
      maskedChipId: "leave-to-policy",
    }),
  );
}

const v1 = (members: Readonly<Record<string, unknown>>) =>
  parsePolicy(JSON.stringify({ apiVersion: "ociseal/attestation-policy/v1", ...members }));
const legacy = (members: Readonly<Record<string, unknown>>) => parsePolicy(JSON.stringify({ version: "1.0", ...members }));
const refusals = (appraisal: Appraisal) => appraisal.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => code);
const warnings = (appraisal: Appraisal) => appraisal.findings.filter(({ severity }) => severity === "warning").map(({ code }) => code);
const mrTd = "aa".repeat(48);

function errorCodeOf(run: () => unknown): string {
  try {
    run();
    return "none";
  } catch (error) {
    return error instanceof ToolError ? error.code : String(error);
  }
}

describe("parsing a policy", () => {
  it.each([
    ["an unknown member", { tdx: { mrtd: [] } }, 'policy.tdx has the unknown member "mrtd"'],
    ["an unknown member at the top", { tdx: {}, debug: true }, 'unknown member "debug"'],
    ["no rules", {}, "rules for no TEE"],
    ["Revoked as an allowed status", { tdx: { tcbStatus: ["Revoked"] } }, "policy.tdx.tcbStatus[0]"],
    ["a measurement of the wrong size", { tdx: { mrTd: ["aa"] } }, "policy.tdx.mrTd[0]"],
    ["a measurement of the wrong algorithm", { tdx: { mrTd: [`sha256:${mrTd}`] } }, "policy.tdx.mrTd[0]"],
    ["unchecked without a reason", { snp: { measurement: { kind: "unchecked" } } }, "policy.snp.measurement.reason"],
    ["another kind", { snp: { measurement: { kind: "anything", reason: "x" } } }, 'not "unchecked"'],
    [
      "a mask that leaves out what it wants",
      { tdx: { tdAttributes: { mask: "00".repeat(8), value: "0100000000000000" } } },
      "nothing could satisfy",
    ],
    ["FMC on Milan", { snp: { minTcb: { Milan: { fmc: 1 } } } }, 'unknown member "fmc"'],
    ["a host of another form", { tdx: {}, hosts: { allow: ["10.0.0.1"] } }, "policy.hosts.allow[0]"],
    ["a duration of another form", { tdx: {}, collateral: { maxAge: "one month" } }, "policy.collateral.maxAge"],
    [
      "an unchecked event digest",
      { tdx: { eventLog: { events: [{ rtmr: 1, digest: { kind: "unchecked", reason: "x" } }] } } },
      "known by its digest",
    ],
    ["a TEE without rules", { tee: ["tdx", "snp"], tdx: {} }, "allows snp"],
  ])("refuses %s", (_what, members, message) => {
    expect(() => v1(members)).toThrow(message);
  });

  it("refuses other versions, and members twice", () => {
    expect(() => parsePolicy("[]")).toThrow(
      expect.objectContaining({ code: "ERR_ATTESTATION_POLICY_MALFORMED", category: "usage" }) as Error,
    );
    expect(() => parsePolicy('{"apiVersion":"v2","tdx":{}}')).toThrow("policy.apiVersion");
    expect(() => parsePolicy('{"tee_type":"tdx"}')).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('"version": "1.0"') as unknown }),
    );
    expect(() => parsePolicy('{"version":"2.0","tee_type":"tdx"}')).toThrow("policy.version");
    expect(() => parsePolicy('{"version":"1.0","tee_type":"tdx","tee_type":"snp"}')).toThrow("repeats");
    expect(() => legacy({ tee_type: "tpm" })).toThrow("policy.tee_type");
    expect(() => legacy({ tee_type: "tdx", allowed_measurement: [] })).toThrow("unknown member");
  });

  it("never throws anything but its own errors", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(errorCodeOf(() => parsePolicy(text))).toMatch(/^(?:none|ERR_(?:ATTESTATION_POLICY|JSON)_MALFORMED)$/);
      }),
      { numRuns: 300 },
    );
  });
});

describe("appraising a TD", () => {
  const rows: readonly (readonly [string, string, Readonly<Record<string, unknown>>, QuoteOptions])[] = [
    ["debug", "POLICY_DEBUG", {}, { body: (body) => void (body[120] = 1) }],
    ["a reserved TUD bit", "POLICY_DEBUG", {}, { body: (body) => void (body[120] = 0x80) }],
    ["a migratable TD", "POLICY_MIGRATION", {}, { body: (body) => void (body[123] = 0x20) }],
    ["a service TD", "POLICY_SERVICE_TD", {}, { form: "v5-td15", body: (body) => void (body[600] = 1) }],
    ["an outdated TCB", "POLICY_TCB_STATUS", {}, { teeTcbSvn: [4, 1, 3] }],
    ["SEPT_VE_DISABLE missing", "POLICY_ATTRIBUTES", { requireSeptVeDisable: true }, { body: (body) => void (body[123] = 0) }],
    ["other attributes", "POLICY_ATTRIBUTES", { tdAttributes: { mask: "0000001000000000", value: "0000000000000000" } }, {}],
    ["XFAM out of bounds", "POLICY_ATTRIBUTES", { xfam: { fixed1: "0300000000000000", allowed: "e700000000000000" } }, {}],
    ["a TEE TCB below the minimum", "POLICY_TCB_MINIMUM", { minTeeTcbSvn: "060104" }, {}],
    [
      "a PCK TCB below the minimum",
      "POLICY_TCB_MINIMUM",
      { minPckTcb: { components: pckTcb.components.map((svn) => svn + 1), pceSvn: 14 } },
      {},
    ],
    ["an old TCB date", "POLICY_TCB_DATE", { minTcbDate: "2027-01-01" }, {}],
    ["another MRTD", "POLICY_MEASUREMENT", { mrTd: ["bb".repeat(48)] }, {}],
    ["an empty list", "POLICY_MEASUREMENT", { mrTd: [] }, {}],
    ["another RTMR", "POLICY_MEASUREMENT", { rtmr: { 1: ["bb".repeat(48)] } }, {}],
    ["another module build", "POLICY_MEASUREMENT", { mrSeam: ["bb".repeat(48)] }, {}],
    ["a missing event log", "POLICY_EVENT_LOG_MISSING", { eventLog: { require: true } }, {}],
    ["secure boot without a log", "POLICY_SECURE_BOOT", { eventLog: { secureBoot: true } }, {}],
  ];
  it.each(rows)("refuses %s", (_what, code, rules, quote) => {
    const appraisal = appraise(tdx(quote), v1({ tdx: rules }));
    expect(refusals(appraisal)).toEqual([code]);
    expect(appraisal).toMatchObject({
      verdict: "reject",
      identity: "unidentified",
      status: expect.stringMatching(/contraindicated/) as unknown,
    });
  });

  it("accepts what each of these rules asks for when asked for", () => {
    const quote: QuoteOptions = { form: "v5-td15", body: (body) => void ((body[120] = 1), (body[123] = 0x30), (body[600] = 1)) };
    const policy = v1({
      tdx: {
        allowDebug: true,
        allowMigratable: true,
        serviceTd: ["01" + "00".repeat(47)],
        requireSeptVeDisable: true,
        mrTd: [`sha384:${mrTd.toUpperCase()}`],
        minTeeTcbSvn: "0x0601",
        minPckTcb: pckTcb,
      },
    });
    expect(appraise(tdx(quote), policy)).toMatchObject({ verdict: "accept", identity: "identified", status: "affirming" });
  });

  it("allows statuses and advisories by name, and says when it does not look", () => {
    const outdated = tdx({ teeTcbSvn: [4, 1, 3] });
    expect(refusals(appraise(outdated, v1({ tdx: { tcbStatus: ["UpToDate", "OutOfDate"] } })))).toEqual([]);
    expect(refusals(appraise(outdated, v1({ tdx: { tcbStatus: ["OutOfDate"], allowAdvisories: [] } })))).toEqual(["POLICY_ADVISORY"]);
    expect(refusals(appraise(outdated, v1({ tdx: { tcbStatus: ["OutOfDate"], denyAdvisories: ["INTEL-SA-01192"] } })))).toEqual([
      "POLICY_ADVISORY",
    ]);
    const lax = appraise(outdated, v1({ tdx: { tcbStatus: { kind: "unchecked", reason: "hosts are updated on Friday" }, mrTd: [mrTd] } }));
    expect(lax).toMatchObject({ verdict: "accept", identity: "identified", status: "warning", vector: { hardware: 32 } });
    expect(lax.findings).toMatchObject([
      { code: "POLICY_UNCHECKED", message: expect.stringContaining("hosts are updated on Friday") as unknown },
    ]);
  });

  it("explains a shortfall: component, have, need, and what would satisfy it", () => {
    const outdated = tdx({}, { levels: [{ status: "UpToDate", sgx: [4, 4, 20] }, { status: "OutOfDate" }] });
    const text = explain(outdated, appraise(outdated, v1({ tdx: { mrTd: ["bb".repeat(48)] } }))).join("\n");
    expect(text).toContain("SGX component 3: have 2, need 20 for UpToDate");
    expect(text).toContain(`have: ${mrTd}`);
    expect(text).toContain(`need: one of ${"bb".repeat(48)}`);
    expect(text).toContain("platform OutOfDate, module UpToDate, QE UpToDate");
  });

  it("appraises the log: its events, secure boot, and never one that does not replay", () => {
    const kernel: EventSpec = { register: 2, type: 0x80000003, data: Buffer.from("kernel 6.12") };
    const events = [secureBootEvent([1]), kernel];
    const log = eventLog(events);
    const verified = tdx({ rtmr: registersOf(events) }, {}, log);
    const digest = parseDigest(log);
    const rule = { rtmr: 1, type: "EV_EFI_BOOT_SERVICES_APPLICATION", digest: [digest] };
    const withRules = (eventLog: Readonly<Record<string, unknown>>) => appraise(verified, v1({ tdx: { eventLog } }));
    expect(withRules({ secureBoot: true, events: [rule] })).toMatchObject({ verdict: "accept", identity: "unidentified" });
    expect(withRules({ events: [rule], onlyListed: [1] })).toMatchObject({ verdict: "accept", identity: "identified" });
    expect(refusals(withRules({ events: [rule], onlyListed: [0, 1] }))).toEqual(["POLICY_EVENT_UNLISTED"]);
    expect(refusals(appraise(verified, v1({ tdx: { eventLog: { events: [{ ...rule, rtmr: 2 }] } } })))).toEqual(["POLICY_EVENT_MISSING"]);
    expect(refusals(appraise(verified, v1({ tdx: { eventLog: { events: [{ ...rule, digest: ["cc".repeat(48)] }] } } })))).toEqual([
      "POLICY_EVENT_MISSING",
    ]);
    expect(verified.claims).toMatchObject({
      secureBoot: true,
      uefi_event_logs: [{ type_name: "EV_EFI_VARIABLE_DRIVER_CONFIG", digest_matches_event: true }, {}],
    });
    const off = tdx({ rtmr: registersOf([secureBootEvent([0])]) }, {}, eventLog([secureBootEvent([0])]));
    expect(refusals(appraise(off, v1({ tdx: { eventLog: { secureBoot: true } } })))).toEqual(["POLICY_SECURE_BOOT"]);
    const foreign = tdx({}, {}, log);
    for (const policy of [defaultPolicy(), v1({ tdx: {} }), legacy({ tee_type: "tdx" })])
      expect(refusals(appraise(foreign, policy))).toEqual(["EVENT_LOG_MISMATCH"]);
  });

  it("appraises the image that the guest measured", () => {
    const image = `sha256:${"5e".repeat(32)}` as const;
    const other = `sha256:${"0e".repeat(32)}` as const;
    const zero = Buffer.alloc(48);
    const measured = (images: readonly (typeof image)[]) => tdx({ rtmr: [zero, zero, zero, runtimeRegisterAfter(images)] });
    const policy = v1({ tdx: { mrTd: [mrTd], images: [other, image] } });
    expect(appraise(measured([image]), policy)).toMatchObject({ verdict: "accept", identity: "identified" });
    for (const guest of [measured([]), measured([`sha256:${"11".repeat(32)}`]), measured([image, other])])
      expect(refusals(appraise(guest, policy))).toEqual(["POLICY_IMAGE"]);
    expect(warnings(appraise(measured([]), v1({ tdx: { mrTd: [mrTd], images: { kind: "unchecked", reason: "many images" } } })))).toEqual([
      "POLICY_UNCHECKED",
    ]);
    expect(() => v1({ tdx: { images: ["latest"] } })).toThrow("policy.tdx.images[0]");
  });

  it("appraises collateral, binding and host", () => {
    const verified = tdx({ body: (body) => body.fill(0x11, 184, 232) });
    const check = (members: Readonly<Record<string, unknown>>) => refusals(appraise(verified, v1({ tdx: {}, ...members })));
    expect(check({ collateral: { maxAge: "30d" } })).toEqual([]);
    expect(check({ collateral: { maxAge: "2d" } })).toEqual(["POLICY_COLLATERAL_AGE"]);
    expect(check({ collateral: { minTcbEvaluationDataNumber: 20 } })).toEqual(["POLICY_COLLATERAL_NUMBER"]);
    expect(check({ reportData: "required" })).toEqual(["POLICY_REPORT_DATA"]);
    expect(check({ initData: `sha384:${"11".repeat(48)}` })).toEqual([]);
    expect(check({ initData: [`sha256:${"11".repeat(32)}`] })).toEqual(["POLICY_INIT_DATA"]);
    expect(check({ hosts: { allow: [`ppid:${"77".repeat(16)}`] } })).toEqual([]);
    expect(check({ hosts: { allow: [`piid:${"66".repeat(16)}`] } })).toEqual([]);
    expect(check({ hosts: { allow: [] } })).toEqual(["POLICY_HOST"]);
    expect(check({ hosts: { deny: [`ppid:${"77".repeat(16)}`] } })).toEqual(["POLICY_HOST"]);
  });

  it("refuses a TEE that it has no rules for", () => {
    expect(refusals(appraise(tdx(), v1({ snp: {} })))).toEqual(["POLICY_TEE_NOT_ALLOWED"]);
    const sample = verifySample({ tee: "sample", evidence: { svn: "1", report_data: "" }, reportData: Buffer.alloc(0) });
    expect(refusals(appraise(sample, defaultPolicy()))).toEqual(["POLICY_TEE_NOT_ALLOWED"]);
  });
});

/** The digest of the second event of a generated log. */
function parseDigest(log: Buffer): string {
  const first = 65 + 14 + 48 + 4 + secureBootEvent([1]).data.length;
  return log.subarray(first + 14, first + 62).toString("hex");
}

describe("appraising an enclave", () => {
  it("compares measurement, signer, product and SVN", () => {
    const check = (rules: Readonly<Record<string, unknown>>) => refusals(appraise(sgx(), v1({ sgx: rules })));
    expect(check({ mrEnclave: [`sha256:${"ee".repeat(32)}`], mrSigner: ["dd".repeat(32)], isvProdId: 7, minIsvSvn: 3 })).toEqual([]);
    expect(check({ mrEnclave: ["dd".repeat(32)] })).toEqual(["POLICY_MEASUREMENT"]);
    expect(check({ mrSigner: ["ee".repeat(32)] })).toEqual(["POLICY_SIGNER"]);
    expect(check({ isvProdId: 8 })).toEqual(["POLICY_MEASUREMENT"]);
    expect(check({ minIsvSvn: 4 })).toEqual(["POLICY_TCB_MINIMUM"]);
    expect(check({ attributes: { mask: `05${"00".repeat(15)}`, value: `01${"00".repeat(15)}` } })).toEqual(["POLICY_ATTRIBUTES"]);
  });
});

describe("appraising an SNP guest", () => {
  const set = (at: number, value: number) => (report: Buffer) => void (report[at] = value);
  const minTcb = { Milan: { bl: 4, snp: 24, ucode: 219 } };
  const rows: readonly (readonly [string, string, Readonly<Record<string, unknown>>, ReportOptions])[] = [
    ["debug", "POLICY_DEBUG", {}, { change: set(10, 0x0b) }],
    ["a migration agent", "POLICY_MIGRATION", {}, { change: set(10, 0x07) }],
    ["VMPL 1", "POLICY_VMPL", {}, { change: set(0x30, 1) }],
    ["a TCB below the minimum", "POLICY_TCB_MINIMUM", { minTcb: { Milan: { snp: 25 } } }, {}],
    ["a product without a minimum", "POLICY_TCB_MINIMUM", { minTcb: { Genoa: { snp: 1 } } }, {}],
    ["a launch TCB below the minimum", "POLICY_TCB_MINIMUM", { minLaunchTcb: { Milan: { snp: 25 } } }, {}],
    ["provisional firmware", "POLICY_FIRMWARE", { provisionalFirmware: false }, { change: set(0x1e0, 3) }],
    ["an old ABI", "POLICY_FIRMWARE", { minAbi: "1.56" }, {}],
    ["an old build", "POLICY_FIRMWARE", { minBuild: 30 }, {}],
    ["another product", "POLICY_PRODUCT", { products: ["Genoa", "Turin"] }, {}],
    ["another signer", "POLICY_PRODUCT", { signer: ["VLEK"] }, {}],
    ["no cloud", "POLICY_HOST", { cspId: ["CN=x"] }, {}],
    ["SMT of the guest", "POLICY_GUEST", { guestPolicy: { allowSmt: false } }, { change: set(10, 3) }],
    ["several sockets", "POLICY_GUEST", { guestPolicy: { requireSingleSocket: true } }, {}],
    ["no ciphertext hiding", "POLICY_GUEST", { guestPolicy: { requireCiphertextHiding: true } }, {}],
    ["no alias check", "POLICY_PLATFORM", { platform: { requireAliasCheck: true } }, { change: set(0x40, 5) }],
    ["no TSME", "POLICY_PLATFORM", { platform: { requireTsme: true } }, {}],
    ["SMT of the platform", "POLICY_PLATFORM", { platform: { allowSmt: false } }, {}],
    ["no mitigations", "POLICY_MITIGATIONS", { mitigations: { launch: "0x1" } }, {}],
    ["a guest SVN below the minimum", "POLICY_TCB_MINIMUM", { minGuestSvn: 1 }, {}],
    ["another measurement", "POLICY_MEASUREMENT", { measurement: ["cc".repeat(48)] }, {}],
    ["another host data", "POLICY_INIT_DATA", { hostData: ["cc".repeat(32)] }, {}],
    ["another id key", "POLICY_SIGNER", { idKeyDigest: ["cc".repeat(48)] }, {}],
    ["a masked chip id", "POLICY_HOST", {}, { change: (report) => report.fill(0, 0x1a0, 0x1e0) }],
  ];
  it.each(rows)("refuses %s", (_what, code, rules, report) => {
    expect(refusals(appraise(snp(report), v1({ snp: { minTcb, ...rules } })))).toEqual([code]);
  });

  it("decides about a masked chip id where a policy says so", () => {
    const policy = v1({ snp: { allowMaskedChipId: true } });
    expect(verificationOptionsOf(policy)).toEqual({ maskedChipId: "leave-to-policy", update: "standard" });
    expect(refusals(appraise(snp({ change: (report) => report.fill(0, 0x1a0, 0x1e0) }), policy))).toEqual([]);
  });

  it("says aloud what it cannot or does not check", () => {
    expect(warnings(appraise(snp(), v1({ snp: {} })))).toEqual(["POLICY_NO_MINIMUM_TCB", "POLICY_NO_MEASUREMENT"]);
    expect(refusals(appraise(snp({}, { noCrl: true }), v1({ snp: { minTcb }, collateral: { revocation: "require" } })))).toEqual([
      "POLICY_REVOCATION",
    ]);
    const reason = { kind: "unchecked", reason: "air-gapped" };
    expect(
      warnings(
        appraise(snp({}, { noCrl: true }), v1({ snp: { minTcb, measurement: ["ab".repeat(48)] }, collateral: { revocation: reason } })),
      ),
    ).toEqual(["POLICY_UNCHECKED"]);
    expect(refusals(appraise(snp(), v1({ snp: { minTcb }, hosts: { allow: [`chip:${"c1".repeat(64)}`] } })))).toEqual([]);
  });
});

describe("the short policy form", () => {
  it("asks for what it says, component by component", () => {
    const policy = legacy({
      tee_type: "tdx",
      min_tcb_level: { tdx_tcb: "0x03000000" },
      allowed_measurements: [`sha384:${mrTd}`],
      enforce_debug_disabled: true,
    });
    expect(appraise(tdx(), policy)).toMatchObject({ verdict: "accept", identity: "identified" });
    expect(refusals(appraise(tdx(), legacy({ tee_type: "tdx", min_tcb_level: { tdx_tcb: "0x07000000" } })))).toEqual([
      "POLICY_TCB_MINIMUM",
    ]);
    expect(refusals(appraise(tdx(), legacy({ tee_type: "tdx", allowed_measurements: [] })))).toEqual(["POLICY_MEASUREMENT"]);
    expect(refusals(appraise(tdx({ body: (body) => void (body[120] = 1) }), legacy({ tee_type: "tdx" })))).toEqual(["POLICY_DEBUG"]);
    expect(
      refusals(appraise(tdx({ body: (body) => void (body[120] = 1) }), legacy({ tee_type: "tdx", enforce_debug_disabled: false }))),
    ).toEqual([]);
    expect(refusals(appraise(tdx(), legacy({ tee_type: ["snp", "sgx"] })))).toEqual(["POLICY_TEE_NOT_ALLOWED"]);
    expect(
      refusals(
        appraise(
          snp(),
          legacy({
            tee_type: "sev-snp",
            allowed_measurements: [`sha384:${"ab".repeat(48)}`],
            min_tcb_level: { snp_tcb: { Milan: { snp: 24 } } },
          }),
        ),
      ),
    ).toEqual([]);
  });

  it("refuses secure boot of SNP, which no report can prove, and says that runtime settings are not attested", () => {
    expect(refusals(appraise(snp(), legacy({ tee_type: "snp", require_secure_boot: true })))).toEqual(["POLICY_SECURE_BOOT"]);
    expect(warnings(appraise(tdx(), legacy({ tee_type: "tdx", runtime_policy: { max_cpus: 4 } })))).toContain("POLICY_NOT_ENFORCED");
  });
});

describe("a policy made from evidence", () => {
  it("accepts the guest that it was made from, and no other", () => {
    const events = [
      secureBootEvent([1]),
      { register: 2, type: 4, data: Buffer.from("loader") },
      { register: 3, type: 4, data: Buffer.from("command line") },
    ];
    const good = tdx({ rtmr: registersOf(events), body: (body) => body.fill(0x22, 184, 232) }, {}, eventLog(events));
    const policy = parsePolicy(JSON.stringify(createPolicy(good, { name: "web" })));
    const bound: Verified = { ...good, checked: { reportData: true, initData: false } };
    expect(appraise(bound, policy)).toMatchObject({ verdict: "accept", identity: "identified", policy: "web" });
    expect(refusals(appraise(good, policy))).toEqual(["POLICY_REPORT_DATA"]);
    expect(lintPolicy(policy)).toEqual([]);
    expect(refusals(appraise({ ...tdx(), checked: bound.checked }, policy))).toEqual([
      "POLICY_INIT_DATA",
      "POLICY_SECURE_BOOT",
      "POLICY_MEASUREMENT",
      "POLICY_MEASUREMENT",
    ]);
  });

  it.each([
    ["snp", () => snp()],
    ["an SNP guest with a VLEK", () => snp({ kind: "VLEK" }, { kind: "VLEK" })],
    ["an SNP guest without a list", () => snp({}, { noCrl: true })],
    ["an enclave", sgx],
  ])("works for %s", (_what, make) => {
    const good: Verified = { ...make(), checked: { reportData: true, initData: true } };
    const policy = parsePolicy(JSON.stringify(createPolicy(good, { name: "made" })));
    expect(refusals(appraise(good, policy))).toEqual([]);
    expect(appraise(good, policy).identity).toBe("identified");
  });

  it("cannot be made from the sample TEE", () => {
    const sample = requireAccepted(verifySample({ tee: "sample", evidence: { svn: "1", report_data: "" }, reportData: Buffer.alloc(0) }));
    expect(() => createPolicy(sample, { name: "x" })).toThrow("no measurements");
  });
});

describe("lint", () => {
  const codes = (members: Readonly<Record<string, unknown>>) => lintPolicy(v1(members)).map(({ code, path }) => `${code} ${path}`);
  it("finds checks that nobody does and checks that nothing can pass", () => {
    expect(codes({ tdx: {} })).toEqual(["POLICY_UNCHECKED policy.reportData", "POLICY_NO_MEASUREMENT policy.tdx"]);
    expect(
      codes({
        reportData: "required",
        tdx: { mrTd: [], allowDebug: true, tcbStatus: [], minTeeTcbSvn: "ff".repeat(16), rtmr: { 0: [mrTd] } },
      }),
    ).toEqual([
      "POLICY_UNSATISFIABLE policy.tdx.mrTd",
      "POLICY_UNSATISFIABLE policy.tdx.minTeeTcbSvn",
      "POLICY_UNSATISFIABLE policy.tdx.tcbStatus",
      "POLICY_DEBUG policy.tdx.allowDebug",
      "POLICY_MEASUREMENT policy.tdx.rtmr.0",
    ]);
    expect(codes({ reportData: "required", tdx: { mrTd: [mrTd], eventLog: { events: [{ rtmr: 1, digest: [mrTd] }] } } })).toEqual([
      "POLICY_EVENT_UNLISTED policy.tdx.eventLog.events",
    ]);
    expect(codes({ reportData: "required", snp: { measurement: ["ab".repeat(48)], signer: ["VLEK"] } })).toEqual([
      "POLICY_NO_MINIMUM_TCB policy.snp.minTcb",
      "POLICY_REVOCATION policy.collateral.revocation",
      "POLICY_HOST policy.snp.cspId",
    ]);
    const placeholder = lintPolicy(
      legacy({ tee_type: "sgx", min_tcb_level: { sgx_tcb: `0x${"ff".repeat(8)}` }, allowed_measurements: [`sha256:${"ee".repeat(32)}`] }),
    );
    expect(placeholder.map(({ code }) => code)).toContain("POLICY_UNSATISFIABLE");
  });
});

describe("the trust vector", () => {
  it("has the worst tier of its claims", () => {
    const vector = (hardware: number) => ({ "instance-identity": 0, configuration: 2, executables: 3, hardware });
    expect([2, 32, 96, 97, -1, -33].map((value) => trustStatusOf(vector(value)))).toEqual([
      "affirming",
      "warning",
      "contraindicated",
      "contraindicated",
      "affirming",
      "warning",
    ]);
    expect(appraise(snp(), defaultPolicy())).toMatchObject({
      status: "warning",
      vector: { executables: 33, hardware: 2, configuration: 2 },
    });
    const refused = verifyEvidence({ evidence: Buffer.alloc(1184), at: now, reportData: unchecked, initData: unchecked });
    expect(appraise(refused, defaultPolicy())).toMatchObject({ verdict: "reject", status: "contraindicated" });
  });
});
