import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  importCollateral,
  parseTrustRoots,
  verifyEvidence,
  type VerificationResult,
  type VerifyRequest,
} from "../../src/attestation/index.ts";

/** The evidence corpus stands beside the checkout; it is not part of the project. */
const root = resolve(import.meta.dirname, "../../../shared/evidence");

export interface CorpusCase {
  readonly id: string;
  readonly tee: "tdx" | "sgx" | "snp";
  readonly files: Readonly<Record<string, string>>;
  readonly trust: string;
  readonly verifyAt: string;
  readonly validWindow?: readonly [string, string];
  readonly expect: Readonly<Record<string, unknown>>;
  readonly claims?: Readonly<Record<string, unknown>>;
}

export interface Corpus {
  readonly cases: readonly CorpusCase[];
  readonly extras: readonly Readonly<Record<string, unknown>>[];
}

/** The corpus, or `undefined` with a printed reason; in CI its absence fails. */
export function loadCorpus(): Corpus | undefined {
  if (existsSync(join(root, "manifest.json"))) return JSON.parse(readFileSync(join(root, "manifest.json"), "utf8")) as Corpus;
  if (process.env["CI"] !== undefined) throw new Error("the evidence corpus is missing; in CI it must be there");
  console.warn("skipped: the evidence corpus (../shared/evidence beside the checkout) is not here");
  return undefined;
}

export function corpusFile(path: string): Buffer {
  return readFileSync(join(root, path));
}

/** What `attest verify` would be given for a case. */
export function requestOf(corpusCase: CorpusCase, overrides: Partial<VerifyRequest> = {}): VerifyRequest {
  const { files } = corpusCase;
  const file = (name: string) => (files[name] === undefined ? undefined : corpusFile(files[name]));
  const at = new Date(corpusCase.verifyAt);
  const collateral = file("collateral");
  const synthetic = corpusCase.trust.startsWith("synthetic/");
  return {
    evidence: corpusFile(files["quote"] ?? files["report"] ?? ""),
    at,
    reportData: { kind: "unchecked", reason: "the corpus knows no challenge" },
    initData: { kind: "unchecked", reason: "the corpus knows no init-data" },
    collateral: collateral === undefined ? undefined : importCollateral(collateral, { now: at }),
    endorsements: corpusCase.tee === "snp" ? { vek: file("vek"), ask: file("ask"), ark: file("ark"), crl: file("crl") } : undefined,
    eventLog: file("ccel"),
    roots: synthetic ? parseTrustRoots([corpusFile(corpusCase.trust)]) : undefined,
    ...overrides,
  };
}

export function verifyCase(corpusCase: CorpusCase, overrides: Partial<VerifyRequest> = {}): VerificationResult {
  return verifyEvidence(requestOf(corpusCase, overrides));
}
