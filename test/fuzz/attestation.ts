import {
  importCollateral,
  parseBundle,
  parseEventLog,
  parseInitData,
  parsePolicy,
  parseQuote,
  parseSnpReport,
  recogniseEvidence,
  secureBootOf,
  verifyEvidence,
} from "../../src/attestation/index.ts";
import { parseCertTable } from "../../src/attestation/amd/cert-table.ts";
import { parseEndorsementKey } from "../../src/attestation/amd/vek.ts";
import { parseRevocationList } from "../../src/attestation/der/crl.ts";
import { derOf } from "../../src/attestation/der/pem.ts";
import { parseCertificate } from "../../src/attestation/der/x509.ts";
import { parsePckExtension } from "../../src/attestation/intel/pck.ts";
import { parseQeIdentity } from "../../src/attestation/intel/qe-identity.ts";
import { parseTcbInfo } from "../../src/attestation/intel/tcb-info.ts";
import { dcapPki, intelCollateral, makeQuote, now, qeIdentityJson, tcbInfoJson } from "../attestation/generator/dcap.ts";
import { eventLog, secureBootEvent } from "../attestation/generator/event-log.ts";
import { pem } from "../attestation/generator/pki.ts";
import { amdPki, makeReport } from "../attestation/generator/snp.ts";
import { json, text, type FuzzTarget } from "./run.ts";

const unchecked = { kind: "unchecked", reason: "fuzzing" } as const;

/** Every parser of this room and the whole check. */
export function attestationTargets(): readonly FuzzTarget[] {
  const pki = dcapPki();
  const amd = amdPki();
  const turin = amdPki({ product: "Turin" });
  const intel = intelCollateral(pki);
  const policy = {
    apiVersion: "ociseal/attestation-policy/v1",
    tdx: { mrTd: ["aa".repeat(48)], rtmr: { 1: [] }, eventLog: { secureBoot: true } },
    snp: { minTcb: { Turin: { fmc: 1 } } },
    hosts: { allow: ["csp:x"] },
  };
  const bundle = {
    format: "ociseal-collateral/1",
    createdAt: "2027-01-01T00:00:00Z",
    intel: { tcbInfo: [{ tee: "tdx", fmspc: "90c06f000000", body: "e30=", issuerChain: "" }] },
    amd: { vceks: [] },
  };
  const qvl = { tcb_info: tcbInfoJson(), tcb_info_signature: "00", qe_identity: qeIdentityJson(), pck_crl: "00", root_ca_crl: "00" };
  const certificates = [pki.root.der, pki.intermediate.der, pki.pck.der, pki.signer.der, amd.ask, amd.vek, turin.vek];
  const lists = [intel.rootCaCrl, intel.pckCrl, amd.crl].map((list) => Buffer.from(list ?? []));
  const quotes = (["v3", "v4", "v5-td15", "v5-td15ex"] as const).map((form) => makeQuote(pki, { form }));
  const reports = ([2, 3, 5] as const).map((version) => makeReport({ version }));
  const header = Buffer.concat([
    Buffer.from("63da758de6644564adc5f4b93be8accd", "hex"),
    Buffer.from([48, 0, 0, 0, 8, 0, 0, 0]),
    Buffer.alloc(32),
  ]);
  return [
    { name: "quote", weight: 20, seeds: quotes, run: (input) => void parseQuote(input) },
    { name: "report", weight: 15, seeds: reports, run: (input) => void parseSnpReport(input) },
    { name: "certificate", weight: 20, seeds: certificates, run: (input) => void parsePckExtension(parseCertificate(input, "fuzz")) },
    { name: "endorsement key", weight: 8, seeds: [amd.vek, turin.vek], run: (input) => void parseEndorsementKey(input, "fuzz") },
    { name: "revocation list", weight: 12, seeds: lists, run: (input) => void parseRevocationList(input, "fuzz") },
    {
      name: "PEM",
      weight: 3,
      seeds: [text(pem(pki.pck.der, pki.root.der))],
      run: (input) => void derOf(input, "fuzz").map((der) => parseCertificate(der, "fuzz")),
    },
    { name: "certificate table", weight: 3, seeds: [header], run: (input) => void parseCertTable(input) },
    { name: "event log", weight: 6, seeds: [eventLog([secureBootEvent([1])])], run: (input) => void secureBootOf(parseEventLog(input)) },
    { name: "TCB info", weight: 3, seeds: [text(tcbInfoJson())], run: (input) => void parseTcbInfo(input, "fuzz") },
    { name: "QE identity", weight: 2, seeds: [text(qeIdentityJson())], run: (input) => void parseQeIdentity(input, "fuzz") },
    { name: "collateral", weight: 3, seeds: [json(qvl), json(bundle)], run: (input) => void importCollateral(input, { now }) },
    { name: "bundle", weight: 1, seeds: [json(bundle)], run: (input) => void parseBundle(input) },
    {
      name: "policy",
      weight: 2,
      seeds: [json(policy), json({ version: "1.0", tee_type: "tdx" })],
      run: (input) => void parsePolicy(input),
    },
    {
      name: "init-data",
      weight: 1,
      seeds: [text('version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"a" = "b"\n')],
      run: (input) => void parseInitData(input.toString("utf8")),
    },
    {
      name: "evidence file",
      weight: 2,
      seeds: [...quotes, ...reports, json({ quote: quotes[0]?.toString("base64"), cc_eventlog: null })],
      run: (input) => void recogniseEvidence(input),
    },
    {
      name: "whole check",
      weight: 1,
      seeds: [...quotes, ...reports],
      run: (input) => {
        const result = verifyEvidence({ evidence: input, at: now, reportData: unchecked, initData: unchecked, intel, endorsements: amd });
        if (result.verdict === "accept") throw new Error("evidence of an unknown root was accepted");
      },
    },
  ];
}
