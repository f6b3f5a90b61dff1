import { refuse } from "../refuse.ts";

/** The kinds of body that a quote can carry, with their number in quote v5 and their size in bytes. Source: reference C 1.1, 1.2. */
export const bodyKinds = {
  sgx: { type: 1, size: 384 },
  td10: { type: 2, size: 584 },
  td15: { type: 3, size: 648 },
  td15ex: { type: 4, size: 885 },
} as const;

export type BodyKind = keyof typeof bodyKinds;

/** An SGX report body: also the quoting enclave's report. All buffers are views. Source: reference C 1.3. */
export interface SgxReport {
  readonly kind: "sgx";
  readonly raw: Buffer;
  readonly cpuSvn: Buffer;
  readonly miscSelect: Buffer;
  readonly isvExtProdId: Buffer;
  /** Flags (8 bytes) and XFRM (8 bytes). */
  readonly attributes: Buffer;
  readonly mrEnclave: Buffer;
  readonly mrSigner: Buffer;
  readonly configId: Buffer;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly configSvn: number;
  readonly isvFamilyId: Buffer;
  readonly reportData: Buffer;
  /** ATTRIBUTES bit 1. */
  readonly debug: boolean;
}

/** A TD report body. All buffers are views. Source: reference C 1.2. */
export interface TdReport {
  readonly kind: "td10" | "td15" | "td15ex";
  readonly raw: Buffer;
  readonly teeTcbSvn: Buffer;
  readonly mrSeam: Buffer;
  readonly mrSignerSeam: Buffer;
  readonly seamAttributes: Buffer;
  readonly tdAttributes: Buffer;
  readonly xfam: Buffer;
  readonly mrTd: Buffer;
  readonly mrConfigId: Buffer;
  readonly mrOwner: Buffer;
  readonly mrOwnerConfig: Buffer;
  readonly rtmr: readonly [Buffer, Buffer, Buffer, Buffer];
  readonly reportData: Buffer;
  /** TD 1.5: SVNs of the module that runs now. */
  readonly teeTcbSvn2: Buffer | undefined;
  readonly mrServiceTd: Buffer | undefined;
  /** TD 1.5 extended: the members of reference C 1.2, by name, raw. */
  readonly extended: Readonly<Record<string, Buffer>> | undefined;
  /** Any bit of the TUD group (bits 0 to 7 of TDATTRIBUTES): the TD is not to be trusted. */
  readonly debug: boolean;
  /** TDATTRIBUTES bit 29. */
  readonly migratable: boolean;
  /** TDATTRIBUTES bit 28. */
  readonly septVeDisable: boolean;
}

const sgxReserved: readonly (readonly [number, number])[] = [
  [20, 32],
  [96, 128],
  [160, 192],
  [262, 304],
];

/** Reads 384 bytes as an SGX report. Reserved bytes must be zero. */
export function parseSgxReport(raw: Buffer, path: string): SgxReport {
  if (raw.length !== bodyKinds.sgx.size) throw wrongSize(raw, path);
  for (const [start, end] of sgxReserved) {
    if (raw.subarray(start, end).some((byte) => byte !== 0)) {
      throw refuse("EVIDENCE_RESERVED_NOT_ZERO", {
        path,
        message: `bytes ${start} to ${end - 1} of the SGX report are reserved and not zero`,
      });
    }
  }
  const attributes = raw.subarray(48, 64);
  return {
    kind: "sgx",
    raw,
    cpuSvn: raw.subarray(0, 16),
    miscSelect: raw.subarray(16, 20),
    isvExtProdId: raw.subarray(32, 48),
    attributes,
    mrEnclave: raw.subarray(64, 96),
    mrSigner: raw.subarray(128, 160),
    configId: raw.subarray(192, 256),
    isvProdId: raw.readUInt16LE(256),
    isvSvn: raw.readUInt16LE(258),
    configSvn: raw.readUInt16LE(260),
    isvFamilyId: raw.subarray(304, 320),
    reportData: raw.subarray(320, 384),
    debug: bit(attributes, 1),
  };
}

/** Members of the extended TD 1.5 body after MRSERVICETD. Source: reference C 1.2. */
const extendedMembers: readonly (readonly [string, number, number])[] = [
  ["vmId", 648, 1],
  ["tdId", 649, 32],
  ["deviceInfo", 681, 48],
  ["initialServiceTdHash", 729, 48],
  ["initialServiceTdAttributes", 777, 8],
  ["initialCpuSvn", 785, 16],
  ["initialTeeTcbSvn", 801, 16],
  ["initialTeeFmspc", 817, 12],
  ["currentServiceTdHash", 829, 48],
  ["currentServiceTdAttributes", 877, 8],
];

/** Reads a TD report of the kind's size. */
export function parseTdReport(kind: TdReport["kind"], raw: Buffer, path: string): TdReport {
  if (raw.length !== bodyKinds[kind].size) throw wrongSize(raw, path);
  const tdAttributes = raw.subarray(120, 128);
  const newer = kind !== "td10";
  return {
    kind,
    raw,
    teeTcbSvn: raw.subarray(0, 16),
    mrSeam: raw.subarray(16, 64),
    mrSignerSeam: raw.subarray(64, 112),
    seamAttributes: raw.subarray(112, 120),
    tdAttributes,
    xfam: raw.subarray(128, 136),
    mrTd: raw.subarray(136, 184),
    mrConfigId: raw.subarray(184, 232),
    mrOwner: raw.subarray(232, 280),
    mrOwnerConfig: raw.subarray(280, 328),
    rtmr: [raw.subarray(328, 376), raw.subarray(376, 424), raw.subarray(424, 472), raw.subarray(472, 520)],
    reportData: raw.subarray(520, 584),
    teeTcbSvn2: newer ? raw.subarray(584, 600) : undefined,
    mrServiceTd: newer ? raw.subarray(600, 648) : undefined,
    extended:
      kind === "td15ex" ? Object.fromEntries(extendedMembers.map(([name, at, size]) => [name, raw.subarray(at, at + size)])) : undefined,
    debug: (tdAttributes[0] ?? 0xff) !== 0,
    migratable: bit(tdAttributes, 29),
    septVeDisable: bit(tdAttributes, 28),
  };
}

/** Bit `index` of a little-endian field. */
export function bit(field: Buffer, index: number): boolean {
  return ((field[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
}

function wrongSize(raw: Buffer, path: string) {
  return refuse("EVIDENCE_MALFORMED", { path, message: `the report body has ${raw.length} bytes, which fits no kind of body` });
}
