import { equalBytes } from "../bytes/index.ts";
import { verifyEndorsements, type AmdEndorsements } from "./amd/chain.ts";
import { reportClaims, verifiedReportClaims } from "./amd/claims.ts";
import type { AmdProduct } from "./amd/products.ts";
import { parseSnpReport, type SnpReport } from "./amd/report.ts";
import { verifySnpReport, type MaskedChipId } from "./amd/verify.ts";
import { parseEndorsementKey } from "./amd/vek.ts";
import type { CollateralBundle, UpdateChannel } from "./collateral/bundle.ts";
import { selectAmdEndorsements, selectIntelCollateral } from "./collateral/select.ts";
import { ToolError } from "../errors/index.ts";
import { Refusal } from "./errors.ts";
import { replayEventLog } from "./eventlog/outcome.ts";
import { evidenceFromJson, recogniseEvidence, type RawEvidence } from "./evidence-format.ts";
import type { Finding } from "./findings.ts";
import { quoteClaims, verifiedQuoteClaims } from "./intel/claims.ts";
import { verifyIntelCollateral, type IntelCollateral } from "./intel/collateral.ts";
import type { IntelMemory } from "./intel/memory.ts";
import { parseQuote } from "./intel/quote.ts";
import { verifyQuote } from "./intel/verify.ts";
import { newFindingSink, refuse, type FindingSink } from "./refuse.ts";
import type { VerificationResult } from "./result.ts";
import { builtInRoots, type TrustRoots } from "./trust-roots.ts";

/** A value that evidence must have, or the reason why nobody looks. */
export type Expectation<Value> =
  | { readonly kind: "equals"; readonly value: Value }
  | { readonly kind: "unchecked"; readonly reason: string };

/** One piece of hardware evidence and everything it is judged by. */
export interface VerifyRequest {
  /** A file's bytes in any form that {@link recogniseEvidence} knows, or the JSON that RCAR carries. */
  readonly evidence: Uint8Array | { readonly json: unknown } | { readonly parsed: RawEvidence };
  /** The TEE that it must be of; anything that is recognised unless told. */
  readonly tee?: "tdx" | "sgx" | "snp" | undefined;
  /** The moment to verify at. There is no default: old evidence with old collateral is only good in its own time. */
  readonly at: Date;
  /** The bytes that the evidence must bind, up to 64; shorter ones are zero-padded as the TEE pads them. */
  readonly reportData: Expectation<Uint8Array>;
  /** The digest of the init-data; padded or cut to the TEE's field as the runtime does. */
  readonly initData: Expectation<Uint8Array>;
  readonly collateral?: CollateralBundle | undefined;
  /** Intel collateral for exactly this quote; wins over the bundle. */
  readonly intel?: IntelCollateral | undefined;
  /** AMD certificates; win over those in the bundle, which win over those that came with the evidence. */
  readonly endorsements?: AmdEndorsements | undefined;
  readonly eventLog?: Uint8Array | undefined;
  readonly roots?: TrustRoots | undefined;
  /** Intel's table to prefer when the bundle has both; `standard` unless told. */
  readonly update?: UpdateChannel | undefined;
  readonly maskedChipId?: MaskedChipId | undefined;
  /** Spares whoever verifies often what was verified before; the result is the same. */
  readonly memory?: IntelMemory | undefined;
}

/**
 * Verifies evidence: total, pure and offline. Whatever is wrong with evidence, certificates, lists or collateral comes
 * back as findings. Nothing is thrown but for defects of our own.
 */
export function verifyEvidence(request: VerifyRequest): VerificationResult {
  const sink = newFindingSink();
  const raw = sink.attempt(() => readEvidence(request));
  if (raw === undefined) return { verdict: "reject", tee: undefined, tcbStatus: undefined, advisoryIds: [], findings: sink.findings };
  if (request.tee !== undefined && raw.tee !== request.tee) {
    sink.add({
      code: "EVIDENCE_UNKNOWN_TEE",
      severity: "refusal",
      path: "evidence",
      message: "the evidence is of another TEE than expected",
      expected: request.tee,
      actual: raw.tee,
    });
  }
  const roots = request.roots ?? builtInRoots();
  return raw.tee === "snp" ? verifySnp(request, raw, roots, sink) : verifyDcap(request, raw, roots, sink);
}

function readEvidence({ evidence, tee }: VerifyRequest): RawEvidence {
  if (!(evidence instanceof Uint8Array)) return "parsed" in evidence ? evidence.parsed : evidenceFromJson(evidence.json);
  try {
    return recogniseEvidence(evidence);
  } catch (error) {
    if (!(error instanceof ToolError) || error instanceof Refusal) throw error;
    // Told which TEE it is, its parser says more exactly what is wrong.
    if (tee !== undefined) return { tee, bytes: evidence };
    throw refuse("EVIDENCE_MALFORMED", { path: "evidence", message: error.message, hint: error.hint });
  }
}

function verifyDcap(request: VerifyRequest, raw: RawEvidence, roots: TrustRoots, sink: FindingSink): VerificationResult {
  const { tee } = raw;
  const quote = sink.attempt(() => parseQuote(raw.bytes));
  if (quote === undefined) return { verdict: "reject", tee, tcbStatus: undefined, advisoryIds: [], findings: sink.findings };
  const { body } = quote;
  checkReportData(request.reportData, body.reportData, sink);
  const initField = body.kind === "sgx" ? body.configId : body.mrConfigId;
  checkInitData(request.initData, initField, sink);
  const parts = request.intel ?? selectedCollateral(request, quote, sink);
  const context = { roots, at: request.at };
  const { memory } = request;
  const collateral = memory === undefined ? verifyIntelCollateral(parts, context, sink) : memory.verify(parts, context, sink);
  const verified = collateral === undefined ? undefined : verifyQuote(quote, collateral, sink);
  if (verified === undefined) {
    return { verdict: "reject", tee, tcbStatus: undefined, advisoryIds: [], unverifiedClaims: quoteClaims(quote), findings: sink.findings };
  }
  const log = request.eventLog ?? raw.eventLog;
  const eventLog = body.kind === "sgx" ? ({ kind: "absent" } as const) : replayEventLog(log, body.rtmr);
  noteRoots(roots, verified.collateral.root.fingerprint, sink);
  return {
    verdict: "accept",
    tee,
    tcbStatus: verified.tcb.status,
    advisoryIds: verified.tcb.advisoryIds,
    claims: verifiedQuoteClaims(verified, eventLog),
    reportData: body.reportData,
    initData: initField,
    checked: checkedOf(request),
    detail: { kind: "dcap", verified, eventLog },
    findings: sink.findings,
  };
}

function selectedCollateral(request: VerifyRequest, quote: ReturnType<typeof parseQuote>, sink: FindingSink): IntelCollateral {
  if (request.collateral === undefined) return {};
  try {
    const { collateral, update, memory } = request;
    return memory === undefined ? selectIntelCollateral(collateral, quote, update) : memory.select(collateral, quote, update);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    sink.add({ code: "COLLATERAL_MALFORMED", severity: "refusal", path: "collateral", message: error.message });
    return {};
  }
}

function verifySnp(request: VerifyRequest, raw: RawEvidence, roots: TrustRoots, sink: FindingSink): VerificationResult {
  const { tee } = raw;
  const report = sink.attempt(() => parseSnpReport(raw.bytes));
  if (report === undefined) return { verdict: "reject", tee, tcbStatus: undefined, advisoryIds: [], findings: sink.findings };
  checkReportData(request.reportData, report.reportData, sink);
  checkInitData(request.initData, report.hostData, sink);
  const parts = sink.attempt(() => endorsementsOf(request, raw, report)) ?? {};
  const endorsements = verifyEndorsements(parts, { roots, at: request.at }, sink);
  const verified =
    endorsements === undefined
      ? undefined
      : verifySnpReport(report, endorsements, { maskedChipId: request.maskedChipId ?? "refuse" }, sink);
  if (verified === undefined) {
    return {
      verdict: "reject",
      tee,
      tcbStatus: undefined,
      advisoryIds: [],
      unverifiedClaims: reportClaims(report),
      findings: sink.findings,
    };
  }
  noteRoots(roots, verified.endorsements.root.fingerprint, sink);
  return {
    verdict: "accept",
    tee,
    tcbStatus: undefined,
    advisoryIds: [],
    claims: verifiedReportClaims(verified),
    reportData: report.reportData,
    initData: report.hostData,
    checked: checkedOf(request),
    detail: { kind: "snp", verified },
    findings: sink.findings,
  };
}

/** Explicit files first, then the bundle, then what travelled with the evidence: the nearer to the verifier, the better. */
function endorsementsOf(request: VerifyRequest, raw: RawEvidence, report: SnpReport): AmdEndorsements {
  const travelled = raw.endorsements ?? {};
  const given = request.endorsements ?? {};
  const product = report.product ?? productOfVek(given.vek ?? travelled.vek);
  const bundled =
    request.collateral === undefined || product === undefined ? {} : selectAmdEndorsements(request.collateral, report, product);
  return {
    vek: given.vek ?? bundled.vek ?? travelled.vek,
    ask: given.ask ?? bundled.ask ?? travelled.ask,
    ark: given.ark ?? bundled.ark ?? travelled.ark,
    crl: given.crl ?? bundled.crl ?? travelled.crl,
  };
}

/** A version 2 report does not name its product; the endorsement key does (and is checked against it). */
function productOfVek(vek: Uint8Array | undefined): AmdProduct | undefined {
  return vek === undefined ? undefined : newFindingSink().attempt(() => parseEndorsementKey(vek, "endorsements.vek"))?.product;
}

function checkReportData(expected: Expectation<Uint8Array>, actual: Buffer, sink: FindingSink): void {
  if (expected.kind === "unchecked") {
    sink.add({
      code: "REPORT_DATA_UNCHECKED",
      severity: "warning",
      path: "evidence.reportData",
      message: `report data was not compared: ${expected.reason}`,
    });
    return;
  }
  sink.attempt(() => {
    const field = Buffer.alloc(actual.length);
    const tooLong = expected.value.length > field.length;
    if (!tooLong) field.set(expected.value);
    if (tooLong || !equalBytes(field, actual)) {
      throw refuse("REPORT_DATA_MISMATCH", {
        path: "evidence.reportData",
        message: "the evidence binds other report data than expected",
        expected: Buffer.from(expected.value).toString("hex"),
        actual: actual.toString("hex"),
        hint: "it was made for another challenge or key; ask for fresh evidence",
      });
    }
  });
}

function checkInitData(expected: Expectation<Uint8Array>, actual: Buffer, sink: FindingSink): void {
  if (expected.kind === "unchecked") return;
  sink.attempt(() => {
    const field = Buffer.alloc(actual.length);
    field.set(expected.value.subarray(0, actual.length));
    if (expected.value.length === 0 || !equalBytes(field, actual)) {
      throw refuse("INIT_DATA_MISMATCH", {
        path: "evidence.initData",
        message: "the guest was started with other init-data than expected",
        expected: field.toString("hex"),
        actual: actual.toString("hex"),
      });
    }
  });
}

function checkedOf(request: VerifyRequest): { readonly reportData: boolean; readonly initData: boolean } {
  return { reportData: request.reportData.kind === "equals", initData: request.initData.kind === "equals" };
}

function noteRoots(roots: TrustRoots, fingerprint: string, sink: FindingSink): void {
  if (roots.source === "built-in") return;
  const finding: Finding = {
    code: "TRUST_ROOT_SUPPLIED",
    severity: "warning",
    path: "trustRoots",
    message: "the chain ends at a root that was supplied by the caller, not at the vendor's",
    actual: fingerprint,
  };
  sink.add(finding);
}
