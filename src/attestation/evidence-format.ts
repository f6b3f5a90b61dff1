import { decodeBase64, decodeHex, parseJson } from "../bytes/index.ts";
import type { AmdEndorsements } from "./amd/chain.ts";
import { reportFromJson } from "./amd/report-json.ts";
import { reportSize } from "./amd/report.ts";
import { AttestationError } from "./errors.ts";
import { refuse } from "./refuse.ts";
import type { TeeName } from "./tee.ts";

/** Evidence brought to bytes, with what came along. */
export interface RawEvidence {
  readonly tee: Extract<TeeName, "tdx" | "sgx" | "snp">;
  readonly bytes: Uint8Array;
  /** Certificates that travelled with the evidence: a convenience, verified like any other. */
  readonly endorsements?: AmdEndorsements | undefined;
  readonly eventLog?: Uint8Array | undefined;
}

/** Largest evidence file that is looked at: an event log in base64 and a quote. */
const maxEvidenceSize = 8 * 1024 * 1024;

/**
 * Recognises a file: a raw quote or report, the same in hex (with or without 0x) or base64, the JSON that RCAR carries,
 * or Azure's HCL report around one. Throws `ERR_EVIDENCE_UNRECOGNISED` when it is none of them, and a refusal when it is
 * one and broken.
 */
export function recogniseEvidence(file: Uint8Array): RawEvidence {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length > maxEvidenceSize) throw unrecognised(`the file has ${bytes.length} bytes, more than ${maxEvidenceSize}`);
  const raw = recogniseBytes(bytes);
  if (raw !== undefined) return raw;
  const text = bytes.toString("latin1").trim();
  if (text.startsWith("{")) return evidenceFromJson(parseJson(bytes, { maxBytes: maxEvidenceSize, subject: "evidence" }));
  const decoded = decodeText(text);
  const inner = decoded === undefined ? undefined : recogniseBytes(decoded);
  if (inner !== undefined) return inner;
  throw unrecognised("the file is neither a TDX or SGX quote, an SNP report, nor one of these in hex, base64 or JSON");
}

function decodeText(text: string): Buffer | undefined {
  const hex = text.replace(/^0x/i, "");
  if (hex.length > 0 && /^(?:[0-9a-f]{2})+$/i.test(hex)) return decodeHex(hex, "evidence");
  const base64 = text.replaceAll(/\s/g, "");
  return /^[A-Za-z0-9+/]+={0,2}$/.test(base64) && base64.length % 4 === 0 ? Buffer.from(base64, "base64") : undefined;
}

/** Offset and value of Intel's vendor id in every version of a quote. */
const vendorId = { offset: 12, value: Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex") } as const;

/**
 * Generous on purpose: what resembles evidence goes to its parser, whose finding says what is wrong with it. A quote has
 * Intel's vendor id or its key type; a report has about its size and a small 32-bit version.
 */
function recogniseBytes(bytes: Buffer): RawEvidence | undefined {
  if (bytes.length < 48) return undefined;
  if (bytes.toString("latin1", 0, 4) === "HCLA") return evidenceFromHcl(bytes);
  const keyType = bytes.readUInt16LE(2);
  const teeType = bytes.readUInt32LE(4);
  const byVendor = bytes.subarray(vendorId.offset, vendorId.offset + vendorId.value.length).equals(vendorId.value);
  if (byVendor || ((keyType === 2 || keyType === 3) && (teeType === 0 || teeType === 0x81) && bytes[1] === 0)) {
    return { tee: teeType === 0x81 ? "tdx" : "sgx", bytes };
  }
  if (bytes.readUInt32LE(0) < 256 && Math.abs(bytes.length - reportSize) < 256) return { tee: "snp", bytes };
  return undefined;
}

const hcl = { report: 32, info: 1216, typeSnp: 2, typeTdx: 4 } as const;

/** Azure's wrapper. Only the report inside is used; what binds a user's data is a vTPM quote, which this file does not carry. */
function evidenceFromHcl(bytes: Buffer): RawEvidence {
  if (bytes.length < hcl.info + 20) throw refuse("EVIDENCE_MALFORMED", { path: "evidence", message: "the HCL report ends early" });
  const type = bytes.readUInt32LE(hcl.info + 8);
  if (type === hcl.typeSnp) return { tee: "snp", bytes: bytes.subarray(hcl.report, hcl.report + reportSize) };
  throw refuse("EVIDENCE_UNKNOWN_TEE", {
    path: "evidence",
    message:
      type === hcl.typeTdx
        ? "the HCL report holds a TD report, which only the quoting service can turn into a quote"
        : `the HCL report is of the unknown type ${type}`,
  });
}

/** Evidence in the JSON that RCAR carries for `tdx`, `sgx` and `snp`. Source: reference B 1.11. */
export function evidenceFromJson(value: unknown): RawEvidence {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refuse("EVIDENCE_MALFORMED", { path: "evidence", message: "the evidence is not a JSON object" });
  }
  const record = value as Readonly<Record<string, unknown>>;
  // What `attest evidence --json` prints.
  if ("evidence" in record && "tee" in record && typeof record["evidence"] === "object") return bareEvidence(record["evidence"]);
  return bareEvidence(record);
}

function bareEvidence(value: unknown): RawEvidence {
  const record = (typeof value === "object" && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  if ("quote" in record) {
    const bytes = base64Member(record["quote"], "evidence.quote");
    const found = recogniseBytes(bytes);
    if (found === undefined || found.tee === "snp")
      throw refuse("EVIDENCE_MALFORMED", { path: "evidence.quote", message: "the member quote holds no TDX or SGX quote" });
    const log = record["cc_eventlog"];
    return { ...found, eventLog: log === undefined || log === null ? undefined : base64Member(log, "evidence.cc_eventlog") };
  }
  if ("attestation_report" in record) return { tee: "snp", ...reportFromJson(record) };
  if ("svn" in record)
    throw refuse("EVIDENCE_UNKNOWN_TEE", {
      path: "evidence",
      message: "the evidence is of the sample TEE, which anybody can write: there is nothing to verify",
    });
  throw refuse("EVIDENCE_UNKNOWN_TEE", { path: "evidence", message: "the evidence has neither a quote nor an attestation_report" });
}

function base64Member(value: unknown, path: string): Buffer {
  if (typeof value !== "string" || value.length > maxEvidenceSize)
    throw refuse("EVIDENCE_MALFORMED", { path, message: "the member is not a base64 text" });
  try {
    return decodeBase64(value, path);
  } catch {
    throw refuse("EVIDENCE_MALFORMED", { path, message: "the member is not base64 with padding" });
  }
}

function unrecognised(message: string): AttestationError {
  return new AttestationError("ERR_EVIDENCE_UNRECOGNISED", {
    message,
    hint: "give the raw quote or report, or the JSON that the guest's attester produced",
  });
}
