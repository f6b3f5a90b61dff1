import type { JsonObject } from "../attester/json.ts";
import type { VerifiedSnpReport } from "../amd/verify.ts";
import type { VerifiedQuote } from "../intel/verify.ts";
import type { Verified } from "../result.ts";
import { AttestationError } from "../errors.ts";
import { policyVersion } from "./parse.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/**
 * A policy that accepts guests like a known-good one: its measurements exactly, its security versions as minimums. As
 * JSON, to be read and edited; `parsePolicy` reads it back. RTMR0 is left out on purpose: it differs with the shape of
 * the virtual machine. Throws `ERR_EVIDENCE_UNRECOGNISED` for the sample TEE, which has nothing to hold on to.
 */
export function createPolicy(result: Verified, options: { readonly name: string }): JsonObject {
  const { detail } = result;
  const common = { apiVersion: policyVersion, name: options.name, reportData: "required" };
  switch (detail.kind) {
    case "sample":
      throw new AttestationError("ERR_EVIDENCE_UNRECOGNISED", {
        message: "no policy can be made from sample evidence: it has no measurements",
        hint: "take evidence of a hardware TEE",
      });
    case "snp":
      return {
        ...common,
        ...initDataOf(result),
        collateral: { revocation: revocationOf(detail.verified) },
        snp: snpRules(detail.verified),
      };
    case "dcap":
      return {
        ...common,
        ...initDataOf(result),
        collateral: { minTcbEvaluationDataNumber: detail.verified.tcb.evaluationDataNumber },
        ...(detail.verified.quote.body.kind === "sgx"
          ? { sgx: sgxRules(detail.verified) }
          : { tdx: tdxRules(detail.verified, detail.eventLog.kind === "replayed" && detail.eventLog.secureBoot === "on") }),
      };
  }
}

function initDataOf({ initData }: Verified): JsonObject {
  if (initData === undefined || initData.every((byte) => byte === 0)) return {};
  return initData.length === 32 || initData.length === 48
    ? { initData: [`${initData.length === 32 ? "sha256" : "sha384"}:${hex(initData)}`] }
    : {};
}

function revocationOf({ endorsements }: VerifiedSnpReport): JsonObject | string {
  return endorsements.crl === undefined
    ? { kind: "unchecked", reason: "the evidence that this policy was made from was verified without a revocation list" }
    : "require";
}

function tdxRules({ quote, tcb }: VerifiedQuote, secureBoot: boolean): JsonObject {
  const { body } = quote;
  if (body.kind === "sgx") return {};
  const registers = [1, 2].flatMap((i) => {
    const value = body.rtmr[i];
    return value === undefined || value.every((byte) => byte === 0) ? [] : [[String(i), [`sha384:${hex(value)}`]] as const];
  });
  return {
    tcbStatus: [tcb.status],
    minTcbDate: new Date(tcb.tcbDate).toISOString().slice(0, 10),
    minTeeTcbSvn: hex(body.teeTcbSvn),
    mrTd: [`sha384:${hex(body.mrTd)}`],
    rtmr: Object.fromEntries(registers),
    ...(tcb.advisoryIds.length === 0 ? {} : { allowAdvisories: tcb.advisoryIds }),
    ...(secureBoot ? { eventLog: { require: true, secureBoot: true } } : {}),
  };
}

function sgxRules({ quote, tcb }: VerifiedQuote): JsonObject {
  const { body } = quote;
  if (body.kind !== "sgx") return {};
  return {
    tcbStatus: [tcb.status],
    mrEnclave: [`sha256:${hex(body.mrEnclave)}`],
    mrSigner: [`sha256:${hex(body.mrSigner)}`],
    isvProdId: body.isvProdId,
    minIsvSvn: body.isvSvn,
    ...(tcb.advisoryIds.length === 0 ? {} : { allowAdvisories: tcb.advisoryIds }),
  };
}

function snpRules({ report, product, tcbs, endorsements }: VerifiedSnpReport): JsonObject {
  const zero = (bytes: Buffer) => bytes.every((byte) => byte === 0);
  return {
    products: [product],
    signer: [endorsements.key.kind],
    ...(endorsements.key.cspId === undefined ? {} : { cspId: [endorsements.key.cspId] }),
    minTcb: { [product]: Object.fromEntries(Object.entries(tcbs.reported).filter(([, value]) => value !== undefined)) },
    minAbi: `${report.committedFirmware.major}.${report.committedFirmware.minor}`,
    vmpl: [report.vmpl],
    measurement: [`sha384:${hex(report.measurement)}`],
    ...(zero(report.idKeyDigest) ? {} : { idKeyDigest: [hex(report.idKeyDigest)] }),
    ...(zero(report.authorKeyDigest) ? {} : { authorKeyDigest: [hex(report.authorKeyDigest)] }),
    guestPolicy: { allowSmt: report.policy.smtAllowed },
    platform: { requireAliasCheck: report.platformInfo.aliasCheckComplete },
  };
}
