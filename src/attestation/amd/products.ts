/** Product lines with a public key hierarchy. Bergamo and Siena chain to Genoa. */
export const amdProducts = ["Milan", "Genoa", "Turin"] as const;
export type AmdProduct = (typeof amdProducts)[number];

/** ARK: root; ASK signs VCEKs; ASVK signs VLEKs. */
export type AmdRole = "ark" | "ask" | "asvk";

/** Components of a TCB version, by AMD's names. FMC exists since Turin. */
export interface AmdTcb {
  readonly fmc?: number | undefined;
  readonly bl: number;
  readonly tee: number;
  readonly snp: number;
  readonly ucode: number;
}

/** Byte of each component in the 8-byte TCB word; all other bytes are reserved and zero. Source: reference C 1.6. */
interface ProductRow {
  readonly tcb: Readonly<Record<"bl" | "tee" | "snp" | "ucode", number>> & { readonly fmc?: number };
  /** Bytes of CHIP_ID that the hardware id has. */
  readonly hwidSize: 8 | 64;
}

export const productRows: Readonly<Record<AmdProduct, ProductRow>> = {
  Milan: { tcb: { bl: 0, tee: 1, snp: 6, ucode: 7 }, hwidSize: 64 },
  Genoa: { tcb: { bl: 0, tee: 1, snp: 6, ucode: 7 }, hwidSize: 64 },
  Turin: { tcb: { fmc: 0, bl: 1, tee: 2, snp: 3, ucode: 7 }, hwidSize: 8 },
};

export const tcbComponents = ["fmc", "bl", "tee", "snp", "ucode"] as const;

/** Splits a TCB word by the product's layout; `undefined` when a reserved byte is not zero. */
export function splitTcb(word: Uint8Array, product: AmdProduct): AmdTcb | undefined {
  const { tcb } = productRows[product];
  const used = new Set(Object.values(tcb));
  if (word.some((byte, i) => byte !== 0 && !used.has(i))) return undefined;
  const at = (index: number) => word[index] ?? 0;
  const common = { bl: at(tcb.bl), tee: at(tcb.tee), snp: at(tcb.snp), ucode: at(tcb.ucode) };
  return tcb.fmc === undefined ? common : { fmc: at(tcb.fmc), ...common };
}

/** Whether every component of `have` is at least that of `need`. */
export function reachesTcb(have: AmdTcb, need: Partial<AmdTcb>): boolean {
  return tcbComponents.every((name) => need[name] === undefined || (have[name] ?? 0) >= need[name]);
}

const cpuidRanges: readonly {
  readonly family: number;
  readonly models: readonly [number, number];
  readonly product: AmdProduct | "Venice";
}[] = [
  { family: 0x19, models: [0x00, 0x0f], product: "Milan" },
  { family: 0x19, models: [0x10, 0x1f], product: "Genoa" },
  { family: 0x19, models: [0xa0, 0xaf], product: "Genoa" },
  { family: 0x1a, models: [0x00, 0x11], product: "Turin" },
  { family: 0x1a, models: [0x50, 0x57], product: "Venice" },
  { family: 0x1a, models: [0x90, 0xaf], product: "Venice" },
  { family: 0x1a, models: [0xc0, 0xc7], product: "Venice" },
];

/** The product line of a CPUID, if it is known. Venice is known by name and has no public certificates yet. Source: reference C 1.6. */
export function productOfCpuid(family: number, model: number): AmdProduct | "Venice" | undefined {
  return cpuidRanges.find((range) => range.family === family && model >= range.models[0] && model <= range.models[1])?.product;
}

const rolePrefixes: readonly (readonly [string, AmdRole])[] = [
  ["ARK-", "ark"],
  ["SEV-VLEK-", "asvk"],
  ["SEV-", "ask"],
];

/** Product and role that a common name of AMD's PKI says; `undefined` for endorsement keys and strangers. */
export function productOfCommonName(name: string): { readonly product: AmdProduct; readonly role: AmdRole } | undefined {
  for (const [prefix, role] of rolePrefixes) {
    const product = amdProducts.find((candidate) => name === prefix + candidate);
    if (product !== undefined) return { product, role };
  }
  return undefined;
}
