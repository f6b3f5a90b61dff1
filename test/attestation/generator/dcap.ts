import { createHash, sign, type KeyObject } from "node:crypto";
import type { IntelCollateral } from "../../../src/attestation/intel/collateral.ts";
import { enumerated, integer, octets, oid, sequence } from "./der.ts";
import { certificate, ecKey, pem, revocationList, type CertificateSpec, type KeyPair } from "./pki.ts";

/** The moment at which generated evidence is good. */
export const now = new Date("2027-06-01T00:00:00Z");

export interface DcapPki {
  readonly root: { readonly subject: string; readonly key: KeyPair; readonly der: Buffer };
  readonly intermediate: { readonly subject: string; readonly key: KeyPair; readonly der: Buffer };
  readonly pck: { readonly key: KeyPair; readonly der: Buffer };
  readonly signer: { readonly key: KeyPair; readonly der: Buffer };
}

export const rootName = "Intel SGX Root CA";
export const platformCa = "Intel SGX PCK Platform CA";
export const serials = { intermediate: 11n, pck: 0x00f0_1234_5678n, signer: 12n };

/** SVNs that the generated PCK states. */
export const pckTcb = { components: [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0], pceSvn: 13 };
export const fmspc = "90c06f000000";

/** The SGX extension of a PCK certificate. */
export function sgxExtension(
  options: { readonly components?: readonly number[]; readonly fmspc?: string; readonly pceId?: string; readonly twice?: string } = {},
): Buffer {
  const base = "1.2.840.113741.1.13.1";
  const components = options.components ?? pckTcb.components;
  const member = (suffix: string, value: Buffer) => sequence(oid(`${base}.${suffix}`), value);
  const tcb = sequence(
    ...components.map((svn, i) => member(`2.${i + 1}`, integer(svn))),
    member("2.17", integer(pckTcb.pceSvn)),
    member("2.18", octets(Buffer.from(components))),
  );
  const members = [
    member("1", octets(Buffer.alloc(16, 0x77))),
    member("2", tcb),
    member("3", octets(Buffer.from(options.pceId ?? "0000", "hex"))),
    member("4", octets(Buffer.from(options.fmspc ?? fmspc, "hex"))),
    member("5", enumerated(1)),
    member("6", octets(Buffer.alloc(16, 0x66))),
  ];
  if (options.twice !== undefined) members.push(member(options.twice, octets(Buffer.from("0000", "hex"))));
  return sequence(...members);
}

export interface PkiOptions {
  readonly root?: Partial<CertificateSpec>;
  readonly intermediate?: Partial<CertificateSpec>;
  readonly pck?: Partial<CertificateSpec>;
  readonly signer?: Partial<CertificateSpec>;
  readonly sgx?: Buffer;
}

const keys = { root: ecKey(), intermediate: ecKey(), pck: ecKey(), signer: ecKey(), attestation: ecKey() };

/** A whole PKI like Intel's; every part can be bent. Keys are made once per process. */
export function dcapPki(options: PkiOptions = {}): DcapPki {
  const root = { subject: rootName, key: keys.root };
  const intermediate = { subject: platformCa, key: keys.intermediate };
  const sgx = { oid: "1.2.840.113741.1.13.1", value: options.sgx ?? sgxExtension() };
  return {
    root: { ...root, der: certificate({ ...root, ca: true, ...options.root }) },
    intermediate: {
      ...intermediate,
      der: certificate({ ...intermediate, issuer: root, serial: serials.intermediate, ca: true, ...options.intermediate }),
    },
    pck: {
      key: keys.pck,
      der: certificate({
        subject: "Intel SGX PCK Certificate",
        key: keys.pck,
        issuer: intermediate,
        serial: serials.pck,
        extensions: [sgx],
        ...options.pck,
      }),
    },
    signer: {
      key: keys.signer,
      der: certificate({ subject: "Intel SGX TCB Signing", key: keys.signer, issuer: root, serial: serials.signer, ...options.signer }),
    },
  };
}

export interface Level {
  readonly sgx?: readonly number[];
  readonly pceSvn?: number;
  readonly tdx?: readonly number[];
  readonly status: string;
  readonly date?: string;
  readonly advisories?: readonly string[];
}

const components = (svns: readonly number[]) => Array.from({ length: 16 }, (_, i) => ({ svn: svns[i] ?? 0 }));
const levelJson = (level: Level, isTdx: boolean) => ({
  tcb: {
    sgxtcbcomponents: components(level.sgx ?? pckTcb.components),
    pcesvn: level.pceSvn ?? 13,
    ...(isTdx ? { tdxtcbcomponents: components(level.tdx ?? [6, 1, 3]) } : {}),
  },
  tcbDate: level.date ?? "2026-11-13T00:00:00Z",
  tcbStatus: level.status,
  ...(level.advisories === undefined ? {} : { advisoryIDs: level.advisories }),
});
const isvLevel = ([isvsvn, tcbStatus, advisoryIDs]: readonly [number, string, (readonly string[])?]) => ({
  tcb: { isvsvn },
  tcbDate: "2026-11-13T00:00:00Z",
  tcbStatus,
  ...(advisoryIDs === undefined ? {} : { advisoryIDs }),
});

const zeros = (size: number) => "00".repeat(size);
export const window = { issueDate: "2027-05-20T00:00:00Z", nextUpdate: "2027-06-19T00:00:00Z" };

export interface TcbInfoOptions {
  readonly tee?: "tdx" | "sgx";
  readonly levels?: readonly Level[];
  readonly modules?: readonly (readonly [number, string, (readonly string[])?])[];
  readonly members?: Readonly<Record<string, unknown>>;
}

export function tcbInfoJson(options: TcbInfoOptions = {}): string {
  const isTdx = (options.tee ?? "tdx") === "tdx";
  const module = { mrsigner: zeros(48), attributes: zeros(8), attributesMask: "ff".repeat(8) };
  return JSON.stringify({
    id: isTdx ? "TDX" : "SGX",
    version: 3,
    ...window,
    fmspc,
    pceId: "0000",
    tcbType: 0,
    tcbEvaluationDataNumber: 19,
    ...(isTdx
      ? {
          tdxModule: module,
          tdxModuleIdentities: [
            {
              id: "TDX_01",
              ...module,
              tcbLevels: (
                options.modules ?? [
                  [6, "UpToDate"],
                  [4, "OutOfDate", ["INTEL-SA-01192"]],
                ]
              ).map(isvLevel),
            },
          ],
        }
      : {}),
    tcbLevels: (
      options.levels ?? [{ status: "UpToDate" }, { sgx: [1], tdx: [1], pceSvn: 5, status: "OutOfDate", advisories: ["INTEL-SA-00106"] }]
    ).map((level) => levelJson(level, isTdx)),
    ...options.members,
  });
}

export const qeMrSigner = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5";

export function qeIdentityJson(
  options: {
    readonly tee?: "tdx" | "sgx";
    readonly levels?: readonly (readonly [number, string])[];
    readonly members?: Readonly<Record<string, unknown>>;
  } = {},
): string {
  return JSON.stringify({
    id: (options.tee ?? "tdx") === "tdx" ? "TD_QE" : "QE",
    version: 2,
    ...window,
    tcbEvaluationDataNumber: 19,
    miscselect: "00000000",
    miscselectMask: "ffffffff",
    attributes: "11000000000000000000000000000000",
    attributesMask: "fbffffffffffffff0000000000000000",
    mrsigner: qeMrSigner,
    isvprodid: 2,
    tcbLevels: (options.levels ?? [[4, "UpToDate"]]).map(isvLevel),
    ...options.members,
  });
}

const rawSign = (data: Uint8Array, key: KeyObject) => sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });

/** Collateral signed by a PKI. */
export function intelCollateral(
  pki: DcapPki,
  options: { readonly tcbInfo?: string; readonly qeIdentity?: string; readonly rootCrl?: Buffer; readonly pckCrl?: Buffer } = {},
): IntelCollateral {
  const chain = pem(pki.signer.der, pki.root.der);
  const signed = (text: string) => {
    const bytes = Buffer.from(text, "utf8");
    return { bytes, signature: rawSign(bytes, pki.signer.key.privateKey), issuerChain: chain };
  };
  return {
    rootCaCrl: options.rootCrl ?? revocationList({ issuer: pki.root, nextUpdate: new Date("2028-01-01T00:00:00Z") }),
    pckCrl: options.pckCrl ?? revocationList({ issuer: pki.intermediate }),
    tcbInfo: signed(options.tcbInfo ?? tcbInfoJson()),
    qeIdentity: signed(options.qeIdentity ?? qeIdentityJson()),
  };
}

export interface QuoteOptions {
  readonly form?: "v3" | "v4" | "v4-sgx" | "v5-td10" | "v5-td15" | "v5-td15ex" | "v5-sgx";
  readonly teeTcbSvn?: readonly number[];
  readonly teeTcbSvn2?: readonly number[];
  readonly reportData?: Uint8Array;
  /** Changes the body before it is signed. */
  readonly body?: (body: Buffer) => void;
  readonly header?: (header: Buffer) => void;
  /** Changes the QE report before it is signed. */
  readonly qeReport?: (report: Buffer) => void;
  readonly qeIsvSvn?: number;
  readonly qeAuth?: Buffer;
  readonly certification?: { readonly type: number; readonly data: Buffer };
  readonly trailing?: Buffer;
  readonly rtmr?: readonly Buffer[];
}

const forms = {
  v3: { version: 3, tee: "sgx", body: "sgx" },
  v4: { version: 4, tee: "tdx", body: "td10" },
  "v4-sgx": { version: 4, tee: "sgx", body: "sgx" },
  "v5-td10": { version: 5, tee: "tdx", body: "td10" },
  "v5-td15": { version: 5, tee: "tdx", body: "td15" },
  "v5-td15ex": { version: 5, tee: "tdx", body: "td15ex" },
  "v5-sgx": { version: 5, tee: "sgx", body: "sgx" },
} as const;
const bodies = { sgx: [1, 384], td10: [2, 584], td15: [3, 648], td15ex: [4, 885] } as const;

/** A quote of any version and body, signed by a PKI. */
export function makeQuote(pki: DcapPki, options: QuoteOptions = {}): Buffer {
  const { version, tee, body: kind } = forms[options.form ?? "v4"];
  const [type, size] = bodies[kind];
  const header = Buffer.alloc(48);
  header.writeUInt16LE(version, 0);
  header.writeUInt16LE(2, 2);
  header.writeUInt32LE(tee === "tdx" ? 0x81 : 0, 4);
  header.set(Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex"), 12);
  options.header?.(header);
  const descriptor = Buffer.alloc(version === 5 ? 6 : 0);
  if (version === 5) {
    descriptor.writeUInt16LE(type, 0);
    descriptor.writeUInt32LE(size, 2);
  }
  const body = Buffer.alloc(size);
  if (tee === "tdx") {
    body.set(options.teeTcbSvn ?? [6, 1, 3], 0);
    body.set(Buffer.from("0000001000000000", "hex"), 120);
    body.set(Buffer.from("e702060000000000", "hex"), 128);
    body.fill(0xaa, 136, 184);
    for (const [i, value] of (options.rtmr ?? []).entries()) body.set(value, 328 + 48 * i);
    body.set(options.reportData ?? [], 520);
    if (kind !== "td10") body.set(options.teeTcbSvn2 ?? options.teeTcbSvn ?? [6, 1, 3], 584);
  } else {
    body[48] = 5;
    body.fill(0xee, 64, 96);
    body.fill(0xdd, 128, 160);
    body.writeUInt16LE(7, 256);
    body.writeUInt16LE(3, 258);
    body.set(options.reportData ?? [], 320);
  }
  options.body?.(body);
  const signedBytes = Buffer.concat([header, descriptor, body]);
  const jwk = keys.attestation.publicKey.export({ format: "jwk" });
  const attestationKey = Buffer.concat([Buffer.from(jwk.x ?? "", "base64url"), Buffer.from(jwk.y ?? "", "base64url")]);
  const qeAuth = options.qeAuth ?? Buffer.alloc(32, 0x20);
  const qeReport = Buffer.alloc(384);
  qeReport[48] = 0x11;
  qeReport.set(Buffer.from(qeMrSigner, "hex"), 128);
  qeReport.writeUInt16LE(2, 256);
  qeReport.writeUInt16LE(options.qeIsvSvn ?? 4, 258);
  qeReport.set(createHash("sha256").update(attestationKey).update(qeAuth).digest(), 320);
  options.qeReport?.(qeReport);
  const certification = options.certification ?? {
    type: 5,
    data: Buffer.from(`${pem(pki.pck.der, pki.intermediate.der, pki.root.der)}\0`, "latin1"),
  };
  const inner = Buffer.concat([
    qeReport,
    rawSign(qeReport, pki.pck.key.privateKey),
    uint16(qeAuth.length),
    qeAuth,
    uint16(certification.type),
    uint32(certification.data.length),
    certification.data,
  ]);
  const section = Buffer.concat([
    rawSign(signedBytes, keys.attestation.privateKey),
    attestationKey,
    ...(version === 3 ? [] : [uint16(6), uint32(inner.length)]),
    inner,
  ]);
  return Buffer.concat([signedBytes, uint32(section.length), section, options.trailing ?? Buffer.alloc(0)]);
}

export function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
