import { decodeBase64 } from "../../bytes/index.ts";
import type { JsonObject, JsonValue } from "../attester/json.ts";
import { refuse } from "../refuse.ts";
import type { AmdEndorsements } from "./chain.ts";
import { productRows, type AmdProduct } from "./products.ts";
import { reportSize, type SnpReport } from "./report.ts";
import { parseCertTable } from "./cert-table.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Byte arrays of the `sev` crate's parsed report, with their place in the 1184 bytes. Source: reference B 1.11. */
const arrays: readonly (readonly [string, number, number])[] = [
  ["family_id", 0x10, 16],
  ["image_id", 0x20, 16],
  ["report_data", 0x50, 64],
  ["measurement", 0x90, 48],
  ["host_data", 0xc0, 32],
  ["id_key_digest", 0xe0, 48],
  ["author_key_digest", 0x110, 48],
  ["report_id", 0x140, 32],
  ["report_id_ma", 0x160, 32],
  ["chip_id", 0x1a0, 64],
];
const words: readonly (readonly [string, number])[] = [
  ["version", 0],
  ["guest_svn", 4],
  ["vmpl", 0x30],
  ["sig_algo", 0x34],
];
const tcbs: readonly (readonly [string, number])[] = [
  ["current_tcb", 0x38],
  ["reported_tcb", 0x180],
  ["committed_tcb", 0x1e0],
  ["launch_tcb", 0x1f0],
];

/**
 * The 1184 bytes of evidence `{"attestation_report", "cert_chain"}`: raw in base64, or rebuilt from the parsed structure
 * that guest-components sends. Rebuilding loses nothing that is signed: a wrong byte makes the signature fail.
 */
export function reportFromJson(record: Fields): { readonly bytes: Buffer; readonly endorsements: AmdEndorsements | undefined } {
  const report = record["attestation_report"];
  return {
    bytes: typeof report === "string" ? rawReport(report) : rebuild(fieldsOf(report, "evidence.attestation_report")),
    endorsements: readChain(record["cert_chain"]),
  };
}

function rawReport(text: string): Buffer {
  try {
    const bytes = decodeBase64(text.slice(0, 4096), "attestation_report");
    if (bytes.length === reportSize) return bytes;
  } catch {
    // Falls through to the one message about form.
  }
  throw malformed("evidence.attestation_report", "is not 1184 bytes of base64");
}

function rebuild(fields: Fields): Buffer {
  const bytes = Buffer.alloc(reportSize);
  for (const [name, at] of words) bytes.writeUInt32LE(number(fields, name, 0xff_ff_ff_ff), at);
  for (const [name, at, size] of arrays) bytes.set(byteArray(fields[name], size, name), at);
  bytes.writeBigUInt64LE(wide(fields, "policy"), 8);
  bytes.writeBigUInt64LE(wide(fields, "plat_info"), 0x40);
  bytes.writeUInt32LE(number(fields, "key_info", 0xff_ff_ff_ff), 0x48);
  for (const [i, name] of ["cpuid_fam_id", "cpuid_mod_id", "cpuid_step"].entries()) {
    bytes[0x188 + i] = fields[name] === null || fields[name] === undefined ? 0 : number(fields, name, 255);
  }
  for (const [name, at] of tcbs) bytes.set(tcbWord(fieldsOf(fields[name], name), name), at);
  for (const [name, at] of [
    ["current", 0x1e8],
    ["committed", 0x1ec],
  ] as const) {
    const version = fieldsOf(fields[name], name);
    bytes.set([number(version, "build", 255), number(version, "minor", 255), number(version, "major", 255)], at);
  }
  for (const [name, at] of [
    ["launch_mit_vector", 0x1f8],
    ["current_mit_vector", 0x200],
  ] as const) {
    if (fields[name] !== null && fields[name] !== undefined) bytes.writeBigUInt64LE(wide(fields, name), at);
  }
  const signature = fieldsOf(fields["signature"], "signature");
  bytes.set(byteArray(signature["r"], 72, "signature.r"), 0x2a0);
  bytes.set(byteArray(signature["s"], 72, "signature.s"), 0x2e8);
  return bytes;
}

/** Turin's TCB has an `fmc`; that is how the parsed structure tells the layouts apart. */
function tcbWord(tcb: Fields, name: string): Buffer {
  const word = Buffer.alloc(8);
  const fmc = tcb["fmc"];
  const product: AmdProduct = fmc === null || fmc === undefined ? "Milan" : "Turin";
  const layout = productRows[product].tcb;
  if (layout.fmc !== undefined) word[layout.fmc] = number(tcb, "fmc", 255, name);
  word[layout.bl] = number(tcb, "bootloader", 255, name);
  word[layout.tee] = number(tcb, "tee", 255, name);
  word[layout.snp] = number(tcb, "snp", 255, name);
  word[layout.ucode] = number(tcb, "microcode", 255, name);
  return word;
}

const certMembers = { VCEK: "vek", VLEK: "vek", ASK: "ask", ARK: "ark", CRL: "crl" } as const;

function readChain(value: unknown): AmdEndorsements | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return parseCertTable(Buffer.from(value, "base64"));
  if (!Array.isArray(value) || value.length > 16) throw malformed("evidence.cert_chain", "is not a list of at most 16 certificates");
  const found: { vek?: Buffer; ask?: Buffer; ark?: Buffer; crl?: Buffer } = {};
  for (const item of value as readonly unknown[]) {
    const entry = fieldsOf(item, "cert_chain");
    const type = entry["cert_type"];
    if (typeof type !== "string" || !Object.hasOwn(certMembers, type)) continue;
    const member = certMembers[type as keyof typeof certMembers];
    const data = entry["data"];
    if (!Array.isArray(data) || data.length > 65_536) throw malformed("evidence.cert_chain", "has an entry without data");
    found[member] = byteArray(data, data.length, "cert_chain");
  }
  return found;
}

/** Evidence as RCAR carries it, from raw parts: the report in base64, and what the host's certificate table holds. */
export function reportToJson(report: Uint8Array, signingKey: SnpReport["signingKey"], certTable: Uint8Array): JsonObject {
  const table = parseCertTable(certTable);
  const rows = [
    [signingKey === "VLEK" ? "VLEK" : "VCEK", table.vek],
    ["ASK", table.ask],
    ["ARK", table.ark],
    ["CRL", table.crl],
  ] as const;
  const certificates = rows.flatMap(([type, data]): readonly JsonValue[] =>
    data === undefined ? [] : [{ cert_type: type, data: [...data] }],
  );
  return { attestation_report: Buffer.from(report).toString("base64"), cert_chain: certificates.length === 0 ? null : certificates };
}

/** The report in the parsed form that stock verifiers of the `sev` crate expect. */
export function reportToParsedJson(report: SnpReport, product: AmdProduct): JsonObject {
  const layout = productRows[product].tcb;
  const tcb = (word: Buffer): JsonObject => ({
    fmc: layout.fmc === undefined ? null : (word[layout.fmc] ?? 0),
    bootloader: word[layout.bl] ?? 0,
    tee: word[layout.tee] ?? 0,
    snp: word[layout.snp] ?? 0,
    microcode: word[layout.ucode] ?? 0,
  });
  const { signedBytes } = report;
  return {
    ...Object.fromEntries(words.map(([name, at]) => [name, signedBytes.readUInt32LE(at)])),
    ...Object.fromEntries(arrays.map(([name, at, size]) => [name, [...signedBytes.subarray(at, at + size)]])),
    policy: Number(report.policy.value),
    plat_info: Number(report.platformInfo.value),
    key_info: signedBytes.readUInt32LE(0x48),
    cpuid_fam_id: report.cpuid?.[0] ?? null,
    cpuid_mod_id: report.cpuid?.[1] ?? null,
    cpuid_step: report.cpuid?.[2] ?? null,
    current_tcb: tcb(report.tcbWords.current),
    reported_tcb: tcb(report.tcbWords.reported),
    committed_tcb: tcb(report.tcbWords.committed),
    launch_tcb: tcb(report.tcbWords.launch),
    current: { ...report.currentFirmware },
    committed: { ...report.committedFirmware },
    launch_mit_vector: report.launchMitigations === undefined ? null : Number(report.launchMitigations),
    current_mit_vector: report.currentMitigations === undefined ? null : Number(report.currentMitigations),
    signature: {
      r: [...Buffer.from(report.signature.subarray(0, 48)).reverse(), ...Buffer.alloc(24)],
      s: [...Buffer.from(report.signature.subarray(48)).reverse(), ...Buffer.alloc(24)],
    },
  };
}

function fieldsOf(value: unknown, path: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(path, "is not a JSON object");
  return value as Fields;
}

function number(fields: Fields, name: string, max: number, path = "evidence.attestation_report"): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max)
    throw malformed(`${path}.${name}`, `is not a whole number up to ${max}`);
  return value;
}

function wide(fields: Fields, name: string): bigint {
  return BigInt(number(fields, name, Number.MAX_SAFE_INTEGER));
}

function byteArray(value: unknown, size: number, path: string): Buffer {
  const items: readonly unknown[] = Array.isArray(value) ? value : [];
  if (
    items.length !== size ||
    size === 0 ||
    !items.every((item) => typeof item === "number" && Number.isInteger(item) && item >= 0 && item <= 255)
  ) {
    throw malformed(path, `is not a list of ${size} bytes`);
  }
  return Buffer.from(items as readonly number[]);
}

function malformed(path: string, what: string) {
  return refuse("EVIDENCE_MALFORMED", { path, message: `${path} ${what}` });
}
