import { describe, expect, it } from "vitest";
import {
  appraise,
  attestationReport,
  builtInRoots,
  defaultPolicy,
  parsePolicy,
  parseTrustRoots,
  requireAccepted,
  type JsonObject,
  type VerificationResult,
} from "../../src/attestation/index.ts";
import { knownIntermediate, type AmdIssuer } from "../../src/attestation/amd/known-issuers.ts";
import { splitSignedBody } from "../../src/attestation/collateral/signed-body.ts";
import { parseRevocationList } from "../../src/attestation/der/crl.ts";
import { parsePemChain } from "../../src/attestation/der/pem.ts";
import { checkSignature, rsaPssSha384 } from "../../src/attestation/der/signatures.ts";
import { parseCertificate } from "../../src/attestation/der/x509.ts";
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
    const appraisal = appraise(result, defaultPolicy());
    const { outcome, tcbStatus, advisoryIds, defaultPolicy: policyVerdict } = corpusCase.expect;
    expect(result.verdict).toBe(outcome);
    expect(result.tcbStatus ?? null).toBe(tcbStatus ?? null);
    expect(result.advisoryIds).toEqual(advisoryIds ?? result.advisoryIds);
    expect(appraisal).toMatchObject({ verdict: policyVerdict, identity: "unidentified" });
    expect(attestationReport(result, appraisal).policy.verdict).toBe(policyVerdict);
    const refusals = result.findings.filter(({ severity }) => severity === "refusal").map(({ code }) => code);
    expect(refusals).toEqual(outcome === "accept" ? [] : [expectedFindings[id]]);
    expect(observedFacts(result)).toMatchObject(outcome === "accept" ? expectedFacts(corpusCase) : {});
  });

  it.each(cases.filter(({ claims }) => claims !== undefined).map((corpusCase) => [corpusCase.id, corpusCase] as const))(
    "%s has the claims that the manifest decoded",
    (_id, corpusCase) => {
      const { claims } = requireAccepted(verifyCase(corpusCase));
      const expected = corpusCase.claims ?? {};
      expect(Object.keys(expected).filter((name) => claimPaths[name] === undefined && !derivedElsewhere.has(name))).toEqual([]);
      const named = Object.entries(expected).filter(([name]) => claimPaths[name] !== undefined);
      expect(Object.fromEntries(named.map(([name]) => [name, claimAt(claims, claimPaths[name] ?? [])]))).toEqual(Object.fromEntries(named));
      expect(claims).toMatchObject(tcbClaims(expected));
    },
  );

  it.each(cases.filter(({ trust }) => trust.startsWith("synthetic/")).map((corpusCase) => [corpusCase.id, corpusCase] as const))(
    "%s is refused under the built-in roots",
    (_id, corpusCase) => {
      const codes = verifyCase(corpusCase, { roots: undefined }).findings.map(({ code }) => code);
      expect(codes).toContain(
        corpusCase.id === "synthetic/snp/reserved-flipped-unsigned" ? "EVIDENCE_RESERVED_NOT_ZERO" : "TRUST_ROOT_UNKNOWN",
      );
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

  it.each(["Milan", "Genoa", "Turin"] as const)("AMD's certificates for %s are those of the built-in table, and verify", (product) => {
    const file = (role: string) => corpusFile(`trust/amd-${product.toLowerCase()}-${role}.pem`);
    const root = builtInRoots().amd.find((issuer) => issuer.product === product);
    const [arkDer = Buffer.alloc(0)] = parsePemChain(file("ark"), "ark");
    const ark = parseCertificate(arkDer, "ark");
    expect(factsOf(ark)).toEqual(root === undefined ? undefined : factsOf(root));
    for (const role of ["ask", "asvk"] as const) {
      const [der = Buffer.alloc(0)] = parsePemChain(file(role), role);
      const certificate = parseCertificate(der, role);
      const known = knownIntermediate(product, role);
      expect(factsOf(certificate)).toEqual(known === undefined ? undefined : factsOf(known));
      expect(certificate.isCa).toBe(true);
      checkSignature(certificate, rsaPssSha384, { publicKey: ark.publicKey, name: "ARK" });
    }
  });

  it.each(cases.filter(({ trust }) => trust === "amd-production").map((corpusCase) => [corpusCase.id, corpusCase] as const))(
    "%s verifies with AMD's certificates from files, too",
    (id, corpusCase) => {
      const product = id.includes("milan") ? "milan" : id.includes("genoa") ? "genoa" : "turin";
      const file = (role: string) => corpusFile(`trust/amd-${product}-${role}.pem`);
      const endorsements = {
        vek: corpusFile(corpusCase.files["vek"] ?? ""),
        ask: file(id.includes("vlek") ? "asvk" : "ask"),
        ark: file("ark"),
      };
      expect(verifyCase(corpusCase, { endorsements }).verdict).toBe("accept");
      expect(verifyCase(corpusCase, { endorsements: { ...endorsements, ask: file(id.includes("vlek") ? "ask" : "asvk") } }).verdict).toBe(
        "reject",
      );
    },
  );

  it("raw answers of Intel's service keep the bytes that Intel signed", () => {
    const debug = cases.find(({ id }) => id === "tdx/v4-debug");
    const collateral = JSON.parse(corpusFile(debug?.files["collateral"] ?? "").toString("utf8")) as Readonly<Record<string, string>>;
    const tcb = splitSignedBody(corpusFile("pcs-raw/tcb-50806f000000.json"), "tcbInfo");
    const qe = splitSignedBody(corpusFile("pcs-raw/tdx-qe-identity.json"), "enclaveIdentity");
    expect(tcb.value.toString("utf8")).toBe(collateral["tcb_info"]);
    expect(qe.value.toString("utf8")).toBe(collateral["qe_identity"]);
    expect(tcb.signature.toString("hex")).toBe(collateral["tcb_info_signature"]);
    expect(parseRevocationList(corpusFile("pcs-raw/pckcrl-platform.der"), "crl").revoked.size).toBeGreaterThan(20);
    expect(parseRevocationList(corpusFile("pcs-raw/IntelSGXRootCA-crl.der"), "crl").issuerCommonName).toBe("Intel SGX Root CA");
    const [root = Buffer.alloc(0)] = parsePemChain(corpusFile("trust/intel-sgx-root-ca.pem"), "root");
    expect([...builtInRoots().intel]).toEqual([parseCertificate(root, "root").fingerprint]);
    expect([...parseTrustRoots([corpusFile("trust/intel-sgx-root-ca.pem")]).intel]).toEqual([...builtInRoots().intel]);
  });

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

/** What a certificate and a row of the built-in table have in common. */
function factsOf(issuer: Pick<AmdIssuer, "serial" | "notBefore" | "notAfter" | "fingerprint" | "publicKey">) {
  const { serial, notBefore, notAfter, fingerprint, publicKey } = issuer;
  return { serial, notBefore, notAfter, fingerprint, key: publicKey.export({ type: "spki", format: "pem" }) };
}

interface Facts {
  readonly debug?: unknown;
  readonly secureBoot?: unknown;
  readonly platformTcbStatus?: unknown;
  readonly tdxModuleStatus?: unknown;
  readonly qeStatus?: unknown;
}

function observedFacts(result: VerificationResult): Facts {
  if (result.verdict === "reject") return {};
  const { debug, secureBoot } = result.claims;
  if (result.detail.kind !== "dcap") return { debug, secureBoot };
  const { launch } = result.detail.verified.tcb;
  // Before modules had identities their level was part of the platform's; the manifest calls that up to date.
  return {
    debug,
    secureBoot,
    platformTcbStatus: launch.platform.status,
    tdxModuleStatus: launch.module?.status ?? "UpToDate",
    qeStatus: launch.qe.status,
  };
}

function expectedFacts({ expect: expected }: CorpusCase): Facts {
  const names = ["debug", "secureBoot", "platformTcbStatus", "tdxModuleStatus", "qeStatus"];
  return Object.fromEntries(
    names.filter((name) => expected[name] !== undefined && expected[name] !== null).map((name) => [name, expected[name]]),
  );
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

function claimAt(claims: JsonObject, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, member) => (at as Readonly<Record<string, unknown>>)[member], claims);
}

/** The manifest's TCB versions under the names of our claims. */
function tcbClaims(expected: Readonly<Record<string, unknown>>): Readonly<Record<string, number>> {
  const names: Readonly<Record<string, string>> = { fmc: "fmc", bl: "bootloader", tee: "tee", snp: "snp", ucode: "microcode" };
  return Object.fromEntries(
    ["reported", "current", "committed", "launch"].flatMap((word) =>
      Object.entries((expected[`${word}Tcb`] ?? {}) as Readonly<Record<string, number>>).map(([component, level]) => [
        `${word}_tcb_${names[component]}`,
        level,
      ]),
    ),
  );
}
