import { verify } from "node:crypto";
import {
  newFindingSink,
  parseQuote,
  parseSnpReport,
  parseTrustRoots,
  verifyEndorsements,
  verifyEvidence,
  verifyIntelCollateral,
  verifyQuote,
  verifySnpReport,
  type TrustRoots,
} from "../src/attestation/index.ts";
import { dcapPki, intelCollateral, makeQuote, now } from "../test/attestation/generator/dcap.ts";
import { amdPki, makeReport } from "../test/attestation/generator/snp.ts";

/** CPU time of one run, which a busy machine does not distort as it does wall time. */
export interface AttestationTiming {
  readonly what: string;
  readonly cpuMs: number;
  /** What the issue allows; `undefined` for comparison rows. */
  readonly limitMs: number | undefined;
  /** Times the CPU time of the bare signature checks of the same evidence. */
  readonly ratio: number | undefined;
}

const unchecked = { kind: "unchecked", reason: "a benchmark" } as const;

/** Times whole checks (parsing, chains, lists, bindings, status, claims) against the bare signature checks in them. */
export function benchAttestation(runs = 200): readonly AttestationTiming[] {
  const pki = dcapPki();
  const quote = makeQuote(pki, { form: "v5-td15" });
  const intel = intelCollateral(pki);
  const intelRoots = parseTrustRoots([pki.root.der]);
  const amd = amdPki();
  const report = makeReport();
  const amdRoots = parseTrustRoots([amd.ark]);
  const common = { at: now, reportData: unchecked, initData: unchecked } as const;
  const tdx = cpuMs(runs, () => accept(verifyEvidence({ ...common, evidence: quote, intel, roots: intelRoots })));
  const snp = cpuMs(runs, () => accept(verifyEvidence({ ...common, evidence: report, endorsements: amd, roots: amdRoots })));
  const preparedTdx = cpuMs(runs, preparedQuote(quote, intel, intelRoots));
  const preparedSnp = cpuMs(runs, preparedReport(report, amd, amdRoots));
  // TDX: TCB signer twice, root CRL, TCB info, QE identity, intermediate, PCK, PCK CRL, QE report, quote; SNP: ASK, VCEK, CRL, report.
  const bareTdx = bareP256(runs) * 10;
  const bareSnp = bareAmd(runs, report, amd);
  return [
    { what: "TDX quote, everything", cpuMs: tdx, limitMs: 6, ratio: tdx / bareTdx },
    { what: "TDX quote, collateral verified before", cpuMs: preparedTdx, limitMs: undefined, ratio: preparedTdx / bareTdx },
    { what: "TDX bare signature checks (10 P-256)", cpuMs: bareTdx, limitMs: undefined, ratio: 1 },
    { what: "SNP report, everything", cpuMs: snp, limitMs: 3, ratio: snp / bareSnp },
    { what: "SNP report, chain verified before", cpuMs: preparedSnp, limitMs: undefined, ratio: preparedSnp / bareSnp },
    { what: "SNP bare signature checks (3 RSA-4096, 1 P-384)", cpuMs: bareSnp, limitMs: undefined, ratio: 1 },
  ];
}

function preparedQuote(quote: Buffer, intel: ReturnType<typeof intelCollateral>, roots: TrustRoots): () => void {
  const collateral = verifyIntelCollateral(intel, { roots, at: now }, newFindingSink());
  return () => {
    if (collateral === undefined || verifyQuote(parseQuote(quote), collateral, newFindingSink()) === undefined)
      throw new Error("the quote was refused");
  };
}

function preparedReport(report: Buffer, amd: ReturnType<typeof amdPki>, roots: TrustRoots): () => void {
  const endorsements = verifyEndorsements(amd, { roots, at: now }, newFindingSink());
  return () => {
    if (
      endorsements === undefined ||
      verifySnpReport(parseSnpReport(report), endorsements, { maskedChipId: "refuse" }, newFindingSink()) === undefined
    ) {
      throw new Error("the report was refused");
    }
  };
}

function bareP256(runs: number): number {
  const pki = dcapPki();
  const { tcbInfo } = intelCollateral(pki);
  return cpuMs(runs, () => {
    if (
      tcbInfo === undefined ||
      !verify("sha256", tcbInfo.bytes, { key: pki.signer.key.publicKey, dsaEncoding: "ieee-p1363" }, tcbInfo.signature)
    )
      throw new Error("wrong signature");
  });
}

function bareAmd(runs: number, report: Buffer, amd: ReturnType<typeof amdPki>): number {
  const endorsements = verifyEndorsements(amd, { roots: parseTrustRoots([amd.ark]), at: now }, newFindingSink());
  if (endorsements === undefined) throw new Error("the chain was refused");
  const { key, intermediate, crl } = endorsements;
  const { certificate } = key;
  const parsed = parseSnpReport(report);
  const pss = { padding: 6, saltLength: 48 } as const;
  return cpuMs(runs, () => {
    verify("sha384", certificate.tbs, { key: intermediate.publicKey, ...pss }, certificate.signature);
    verify("sha384", certificate.tbs, { key: intermediate.publicKey, ...pss }, certificate.signature);
    verify("sha384", crl?.tbs ?? certificate.tbs, { key: intermediate.publicKey, ...pss }, crl?.signature ?? certificate.signature);
    verify("sha384", parsed.signedBytes, { key: certificate.publicKey, dsaEncoding: "ieee-p1363" }, parsed.signature);
  });
}

function accept(result: ReturnType<typeof verifyEvidence>): void {
  if (result.verdict !== "accept") throw new Error(`the evidence was refused: ${result.findings.map(({ message }) => message).join("; ")}`);
}

/** The best of five rounds, after one to warm up. */
function cpuMs(runs: number, run: () => void): number {
  const round = (count: number) => {
    const before = process.cpuUsage();
    for (let i = 0; i < count; i += 1) run();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / count;
  };
  round(runs);
  return Math.min(...Array.from({ length: 5 }, () => round(Math.ceil(runs / 5))));
}

if (import.meta.main) {
  for (const { what, cpuMs: ms, limitMs, ratio } of benchAttestation()) {
    console.log(
      `${what.padEnd(52)} ${ms.toFixed(3)} ms${limitMs === undefined ? "" : ` (limit ${limitMs} ms)`}${ratio === undefined ? "" : `, ${ratio.toFixed(2)}x the bare checks`}`,
    );
  }
}
