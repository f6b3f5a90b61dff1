import { refuse } from "../refuse.ts";
import { bodyKinds, parseSgxReport, parseTdReport, type BodyKind, type SgxReport, type TdReport } from "./quote-body.ts";
import { parseSignatureSection, type SignatureSection } from "./signature-section.ts";

/** A quote, parsed strictly. All buffers are views of the input. Source: reference C 1.1 to 1.4. */
export interface Quote {
  readonly version: 3 | 4 | 5;
  readonly tee: "sgx" | "tdx";
  readonly header: QuoteHeader;
  readonly body: SgxReport | TdReport;
  /** Header, body descriptor (v5) and body: the bytes under the quote's signature, exactly as received. */
  readonly signedBytes: Buffer;
  readonly signature: SignatureSection;
  /** Zero bytes after the signature section, as real hosts append them. */
  readonly trailingBytes: number;
}

/** The 48 bytes at the start. */
export interface QuoteHeader {
  readonly raw: Buffer;
  /** v3 only; zero otherwise. */
  readonly qeSvn: number;
  readonly pceSvn: number;
  readonly vendorId: Buffer;
  readonly userData: Buffer;
}

/** Largest quote that is looked at; Google's padded ones have 8000 bytes. */
export const maxQuoteSize = 64 * 1024;

const headerSize = 48;
/** Attestation key type 2: ECDSA P-256. Source: reference C 1.1. */
const ecdsaP256 = 2;
const intelVendorId = Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex");
const teeTypes: ReadonlyMap<number, "sgx" | "tdx"> = new Map([
  [0, "sgx"],
  [0x81, "tdx"],
]);

/** Parses a TDX or SGX quote of version 3, 4 or 5. Throws a refusal whose path starts with `quote`. */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.length > maxQuoteSize) throw malformed("quote", `a quote has ${bytes.length} bytes, more than ${maxQuoteSize}`);
  if (bytes.length < headerSize + bodyKinds.sgx.size) throw malformed("quote", `${bytes.length} bytes are too few for a quote`);
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = input.readUInt16LE(0);
  if (version !== 3 && version !== 4 && version !== 5) {
    throw refuse("EVIDENCE_VERSION_UNKNOWN", {
      path: "quote.header.version",
      message: "the quote has an unknown version",
      expected: "3, 4 or 5",
      actual: String(version),
    });
  }
  const keyType = input.readUInt16LE(2);
  if (keyType !== ecdsaP256) {
    throw refuse("QUOTE_KEY_TYPE_UNKNOWN", {
      path: "quote.header.attestationKeyType",
      message: "the attestation key is not of type 2 (ECDSA P-256)",
      expected: "2",
      actual: String(keyType),
    });
  }
  const tee = teeTypes.get(input.readUInt32LE(4));
  if (tee === undefined || (version === 3 && tee !== "sgx")) {
    throw refuse("EVIDENCE_UNKNOWN_TEE", {
      path: "quote.header.teeType",
      message: `the quote names an unknown TEE type 0x${input.readUInt32LE(4).toString(16)}`,
    });
  }
  if (version !== 3 && input.readUInt32LE(8) !== 0) {
    throw refuse("EVIDENCE_RESERVED_NOT_ZERO", { path: "quote.header", message: "bytes 8 to 11 of the header are reserved and not zero" });
  }
  const vendorId = input.subarray(12, 28);
  if (!vendorId.equals(intelVendorId)) {
    throw refuse("QUOTE_VENDOR_UNKNOWN", {
      path: "quote.header.qeVendorId",
      message: "the quoting enclave is not Intel's",
      expected: intelVendorId.toString("hex"),
      actual: vendorId.toString("hex"),
    });
  }
  const { kind, start } = bodyOf(input, version, tee);
  const end = start + bodyKinds[kind].size;
  if (input.length < end + 4) throw malformed("quote.body", "the quote ends inside its body");
  const raw = input.subarray(start, end);
  const section = parseSignatureSection(input, end, version === 3 ? "v3" : "v4");
  const trailing = input.subarray(section.end);
  if (trailing.some((byte) => byte !== 0)) {
    throw refuse("EVIDENCE_TRAILING_DATA", {
      path: "quote",
      message: `${trailing.length} bytes that are not zero padding follow the quote`,
    });
  }
  return {
    version,
    tee,
    header: {
      raw: input.subarray(0, headerSize),
      qeSvn: input.readUInt16LE(8),
      pceSvn: input.readUInt16LE(10),
      vendorId,
      userData: input.subarray(28, 48),
    },
    body: kind === "sgx" ? parseSgxReport(raw, "quote.body") : parseTdReport(kind, raw, "quote.body"),
    signedBytes: input.subarray(0, end),
    signature: section.section,
    trailingBytes: trailing.length,
  };
}

function bodyOf(input: Buffer, version: 3 | 4 | 5, tee: "sgx" | "tdx"): { readonly kind: BodyKind; readonly start: number } {
  if (version !== 5) return { kind: tee === "sgx" ? "sgx" : "td10", start: headerSize };
  const type = input.readUInt16LE(headerSize);
  const size = input.readUInt32LE(headerSize + 2);
  for (const [kind, row] of Object.entries(bodyKinds) as readonly (readonly [BodyKind, (typeof bodyKinds)[BodyKind]])[]) {
    if (row.type !== type) continue;
    if (row.size !== size) throw malformed("quote.body", `body type ${type} has ${row.size} bytes, the quote says ${size}`);
    if ((kind === "sgx") !== (tee === "sgx"))
      throw malformed("quote.body", `a body of type ${type} does not belong to a TEE of type ${tee}`);
    return { kind, start: headerSize + 6 };
  }
  throw refuse("EVIDENCE_VERSION_UNKNOWN", { path: "quote.body", message: `the quote has an unknown body type ${type}` });
}

function malformed(path: string, message: string) {
  return refuse("EVIDENCE_MALFORMED", { path, message });
}
