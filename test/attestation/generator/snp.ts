import { generateKeyPair, sign } from "node:crypto";
import { promisify } from "node:util";
import type { AmdEndorsements } from "../../../src/attestation/amd/chain.ts";
import { ia5, integer, octets } from "./der.ts";
import {
  certificate,
  ecKey,
  pssSha384,
  revocationList,
  type CertificateSpec,
  type CrlSpec,
  type ExtensionSpec,
  type KeyPair,
} from "./pki.ts";

export type Product = "Milan" | "Genoa" | "Turin";

const newRsaKey = () => promisify(generateKeyPair)("rsa", { modulusLength: 4096 });
/** RSA-4096 takes a second to make, so both keys are made once per process, side by side. */
const [arkKey, intermediateKey]: readonly [KeyPair, KeyPair] = await Promise.all([newRsaKey(), newRsaKey()]);

/** The intermediate's key, for tests that sign with the wrong authority. */
export const askKey = (): KeyPair => intermediateKey;
const vekKey = ecKey("P-384");

export const tcbOf: Readonly<Record<Product, Readonly<Record<string, number>>>> = {
  Milan: { bl: 4, tee: 0, snp: 24, ucode: 219 },
  Genoa: { bl: 10, tee: 0, snp: 25, ucode: 84 },
  Turin: { fmc: 1, bl: 1, tee: 2, snp: 3, ucode: 71 },
};

export interface SnpOptions {
  readonly product?: Product;
  readonly kind?: "VCEK" | "VLEK";
  readonly ark?: Partial<CertificateSpec>;
  readonly ask?: Partial<CertificateSpec>;
  readonly vek?: Partial<CertificateSpec>;
  readonly vekExtensions?: (extensions: readonly ExtensionSpec[]) => readonly ExtensionSpec[];
  readonly crl?: Partial<CrlSpec>;
  readonly hwidForm?: "raw" | "octets";
}

export const chipId = (product: Product) => Buffer.alloc(product === "Turin" ? 8 : 64, 0xc1);

/** A whole PKI like AMD's for one product. */
export function amdPki(
  options: SnpOptions = {},
): AmdEndorsements & { readonly ark: Buffer; readonly vek: Buffer; readonly ask: Buffer; readonly crl: Buffer } {
  const { product = "Milan", kind = "VCEK" } = options;
  const ark = { subject: `ARK-${product}`, key: arkKey };
  const ask = { subject: kind === "VCEK" ? `SEV-${product}` : `SEV-VLEK-${product}`, key: intermediateKey };
  const arc = "1.3.6.1.4.1.3704.1";
  const tcb = tcbOf[product];
  const hwid = chipId(product);
  const extensions: readonly ExtensionSpec[] = [
    { oid: `${arc}.1`, value: integer(product === "Turin" ? 1 : 0) },
    { oid: `${arc}.2`, value: ia5(product === "Milan" ? "Milan-B0" : product) },
    ...(product === "Turin" ? [{ oid: `${arc}.3.9`, value: integer(tcb["fmc"] ?? 0) }] : [{ oid: `${arc}.3.4`, value: integer(0) }]),
    { oid: `${arc}.3.1`, value: integer(tcb["bl"] ?? 0) },
    { oid: `${arc}.3.2`, value: integer(tcb["tee"] ?? 0) },
    { oid: `${arc}.3.3`, value: integer(tcb["snp"] ?? 0) },
    { oid: `${arc}.3.8`, value: integer(tcb["ucode"] ?? 0) },
    kind === "VCEK"
      ? { oid: `${arc}.4`, value: options.hwidForm === "octets" ? octets(hwid) : hwid }
      : { oid: `${arc}.5`, value: ia5("CN=cc-test.example") },
  ];
  return {
    ark: certificate({ ...ark, ca: true, serial: 0x10000n, algorithm: pssSha384, ...options.ark }),
    ask: certificate({ ...ask, issuer: ark, ca: true, serial: 0x10001n, algorithm: pssSha384, ...options.ask }),
    vek: certificate({
      subject: `SEV-${kind}`,
      key: vekKey,
      issuer: ask,
      serial: 0n,
      keyUsage: "none",
      algorithm: pssSha384,
      extensions: options.vekExtensions?.(extensions) ?? extensions,
      ...options.vek,
    }),
    crl: revocationList({ issuer: ark, algorithm: pssSha384, ...options.crl }),
  };
}

const layouts: Readonly<Record<Product, Readonly<Record<string, number>>>> = {
  Milan: { bl: 0, tee: 1, snp: 6, ucode: 7 },
  Genoa: { bl: 0, tee: 1, snp: 6, ucode: 7 },
  Turin: { fmc: 0, bl: 1, tee: 2, snp: 3, ucode: 7 },
};
const cpuids: Readonly<Record<Product, readonly number[]>> = { Milan: [0x19, 1, 1], Genoa: [0x19, 0x11, 1], Turin: [0x1a, 2, 1] };

export interface ReportOptions {
  readonly product?: Product;
  readonly kind?: "VCEK" | "VLEK";
  readonly version?: 2 | 3 | 4 | 5;
  readonly reportData?: Uint8Array;
  readonly hostData?: Uint8Array;
  /** Changes the report before it is signed. */
  readonly change?: (report: Buffer) => void;
}

/** A report signed by the generated endorsement key. */
export function makeReport(options: ReportOptions = {}): Buffer {
  const { product = "Milan", kind = "VCEK", version = 3 } = options;
  const report = Buffer.alloc(1184);
  report.writeUInt32LE(version, 0);
  report.writeBigUInt64LE(0x30000n, 8);
  report.writeUInt32LE(1, 0x34);
  report.writeBigUInt64LE(0x25n, 0x40);
  report.writeUInt32LE(kind === "VLEK" ? 4 : 0, 0x48);
  report.set(options.reportData ?? [], 0x50);
  report.fill(0xab, 0x90, 0xc0);
  report.set(options.hostData ?? [], 0xc0);
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) {
    for (const [component, index] of Object.entries(layouts[product])) report[at + index] = tcbOf[product][component] ?? 0;
  }
  if (version > 2) report.set(cpuids[product], 0x188);
  if (kind === "VCEK") report.set(chipId(product), 0x1a0);
  report.set([29, 55, 1], 0x1e8);
  report.set([29, 55, 1], 0x1ec);
  options.change?.(report);
  const signature = sign("sha384", report.subarray(0, 0x2a0), { key: vekKey.privateKey, dsaEncoding: "ieee-p1363" });
  report.set(Buffer.from(signature.subarray(0, 48)).reverse(), 0x2a0);
  report.set(Buffer.from(signature.subarray(48)).reverse(), 0x2a0 + 72);
  return report;
}
