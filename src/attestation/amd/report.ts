import { refuse } from "../refuse.ts";
import { amdProducts, productOfCpuid, splitTcb, type AmdProduct, type AmdTcb } from "./products.ts";

/** An SNP attestation report, parsed strictly. All buffers are views of the input. Source: AMD 56860 (SEV-SNP ABI), table 23; reference C 1.6. */
export interface SnpReport {
  readonly version: 2 | 3 | 4 | 5;
  readonly guestSvn: number;
  readonly policy: SnpGuestPolicy;
  readonly familyId: Buffer;
  readonly imageId: Buffer;
  readonly vmpl: number;
  readonly platformInfo: SnpPlatformInfo;
  readonly authorKeyEnabled: boolean;
  readonly maskChipKey: boolean;
  readonly signingKey: "VCEK" | "VLEK" | "none";
  readonly reportData: Buffer;
  readonly measurement: Buffer;
  readonly hostData: Buffer;
  readonly idKeyDigest: Buffer;
  readonly authorKeyDigest: Buffer;
  readonly reportId: Buffer;
  readonly reportIdMa: Buffer;
  /** Family, model, stepping; from version 3 on. */
  readonly cpuid: readonly [number, number, number] | undefined;
  /** From the CPUID; `undefined` in version 2, where the endorsement key's certificate decides. */
  readonly product: AmdProduct | undefined;
  readonly chipId: Buffer;
  /** TCB words, to be split by the product's layout with {@link tcbsOf}. */
  readonly tcbWords: Readonly<Record<TcbWordName, Buffer>>;
  readonly currentFirmware: FirmwareVersion;
  readonly committedFirmware: FirmwareVersion;
  /** Version 5. */
  readonly launchMitigations: bigint | undefined;
  readonly currentMitigations: bigint | undefined;
  /** Bytes 0x000 to 0x29f, exactly as received: what the signature is over. */
  readonly signedBytes: Buffer;
  /** r‖s, big-endian, 48 bytes each. */
  readonly signature: Buffer;
}

export const tcbWordNames = ["current", "reported", "committed", "launch"] as const;
export type TcbWordName = (typeof tcbWordNames)[number];

export interface FirmwareVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

/** POLICY of the guest, bit by bit. */
export interface SnpGuestPolicy {
  readonly value: bigint;
  readonly abiMinor: number;
  readonly abiMajor: number;
  readonly smtAllowed: boolean;
  readonly migrateMaAllowed: boolean;
  readonly debugAllowed: boolean;
  readonly singleSocket: boolean;
  readonly cxlAllowed: boolean;
  readonly memAes256Xts: boolean;
  readonly raplDisabled: boolean;
  readonly ciphertextHiding: boolean;
  readonly pageSwapDisabled: boolean;
}

/** PLATFORM_INFO, bit by bit. */
export interface SnpPlatformInfo {
  readonly value: bigint;
  readonly smtEnabled: boolean;
  readonly tsmeEnabled: boolean;
  readonly eccEnabled: boolean;
  readonly raplDisabled: boolean;
  readonly ciphertextHiding: boolean;
  /** The check against memory aliasing (BadRAM) has run. */
  readonly aliasCheckComplete: boolean;
  readonly tioEnabled: boolean;
}

export const reportSize = 1184;
const signedSize = 0x2a0;
const signatureAlgorithm = 1;

/** Parses a report of version 2 to 5. Throws a refusal whose path starts with `report`. */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  if (bytes.length !== reportSize) {
    throw refuse(bytes.length > reportSize ? "EVIDENCE_TRAILING_DATA" : "EVIDENCE_MALFORMED", {
      path: "report",
      message: "the SNP report does not have exactly 1184 bytes",
      expected: String(reportSize),
      actual: String(bytes.length),
    });
  }
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = input.readUInt32LE(0);
  if (version !== 2 && version !== 3 && version !== 4 && version !== 5) {
    throw refuse("EVIDENCE_VERSION_UNKNOWN", {
      path: "report.version",
      message: "the report has an unknown version",
      expected: "2 to 5",
      actual: String(version),
    });
  }
  checkReserved(input, version);
  const vmpl = input.readUInt32LE(0x30);
  if (vmpl > 3) throw malformed("report.vmpl", `VMPL ${vmpl} does not exist`);
  const algorithm = input.readUInt32LE(0x34);
  if (algorithm !== signatureAlgorithm)
    throw malformed("report.signatureAlgo", `the signature algorithm ${algorithm} is not ECDSA P-384 with SHA-384 (1)`);
  const keyInfo = input.readUInt32LE(0x48);
  const cpuid = version === 2 ? undefined : ([input[0x188] ?? 0, input[0x189] ?? 0, input[0x18a] ?? 0] as const);
  return {
    version,
    guestSvn: input.readUInt32LE(4),
    policy: parsePolicy(input.readBigUInt64LE(8)),
    familyId: input.subarray(0x10, 0x20),
    imageId: input.subarray(0x20, 0x30),
    vmpl,
    platformInfo: parsePlatformInfo(input.readBigUInt64LE(0x40)),
    authorKeyEnabled: (keyInfo & 1) !== 0,
    maskChipKey: (keyInfo & 2) !== 0,
    signingKey: signingKeyOf((keyInfo >> 2) & 7),
    reportData: input.subarray(0x50, 0x90),
    measurement: input.subarray(0x90, 0xc0),
    hostData: input.subarray(0xc0, 0xe0),
    idKeyDigest: input.subarray(0xe0, 0x110),
    authorKeyDigest: input.subarray(0x110, 0x140),
    reportId: input.subarray(0x140, 0x160),
    reportIdMa: input.subarray(0x160, 0x180),
    cpuid,
    product: cpuid === undefined ? undefined : knownProduct(cpuid),
    chipId: input.subarray(0x1a0, 0x1e0),
    tcbWords: {
      current: input.subarray(0x38, 0x40),
      reported: input.subarray(0x180, 0x188),
      committed: input.subarray(0x1e0, 0x1e8),
      launch: input.subarray(0x1f0, 0x1f8),
    },
    currentFirmware: { build: input[0x1e8] ?? 0, minor: input[0x1e9] ?? 0, major: input[0x1ea] ?? 0 },
    committedFirmware: { build: input[0x1ec] ?? 0, minor: input[0x1ed] ?? 0, major: input[0x1ee] ?? 0 },
    launchMitigations: version === 5 ? input.readBigUInt64LE(0x1f8) : undefined,
    currentMitigations: version === 5 ? input.readBigUInt64LE(0x200) : undefined,
    signedBytes: input.subarray(0, signedSize),
    signature: readSignature(input),
  };
}

/** Reserved ranges: always, and those that later versions gave a meaning. */
const reservedRanges: readonly { readonly start: number; readonly end: number; readonly before: number }[] = [
  { start: 0x4c, end: 0x50, before: 99 },
  { start: 0x188, end: 0x18b, before: 3 },
  { start: 0x18b, end: 0x1a0, before: 99 },
  { start: 0x1eb, end: 0x1ec, before: 99 },
  { start: 0x1ef, end: 0x1f0, before: 99 },
  { start: 0x1f8, end: 0x208, before: 5 },
  { start: 0x208, end: signedSize, before: 99 },
  { start: signedSize + 144, end: reportSize, before: 99 },
];

function checkReserved(input: Buffer, version: number): void {
  for (const { start, end, before } of reservedRanges) {
    if (version >= before || input.subarray(start, end).every((byte) => byte === 0)) continue;
    throw reserved(
      "report",
      `bytes 0x${start.toString(16)} to 0x${(end - 1).toString(16)} of the report are reserved in version ${version} and not zero`,
    );
  }
  if (input.readUInt32LE(0x48) >>> 5 !== 0) throw reserved("report.keyInfo", "reserved bits of the key information are set");
}

function parsePolicy(value: bigint): SnpGuestPolicy {
  const has = (index: number) => ((value >> BigInt(index)) & 1n) === 1n;
  if (!has(17) || value >> 26n !== 0n) {
    throw reserved("report.policy", "bit 17 of the guest policy must be one, bits 26 to 63 zero");
  }
  return {
    value,
    abiMinor: Number(value & 0xffn),
    abiMajor: Number((value >> 8n) & 0xffn),
    smtAllowed: has(16),
    migrateMaAllowed: has(18),
    debugAllowed: has(19),
    singleSocket: has(20),
    cxlAllowed: has(21),
    memAes256Xts: has(22),
    raplDisabled: has(23),
    ciphertextHiding: has(24),
    pageSwapDisabled: has(25),
  };
}

function parsePlatformInfo(value: bigint): SnpPlatformInfo {
  const has = (index: number) => ((value >> BigInt(index)) & 1n) === 1n;
  return {
    value,
    smtEnabled: has(0),
    tsmeEnabled: has(1),
    eccEnabled: has(2),
    raplDisabled: has(3),
    ciphertextHiding: has(4),
    aliasCheckComplete: has(5),
    tioEnabled: has(7),
  };
}

function signingKeyOf(value: number): SnpReport["signingKey"] {
  switch (value) {
    case 0:
      return "VCEK";
    case 1:
      return "VLEK";
    case 7:
      return "none";
    default:
      throw malformed("report.keyInfo", `the signing key ${value} is unknown`);
  }
}

function knownProduct(cpuid: readonly [number, number, number]): AmdProduct {
  const product = productOfCpuid(cpuid[0], cpuid[1]);
  const known = amdProducts.find((candidate) => candidate === product);
  if (known === undefined) {
    throw refuse("SNP_PRODUCT_UNKNOWN", {
      path: "report.cpuid",
      message: product === undefined ? "the report is of an unknown processor" : `AMD has published no certificates for ${product} yet`,
      expected: amdProducts.join(", "),
      actual: `family 0x${cpuid[0].toString(16)} model 0x${cpuid[1].toString(16)}`,
    });
  }
  return known;
}

/** AMD writes both numbers little-endian in 72 bytes, of which the upper 24 are zero for P-384. */
function readSignature(input: Buffer): Buffer {
  const parts = [0, 72].map((offset) => {
    const number = input.subarray(signedSize + offset, signedSize + offset + 72);
    if (number.subarray(48).some((byte) => byte !== 0)) throw malformed("report.signature", "a signature component has more than 48 bytes");
    return Buffer.from(number.subarray(0, 48)).reverse();
  });
  return Buffer.concat(parts, 96);
}

/** The four TCBs by the layout of a product, which must be decided first: the wrong layout may fit by accident. */
export function tcbsOf(report: SnpReport, product: AmdProduct): Readonly<Record<TcbWordName, AmdTcb>> {
  const split = (name: TcbWordName): AmdTcb => {
    const tcb = splitTcb(report.tcbWords[name], product);
    if (tcb === undefined) throw reserved(`report.${name}Tcb`, `a reserved byte of the ${name} TCB is not zero for ${product}`);
    return tcb;
  };
  return { current: split("current"), reported: split("reported"), committed: split("committed"), launch: split("launch") };
}

function reserved(path: string, message: string) {
  return refuse("EVIDENCE_RESERVED_NOT_ZERO", { path, message });
}

function malformed(path: string, message: string) {
  return refuse("EVIDENCE_MALFORMED", { path, message });
}
