import { describe, expect, it } from "vitest";
import {
  builtInRoots,
  newFindingSink,
  parseQuote,
  parseSnpReport,
  verifyEndorsements,
  verifyIntelCollateral,
  verifyQuote,
  verifySnpReport,
  type FindingSink,
} from "../../src/attestation/index.ts";
import { selectIntelCollateral } from "../../src/attestation/collateral/select.ts";
import { importCollateral } from "../../src/attestation/index.ts";
import { corpusFile, loadCorpus } from "./corpus.ts";

const corpus = loadCorpus();

/** Flips every bit of the first `signedSize` bytes in turn and gives those flips that were not refused. */
function acceptedFlips(evidence: Buffer, signedSize: number, verify: (bytes: Buffer, sink: FindingSink) => unknown): readonly number[] {
  const bytes = Buffer.from(evidence);
  const accepted: number[] = [];
  for (let bit = 0; bit < signedSize * 8; bit += 1) {
    const at = bit >> 3;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
    const sink = newFindingSink();
    const value = sink.attempt(() => verify(bytes, sink));
    if (value !== undefined || !sink.refused()) accepted.push(bit);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
  }
  return accepted;
}

function quoteCase(id: string, at: string) {
  const when = new Date(at);
  const evidence = corpusFile(`${id}/quote.bin`);
  const bundle = importCollateral(corpusFile(`${id}/collateral.json`), { now: when });
  const collateral = verifyIntelCollateral(
    selectIntelCollateral(bundle, parseQuote(evidence)),
    { roots: builtInRoots(), at: when },
    newFindingSink(),
  );
  if (collateral === undefined) throw new Error("the collateral of the case does not verify");
  return { evidence, verify: (bytes: Buffer, sink: FindingSink) => verifyQuote(parseQuote(bytes), collateral, sink) };
}

/** Some ten thousand whole checks: seconds on an idle machine, minutes on a crowded one. */
const timeout = 300_000;

describe.skipIf(corpus === undefined)("every single flipped bit of a signed region", () => {
  it("of a real TDX quote is refused", { timeout }, () => {
    const { evidence, verify } = quoteCase("tdx/v4-uptodate", "2025-07-13T09:40:30Z");
    expect(verify(evidence, newFindingSink())).toBeDefined();
    expect(acceptedFlips(evidence, parseQuote(evidence).signedBytes.length, verify)).toEqual([]);
  });

  it("of a real SGX quote is refused", { timeout }, () => {
    const { evidence, verify } = quoteCase("sgx/v3-config-swhardening", "2025-06-26T22:07:51Z");
    expect(verify(evidence, newFindingSink())).toBeDefined();
    expect(acceptedFlips(evidence, parseQuote(evidence).signedBytes.length, verify)).toEqual([]);
  });

  it("of a real SNP report is refused", { timeout }, () => {
    const evidence = corpusFile("snp/milan-v3/report.bin");
    const at = new Date("2026-09-15T01:05:04Z");
    const endorsements = verifyEndorsements({ vek: corpusFile("snp/milan-v3/vcek.der") }, { roots: builtInRoots(), at }, newFindingSink());
    if (endorsements === undefined) throw new Error("the endorsements of the case do not verify");
    const verify = (bytes: Buffer, sink: FindingSink) =>
      verifySnpReport(parseSnpReport(bytes), endorsements, { maskedChipId: "refuse" }, sink);
    expect(verify(evidence, newFindingSink())).toBeDefined();
    expect(acceptedFlips(evidence, 0x2a0, verify)).toEqual([]);
  });
});
