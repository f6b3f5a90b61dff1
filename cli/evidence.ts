import {
  appraise,
  defaultPolicy,
  loadCollateral,
  parsePolicy,
  parseTrustRoots,
  verificationOptionsOf,
  verifyEvidence,
  type Appraisal,
  type VerificationResult,
} from "../src/attestation/index.ts";
import { decodeHex } from "../src/bytes/index.ts";
import { usage } from "./errors.ts";
import { readSmallFile } from "./files.ts";

/** Flags of commands that verify evidence; with `--batch`, members of each line. */
export interface EvidenceOptions {
  readonly tee?: string;
  readonly collateral?: string;
  readonly vek?: string;
  readonly ask?: string;
  readonly ark?: string;
  readonly crl?: string;
  readonly trustRoot?: readonly string[];
  readonly at?: string;
  readonly policy?: string;
  readonly reportData?: string;
  readonly eventLog?: string;
}

const maxEvidence = 16 << 20;
const tees: ReadonlySet<string> = new Set(["tdx", "sgx", "snp"]);
const rfc3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/i;

/** Reads the files that the flags name, verifies the evidence, and appraises it. */
export async function judgeEvidence(
  file: string,
  options: EvidenceOptions,
): Promise<{ readonly result: VerificationResult; readonly appraisal: Appraisal }> {
  const { tee = "auto", collateral, policy, eventLog, trustRoot = [] } = options;
  if (tee !== "auto" && !tees.has(tee)) throw usage(`--tee takes auto, tdx, sgx or snp, not ${tee}`);
  const at = momentOf(options.at);
  const optional = async (path: string | undefined, what: string): Promise<Buffer | undefined> =>
    path === undefined ? undefined : readSmallFile(path, what, maxEvidence);
  const roots =
    trustRoot.length === 0 ? undefined : parseTrustRoots(await Promise.all(trustRoot.map((path) => readSmallFile(path, "trust root"))));
  const chosen = policy === undefined ? defaultPolicy() : parsePolicy(await readSmallFile(policy, "policy", 4 << 20));
  const result = verifyEvidence({
    ...verificationOptionsOf(chosen),
    evidence: await readSmallFile(file, "evidence", maxEvidence),
    tee: tee === "auto" ? undefined : (tee as "tdx" | "sgx" | "snp"),
    at,
    reportData:
      options.reportData === undefined
        ? { kind: "unchecked", reason: "no --report-data was given" }
        : { kind: "equals", value: decodeHex(options.reportData, "--report-data") },
    initData: { kind: "unchecked", reason: "offline verification" },
    collateral: collateral === undefined ? undefined : await loadCollateral(collateral, at),
    endorsements: {
      vek: await optional(options.vek, "endorsement key certificate"),
      ask: await optional(options.ask, "ASK certificate"),
      ark: await optional(options.ark, "ARK certificate"),
      crl: await optional(options.crl, "revocation list"),
    },
    eventLog: await optional(eventLog, "event log"),
    roots,
  });
  return { result, appraisal: appraise(result, chosen) };
}

/** Parses `--at`; now without one. Throws `ERR_USAGE`. */
export function momentOf(text: string | undefined): Date {
  if (text === undefined) return new Date();
  const at = new Date(text);
  if (!rfc3339.test(text) || Number.isNaN(at.getTime()))
    throw usage(`--at takes a moment like 2026-01-31T12:00:00Z, not ${text.slice(0, 60)}`);
  return at;
}
