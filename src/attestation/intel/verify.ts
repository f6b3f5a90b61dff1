import { hash, verify, type KeyObject } from "node:crypto";
import { derOfP256Signature } from "../../bytes/index.ts";
import { importP256Point } from "../der/signatures.ts";
import { refuse, type FindingSink } from "../refuse.ts";
import type { TcbStatus } from "./status-words.ts";
import type { VerifiedIntelCollateral } from "./collateral.ts";
import { verifyPckChain } from "./pck-chain.ts";
import type { VerifiedPck } from "./pck.ts";
import { checkQeReport } from "./qe-identity.ts";
import type { TdReport } from "./quote-body.ts";
import type { Quote } from "./quote.ts";
import { evaluate, joinRelaunch, matchComponent, moduleIdentityOf, type TcbEvaluation } from "./tcb-status.ts";
import type { ComponentLevel } from "./tcb-info.ts";

/** Attestation keys that one collateral remembers: one per host. */
const maxKeys = 256;

/** What the TCB tables say of a platform that a quote proves. */
export interface IntelTcb {
  readonly status: TcbStatus;
  /** Milliseconds since the epoch: the earliest date of all matched levels. */
  readonly tcbDate: number;
  readonly advisoryIds: readonly string[];
  readonly evaluationDataNumber: number;
  /** At the TD's launch (for SGX and TD 1.0: the only one). */
  readonly launch: TcbEvaluation;
  /** TD 1.5: of the module that runs now. */
  readonly current: TcbEvaluation | undefined;
}

/** A quote whose every signature, chain and binding holds. Only {@link verifyQuote} makes one. */
export interface VerifiedQuote {
  readonly quote: Quote;
  readonly pck: VerifiedPck;
  readonly tcb: IntelTcb;
  readonly collateral: VerifiedIntelCollateral;
}

/** Verifies a quote against verified collateral. Reference C 2.1 steps 1 to 19; all independent reasons land in the sink. */
export function verifyQuote(quote: Quote, collateral: VerifiedIntelCollateral, sink: FindingSink): VerifiedQuote | undefined {
  const { signature } = quote;
  const pck = sink.attempt(() => verifyPckChain(pckChainOf(quote, collateral), collateral, "quote.certificationData"));
  if (pck !== undefined) {
    sink.attempt(() => checkPlatform(quote, pck, collateral));
    sink.attempt(() => checkQeSignature(quote, pck));
  }
  const { body } = quote;
  if (body.kind !== "sgx") sink.attempt(() => checkModule(body, collateral));
  sink.attempt(() => checkQeBinding(quote));
  sink.attempt(() => {
    checkIdentityKind(quote, collateral);
    checkQeReport(signature.qeReport, collateral.qeIdentity);
  });
  sink.attempt(() => checkQuoteSignature(quote, collateral.attestationKeys));
  const tcb = pck === undefined ? undefined : sink.attempt(() => evaluateTcb(quote, pck, collateral));
  if (tcb?.status === "Revoked") {
    sink.add({
      code: "TCB_REVOKED",
      severity: "refusal",
      path: "quote.tcb",
      message: "Intel has revoked this TCB; no policy can allow it",
      actual: "Revoked",
    });
  }
  return pck === undefined || tcb === undefined || sink.refused() ? undefined : { quote, pck, tcb, collateral };
}

function pckChainOf(quote: Quote, collateral: VerifiedIntelCollateral): Uint8Array | string {
  const { certification } = quote.signature;
  if (certification.kind === "pck-chain") return certification.pem;
  if (collateral.pckChain !== undefined) return collateral.pckChain;
  throw refuse("PCK_MISSING", {
    path: "quote.certificationData",
    message: `the quote names its PCK certificate only by ${certification.kind}`,
    hint: "add the PCK certificate chain to the collateral (pckCerts)",
  });
}

function checkPlatform(quote: Quote, { extension }: VerifiedPck, { tcbInfo }: VerifiedIntelCollateral): void {
  const expectedId = quote.tee === "tdx" ? "TDX" : "SGX";
  if (tcbInfo.id !== expectedId) {
    throw refuse("TCB_INFO_MISMATCH", {
      path: "collateral.tcbInfo.id",
      message: "the TCB info is for another kind of TEE",
      expected: expectedId,
      actual: tcbInfo.id,
    });
  }
  for (const member of ["fmspc", "pceId"] as const) {
    if (extension[member].equals(tcbInfo[member])) continue;
    throw refuse("TCB_INFO_MISMATCH", {
      path: `collateral.tcbInfo.${member}`,
      message: `the TCB info is for another platform: its ${member} differs from the PCK certificate's`,
      expected: extension[member].toString("hex"),
      actual: tcbInfo[member].toString("hex"),
    });
  }
}

/** Whether everything in a quote is signed by whom it should be, down from a verified PCK: the quoting enclave, its key, the quote. */
export function checkQuoteSignatures(quote: Quote, pck: VerifiedPck, sink: FindingSink): void {
  sink.attempt(() => checkQeSignature(quote, pck));
  sink.attempt(() => checkQeBinding(quote));
  sink.attempt(() => checkQuoteSignature(quote, new Map()));
}

function checkQeSignature(quote: Quote, { leaf }: VerifiedPck): void {
  const { qeReport, qeReportSignature } = quote.signature;
  if (!verify("sha256", qeReport.raw, leaf.publicKey, derOfP256Signature(qeReportSignature))) {
    throw refuse("QE_REPORT_SIGNATURE_INVALID", {
      path: "quote.signature.qeReportSignature",
      message: "the quoting enclave's report is not signed by the platform's PCK",
    });
  }
}

function checkQeBinding(quote: Quote): void {
  const { attestationKey, qeAuthenticationData, qeReport } = quote.signature;
  const digest = hash("sha256", Buffer.concat([attestationKey, qeAuthenticationData]), "buffer");
  if (!qeReport.reportData.subarray(0, 32).equals(digest) || qeReport.reportData.subarray(32).some((byte) => byte !== 0)) {
    throw refuse("QE_REPORT_DATA_MISMATCH", {
      path: "quote.signature.qeReport.reportData",
      message: "the quoting enclave does not vouch for this attestation key",
    });
  }
}

function checkIdentityKind(quote: Quote, { qeIdentity }: VerifiedIntelCollateral): void {
  const expected = quote.tee === "tdx" ? "TD_QE" : "QE";
  if (qeIdentity.id !== expected) {
    throw refuse("QE_IDENTITY_MISMATCH", {
      path: "collateral.qeIdentity.id",
      message: "the QE identity is for another kind of TEE",
      expected,
      actual: qeIdentity.id,
    });
  }
}

/** Importing a point costs as much as verifying with it; only keys of good quotes are kept. */
function checkQuoteSignature(quote: Quote, keys: Map<string, KeyObject>): void {
  const { attestationKey, quoteSignature } = quote.signature;
  const name = attestationKey.toString("hex");
  const key = keys.get(name) ?? importP256Point(attestationKey, "quote.signature.attestationKey");
  if (!verify("sha256", quote.signedBytes, key, derOfP256Signature(quoteSignature))) {
    throw refuse("QUOTE_SIGNATURE_INVALID", {
      path: "quote.signature.quoteSignature",
      message: "the quote is not signed by its attestation key: it was changed, or is not of this platform",
    });
  }
  if (keys.size >= maxKeys) keys.clear();
  keys.set(name, key);
}

/** Only modules that Intel signed, without special attributes. Reference C 2.1 step 11. */
function checkModule(body: TdReport, { tcbInfo }: VerifiedIntelCollateral): void {
  const identity = moduleIdentityOf(tcbInfo, body.teeTcbSvn, "quote.body.teeTcbSvn") ?? tcbInfo.tdxModule;
  if (identity === undefined) {
    throw refuse("TDX_MODULE_UNKNOWN", { path: "collateral.tcbInfo.tdxModule", message: "the collateral describes no TDX module" });
  }
  if (!body.mrSignerSeam.equals(identity.mrSigner)) {
    throw refuse("TDX_MODULE_FOREIGN", {
      path: "quote.body.mrSignerSeam",
      message: "the TDX module is not signed by Intel",
      expected: identity.mrSigner.toString("hex"),
      actual: body.mrSignerSeam.toString("hex"),
    });
  }
  if (body.seamAttributes.some((byte) => byte !== 0) || !body.seamAttributes.equals(identity.attributes)) {
    throw refuse("TDX_MODULE_ATTRIBUTES", {
      path: "quote.body.seamAttributes",
      message: "the TDX module runs with attributes that Intel's production modules do not have",
      expected: identity.attributes.toString("hex"),
      actual: body.seamAttributes.toString("hex"),
    });
  }
}

function evaluateTcb(quote: Quote, { extension }: VerifiedPck, { tcbInfo, qeIdentity }: VerifiedIntelCollateral): IntelTcb {
  const qe = matchComponent(qeIdentity.levels, quote.signature.qeReport.isvSvn);
  if (qe === undefined) {
    throw refuse("TCB_NOT_SUPPORTED", {
      path: "quote.signature.qeReport.isvSvn",
      message: "the quoting enclave is older than every level that Intel lists",
      expected: `${qeIdentity.levels.at(-1)?.isvSvn ?? "?"} or higher`,
      actual: String(quote.signature.qeReport.isvSvn),
    });
  }
  const { body } = quote;
  const common = { info: tcbInfo, tcb: extension, qe };
  const launch = evaluate({ ...common, teeTcbSvn: body.kind === "sgx" ? undefined : body.teeTcbSvn, path: "quote.body.teeTcbSvn" });
  const newer = body.kind === "sgx" ? undefined : body.teeTcbSvn2;
  const current = newer === undefined ? undefined : evaluate({ ...common, teeTcbSvn: newer, path: "quote.body.teeTcbSvn2" });
  const levels = [...levelsOf(launch), ...(current === undefined ? [] : levelsOf(current))];
  return {
    status: current === undefined ? launch.status : joinRelaunch(launch.status, current.status),
    tcbDate: Math.min(...levels.map(({ tcbDate }) => tcbDate)),
    advisoryIds: [...new Set(levels.flatMap(({ advisoryIds }) => advisoryIds))].toSorted(),
    evaluationDataNumber: tcbInfo.tcbEvaluationDataNumber,
    launch,
    current,
  };
}

function levelsOf({ platform, module, qe }: TcbEvaluation): readonly Pick<ComponentLevel, "tcbDate" | "advisoryIds">[] {
  return [platform, qe, ...(module === undefined ? [] : [module])];
}
