import { refuse } from "../refuse.ts";
import { parseSgxReport, type SgxReport } from "./quote-body.ts";

/** What follows the body: signatures, the quoting enclave's report, and where the PCK comes from. Source: reference C 1.4. */
export interface SignatureSection {
  /** r‖s over the signed bytes, big-endian. */
  readonly quoteSignature: Buffer;
  /** x‖y of the attestation key on P-256. */
  readonly attestationKey: Buffer;
  readonly qeReport: SgxReport;
  /** r‖s over the QE report by the PCK key. */
  readonly qeReportSignature: Buffer;
  /** Any length is legal; all of it is hashed into the QE report. */
  readonly qeAuthenticationData: Buffer;
  readonly certification: CertificationData;
}

/** How the quote names its PCK certificate. */
export type CertificationData =
  | { readonly kind: "pck-chain"; readonly pem: Buffer }
  | { readonly kind: "pck-leaf"; readonly pem: Buffer }
  | { readonly kind: "platform-manifest"; readonly data: Buffer }
  | {
      readonly kind: "ppid";
      /** Type 1 is the PPID in clear, 2 and 3 are encrypted with RSA-2048 and RSA-3072. */
      readonly encryption: "none" | "rsa-2048" | "rsa-3072";
      readonly ppid: Buffer;
      readonly cpuSvn: Buffer;
      readonly pceSvn: number;
      readonly pceId: Buffer;
    };

const qeReportCertificationType = 6;

/** A cursor that refuses to run past its end. */
interface Cursor {
  at: number;
  readonly end: number;
  readonly input: Buffer;
}

/** Reads the section that starts with its own length at `start`. v4 and v5 wrap the QE report in certification data of type 6. */
export function parseSignatureSection(
  input: Buffer,
  start: number,
  form: "v3" | "v4",
): { readonly section: SignatureSection; readonly end: number } {
  const length = input.readUInt32LE(start);
  const end = start + 4 + length;
  if (end > input.length) throw malformed("quote.signature", `the signature section has ${length} bytes, more than the quote`);
  const cursor: Cursor = { at: start + 4, end, input };
  const quoteSignature = take(cursor, 64);
  const attestationKey = take(cursor, 64);
  if (form === "v4") {
    const type = take(cursor, 2).readUInt16LE(0);
    if (type !== qeReportCertificationType) throw malformed("quote.signature", `the outer certification data has type ${type}, not 6`);
    const size = take(cursor, 4).readUInt32LE(0);
    if (size !== end - cursor.at) throw malformed("quote.signature", "the outer certification data does not fill the signature section");
  }
  const qeReport = parseSgxReport(take(cursor, 384), "quote.signature.qeReport");
  const qeReportSignature = take(cursor, 64);
  const qeAuthenticationData = take(cursor, take(cursor, 2).readUInt16LE(0));
  const type = take(cursor, 2).readUInt16LE(0);
  const data = take(cursor, take(cursor, 4).readUInt32LE(0));
  if (cursor.at !== end) throw malformed("quote.signature", `${end - cursor.at} bytes follow the certification data`);
  return {
    section: {
      quoteSignature,
      attestationKey,
      qeReport,
      qeReportSignature,
      qeAuthenticationData,
      certification: parseCertification(type, data),
    },
    end,
  };
}

const ppidSizes = {
  1: { size: 16, encryption: "none" },
  2: { size: 256, encryption: "rsa-2048" },
  3: { size: 384, encryption: "rsa-3072" },
} as const;

function parseCertification(type: number, data: Buffer): CertificationData {
  switch (type) {
    case 1:
    case 2:
    case 3: {
      const { size, encryption } = ppidSizes[type];
      if (data.length !== size + 20)
        throw malformed("quote.certificationData", `certification data of type ${type} has ${data.length} bytes, not ${size + 20}`);
      return {
        kind: "ppid",
        encryption,
        ppid: data.subarray(0, size),
        cpuSvn: data.subarray(size, size + 16),
        pceSvn: data.readUInt16LE(size + 16),
        pceId: data.subarray(size + 18, size + 20),
      };
    }
    case 4:
      return { kind: "pck-leaf", pem: data };
    case 5:
      return { kind: "pck-chain", pem: data };
    case 7:
      return { kind: "platform-manifest", data };
    default:
      throw refuse("QUOTE_CERTIFICATION_UNKNOWN", {
        path: "quote.certificationData",
        message: `the certification data has the unknown type ${type}`,
        expected: "1 to 5, or 7",
      });
  }
}

function take(cursor: Cursor, size: number): Buffer {
  const end = cursor.at + size;
  if (end > cursor.end) throw malformed("quote.signature", "the signature section ends early");
  const part = cursor.input.subarray(cursor.at, end);
  cursor.at = end;
  return part;
}

function malformed(path: string, message: string) {
  return refuse("EVIDENCE_MALFORMED", { path, message });
}
