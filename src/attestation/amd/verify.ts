import { verify } from "node:crypto";
import { refuse, type FindingSink } from "../refuse.ts";
import type { VerifiedEndorsements } from "./chain.ts";
import { reachesTcb, tcbComponents, type AmdProduct, type AmdTcb } from "./products.ts";
import { tcbsOf, type SnpReport, type TcbWordName } from "./report.ts";

/** A report whose chain, bindings and signature hold. Only {@link verifySnpReport} makes one. */
export interface VerifiedSnpReport {
  readonly report: SnpReport;
  readonly product: AmdProduct;
  readonly tcbs: Readonly<Record<TcbWordName, AmdTcb>>;
  /** CHIP_ID is all zero: nothing ties the report to one chip. */
  readonly chipIdMasked: boolean;
  /** COMMITTED below CURRENT: the firmware that runs can still be rolled back. */
  readonly provisionalFirmware: boolean;
  readonly endorsements: VerifiedEndorsements;
}

/**
 * What to do about a VCEK report whose CHIP_ID the host masked. Nothing ties such a report to a chip, so it is refused
 * unless a policy takes the decision (`snp.allowMaskedChipId`).
 */
export type MaskedChipId = "refuse" | "leave-to-policy";

/** Verifies a report against its verified endorsement key. Reference C 2.2 steps 2 and 5 to 9. */
export function verifySnpReport(
  report: SnpReport,
  endorsements: VerifiedEndorsements,
  options: { readonly maskedChipId: MaskedChipId },
  sink: FindingSink,
): VerifiedSnpReport | undefined {
  const { key } = endorsements;
  const { product } = key;
  sink.attempt(() => checkProduct(report, product));
  sink.attempt(() => checkSigningKey(report, key.kind));
  const masked = report.chipId.every((byte) => byte === 0);
  sink.attempt(() => checkChip(report, endorsements, masked ? options.maskedChipId : "bound"));
  const tcbs = sink.attempt(() => tcbsOf(report, product));
  if (tcbs !== undefined) {
    sink.attempt(() => checkKeyTcb(key.tcb, tcbs.reported));
    sink.attempt(() => checkOrder(tcbs));
  }
  sink.attempt(() => {
    if (!verify("sha384", report.signedBytes, { key: key.certificate.publicKey, dsaEncoding: "ieee-p1363" }, report.signature)) {
      throw refuse("REPORT_SIGNATURE_INVALID", {
        path: "report.signature",
        message: `the report is not signed by this ${key.kind}: it was changed, or is of another chip or TCB`,
      });
    }
  });
  if (tcbs === undefined || sink.refused()) return undefined;
  const provisional = !reachesTcb(tcbs.committed, tcbs.current) || compareFirmware(report) < 0;
  if (provisional) {
    sink.add({
      code: "SNP_FIRMWARE_PROVISIONAL",
      severity: "note",
      path: "report.committedTcb",
      message: "the platform runs provisional firmware, which its operator can still roll back",
    });
  }
  return { report, product, tcbs, chipIdMasked: masked, provisionalFirmware: provisional, endorsements };
}

function checkProduct(report: SnpReport, product: AmdProduct): void {
  if (report.product !== undefined && report.product !== product) {
    throw refuse("SNP_PRODUCT_MISMATCH", {
      path: "report.cpuid",
      message: "report and endorsement key are of different products",
      expected: product,
      actual: report.product,
    });
  }
  // Version 2 does not say. Turin leaves all but 8 bytes of CHIP_ID zero, the older products fill all 64.
  if (report.product === undefined && product !== "Turin" && hasShortChipId(report)) {
    throw refuse("SNP_PRODUCT_MISMATCH", {
      path: "report.chipId",
      message: `the chip id is as short as Turin's, the endorsement key is ${product}'s`,
    });
  }
}

function hasShortChipId({ chipId }: SnpReport): boolean {
  return chipId.subarray(8).every((byte) => byte === 0) && chipId.some((byte) => byte !== 0);
}

function checkSigningKey(report: SnpReport, kind: "VCEK" | "VLEK"): void {
  if (report.signingKey !== kind) {
    throw refuse("SNP_SIGNING_KEY_MISMATCH", {
      path: "report.keyInfo",
      message: "the report says that another kind of key signed it",
      expected: kind,
      actual: report.signingKey,
    });
  }
}

function checkChip(report: SnpReport, { key }: VerifiedEndorsements, chipId: MaskedChipId | "bound"): void {
  // A VLEK belongs to a cloud, not to a chip.
  if (key.hwid === undefined || chipId === "leave-to-policy") return;
  if (chipId === "refuse") {
    throw refuse("SNP_CHIP_ID_MASKED", {
      path: "report.chipId",
      message: "the chip id is masked, so nothing ties the report to the chip of the VCEK",
      hint: "have the host unmask it (MASK_CHIP_ID), or let a policy accept it: snp.allowMaskedChipId",
    });
  }
  const size = key.hwid.length;
  if (!report.chipId.subarray(0, size).equals(key.hwid) || report.chipId.subarray(size).some((byte) => byte !== 0)) {
    throw refuse("SNP_CHIP_ID_MISMATCH", {
      path: "report.chipId",
      message: "the report is of another chip than the VCEK",
      expected: key.hwid.toString("hex"),
      actual: report.chipId.toString("hex"),
    });
  }
}

/** The key is derived for REPORTED_TCB: every level must be the same, or the certificate is for another state of the chip. */
function checkKeyTcb(certified: AmdTcb, reported: AmdTcb): void {
  const wrong = tcbComponents.filter((name) => certified[name] !== reported[name]);
  if (wrong.length > 0) {
    throw refuse("SNP_TCB_MISMATCH", {
      path: "report.reportedTcb",
      message: `the endorsement key was issued for another TCB: ${wrong.join(", ")}`,
      expected: describeTcb(certified),
      actual: describeTcb(reported),
    });
  }
}

function checkOrder(tcbs: Readonly<Record<TcbWordName, AmdTcb>>): void {
  for (const name of ["committed", "reported"] as const) {
    if (reachesTcb(tcbs.current, tcbs[name])) continue;
    throw refuse("SNP_TCB_IMPLAUSIBLE", {
      path: `report.${name}Tcb`,
      message: `the ${name} TCB is above the current one, which no firmware reports`,
      expected: `at most ${describeTcb(tcbs.current)}`,
      actual: describeTcb(tcbs[name]),
    });
  }
}

function compareFirmware({ committedFirmware: left, currentFirmware: right }: SnpReport): number {
  return left.major - right.major || left.minor - right.minor || left.build - right.build;
}

/** `bl 4 tee 0 snp 24 ucode 219`, with `fmc` first where there is one. */
export function describeTcb(tcb: Partial<AmdTcb>): string {
  return tcbComponents.flatMap((name) => (tcb[name] === undefined ? [] : [`${name} ${tcb[name]}`])).join(" ");
}
