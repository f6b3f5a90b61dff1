import { equalBytes } from "../bytes/index.ts";
import { verifyEndorsements } from "./amd/chain.ts";
import { parseSnpReport } from "./amd/report.ts";
import { verifySnpReport } from "./amd/verify.ts";
import type { CollateralBundle } from "./collateral/bundle.ts";
import { selectAmdEndorsements, selectIntelCollateral } from "./collateral/select.ts";
import type { RawEvidence } from "./evidence-format.ts";
import type { Finding } from "./findings.ts";
import { verifyLinks } from "./intel/pck-chain.ts";
import { parseQuote, type Quote } from "./intel/quote.ts";
import { checkQuoteSignatures } from "./intel/verify.ts";
import { newFindingSink, refuse, type FindingSink } from "./refuse.ts";
import type { TrustRoots } from "./trust-roots.ts";

/** What evidence is held against before anybody is asked about it. */
export interface LocalContext {
  readonly roots: TrustRoots;
  readonly at: Date;
  readonly reportData: Uint8Array;
  readonly atHand: CollateralBundle | undefined;
}

/**
 * Refuses evidence that no collateral could save, before any is fetched for it: what answers another challenge, what is
 * not signed as its TEE signs, what does not chain to a trusted root. So a stranger who makes evidence up moves no
 * request from here to a vendor. Whether certificates and firmware are still good is for the lists and tables, after.
 *
 * A report of SNP that brings no VCEK along can only be checked with what is fetched for it.
 */
export function checkWithoutNetwork(raw: RawEvidence, context: LocalContext): readonly Finding[] {
  const sink = newFindingSink();
  if (raw.tee === "snp") checkReport(raw, context, sink);
  else checkQuote(raw, context, sink);
  return sink.findings.filter(({ severity }) => severity === "refusal");
}

function checkQuote(raw: RawEvidence, { roots, at, reportData, atHand }: LocalContext, sink: FindingSink): void {
  const quote = sink.attempt(() => parseQuote(raw.bytes));
  if (quote === undefined) return;
  sink.attempt(() => requireReportData(quote.body.reportData, reportData));
  const pck = sink.attempt(() => verifyLinks(pckChainOf(quote, atHand), { at: at.getTime(), roots }, "quote.certificationData"));
  if (pck !== undefined) checkQuoteSignatures(quote, pck, sink);
}

function pckChainOf(quote: Quote, atHand: CollateralBundle | undefined): string {
  const { certification } = quote.signature;
  const chain =
    certification.kind === "pck-chain"
      ? certification.pem
      : atHand === undefined
        ? undefined
        : selectIntelCollateral(atHand, quote).pckChain;
  if (chain !== undefined) return typeof chain === "string" ? chain : Buffer.from(chain).toString("latin1");
  throw refuse("PCK_MISSING", {
    path: "quote.certificationData",
    message: `the quote names its PCK certificate only by ${certification.kind}`,
    hint: "add the PCK certificate chain to the collateral (pckCerts)",
  });
}

function checkReport(raw: RawEvidence, { roots, at, reportData, atHand }: LocalContext, sink: FindingSink): void {
  const report = sink.attempt(() => parseSnpReport(raw.bytes));
  if (report === undefined) return;
  sink.attempt(() => requireReportData(report.reportData, reportData));
  const { product } = report;
  const bundled =
    sink.attempt(() => (atHand === undefined || product === undefined ? {} : selectAmdEndorsements(atHand, report, product))) ?? {};
  const endorsements = { vek: bundled.vek ?? raw.endorsements?.vek, ask: bundled.ask ?? raw.endorsements?.ask };
  if (endorsements.vek === undefined) return;
  // Without the intermediate, which is fetched, nothing can be said; any other trouble with the chain stays.
  const chain = newFindingSink();
  const verified = verifyEndorsements(endorsements, { roots, at }, chain);
  for (const finding of chain.findings) if (finding.code !== "CERTIFICATE_MISSING") sink.add(finding);
  if (verified !== undefined) verifySnpReport(report, verified, { maskedChipId: "leave-to-policy" }, sink);
}

function requireReportData(actual: Buffer, expected: Uint8Array): void {
  const field = Buffer.alloc(actual.length);
  if (expected.length <= field.length) field.set(expected);
  if (expected.length <= field.length && equalBytes(field, actual)) return;
  throw refuse("REPORT_DATA_MISMATCH", {
    path: "evidence.reportData",
    message: "the evidence binds other report data than expected",
    expected: Buffer.from(expected).toString("hex"),
    actual: actual.toString("hex"),
    hint: "it was made for another challenge or key; ask for fresh evidence",
  });
}
