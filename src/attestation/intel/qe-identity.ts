import { refuse } from "../refuse.ts";
import { readCount, readDate, readHex, readRecord, readString } from "./json-fields.ts";
import type { SgxReport } from "./quote-body.ts";
import { readComponentLevels, readJson, type ComponentLevel } from "./tcb-info.ts";

/** What Intel's quoting enclave looks like. */
export interface QeIdentity {
  readonly id: "QE" | "TD_QE";
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly tcbEvaluationDataNumber: number;
  readonly miscSelect: Buffer;
  readonly miscSelectMask: Buffer;
  readonly attributes: Buffer;
  readonly attributesMask: Buffer;
  readonly mrSigner: Buffer;
  readonly isvProdId: number;
  readonly levels: readonly ComponentLevel[];
}

/** Parses the signed bytes of an `enclaveIdentity` value. */
export function parseQeIdentity(bytes: Uint8Array, path: string): QeIdentity {
  const record = readRecord(readJson(bytes, path), path);
  const version = readCount(record["version"], `${path}.version`, 255);
  if (version !== 2) {
    throw refuse("COLLATERAL_VERSION_UNKNOWN", {
      path: `${path}.version`,
      message: "the QE identity has an unknown version",
      expected: "2",
      actual: String(version),
    });
  }
  const id = readString(record["id"], `${path}.id`);
  if (id !== "QE" && id !== "TD_QE") {
    throw refuse("QE_IDENTITY_MISMATCH", {
      path: `${path}.id`,
      message: "the identity is not of a quoting enclave",
      expected: "QE or TD_QE",
      actual: id.slice(0, 40),
    });
  }
  return {
    id,
    issueDate: readDate(record["issueDate"], `${path}.issueDate`),
    nextUpdate: readDate(record["nextUpdate"], `${path}.nextUpdate`),
    tcbEvaluationDataNumber: readCount(record["tcbEvaluationDataNumber"], `${path}.tcbEvaluationDataNumber`, 2 ** 31),
    miscSelect: readHex(record["miscselect"], `${path}.miscselect`, 4),
    miscSelectMask: readHex(record["miscselectMask"], `${path}.miscselectMask`, 4),
    attributes: readHex(record["attributes"], `${path}.attributes`, 16),
    attributesMask: readHex(record["attributesMask"], `${path}.attributesMask`, 16),
    mrSigner: readHex(record["mrsigner"], `${path}.mrsigner`, 32),
    isvProdId: readCount(record["isvprodid"], `${path}.isvprodid`, 65535),
    levels: readComponentLevels(record["tcbLevels"], `${path}.tcbLevels`),
  };
}

/** Refuses a quoting enclave that is not the one described. Source: Intel QVL, enclave report verification. */
export function checkQeReport(report: SgxReport, identity: QeIdentity): void {
  // The JSON writes the four bytes in the order of the report (Intel QVL reads both as little-endian).
  for (const member of ["miscSelect", "attributes"] as const) {
    const [actual, mask, expected] = [report[member], identity[`${member}Mask`], identity[member]];
    if (!fits(actual, mask, expected)) throw mismatch(member, expected, masked(actual, mask));
  }
  if (!report.mrSigner.equals(identity.mrSigner)) throw mismatch("mrSigner", identity.mrSigner, report.mrSigner);
  if (report.isvProdId !== identity.isvProdId) {
    throw refuse("QE_IDENTITY_MISMATCH", {
      path: "quote.signature.qeReport.isvProdId",
      message: "the quoting enclave is not the one that Intel describes",
      expected: String(identity.isvProdId),
      actual: String(report.isvProdId),
    });
  }
}

function fits(value: Buffer, mask: Buffer, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i += 1) if (((value[i] ?? 0) & (mask[i] ?? 0)) !== expected[i]) return false;
  return value.length === expected.length;
}

function masked(value: Buffer, mask: Buffer): Buffer {
  return Buffer.from(value.map((byte, i) => byte & (mask[i] ?? 0)));
}

function mismatch(member: string, expected: Buffer, actual: Buffer) {
  return refuse("QE_IDENTITY_MISMATCH", {
    path: `quote.signature.qeReport.${member}`,
    message: "the quoting enclave is not the one that Intel describes",
    expected: expected.toString("hex"),
    actual: actual.toString("hex"),
  });
}
