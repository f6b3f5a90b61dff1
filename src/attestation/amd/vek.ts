import { parseDer, tags, malformed } from "../der/reader.ts";
import { readSmallInteger, readText } from "../der/values.ts";
import { parseCertificate, type Certificate } from "../der/x509.ts";
import { refuse } from "../refuse.ts";
import { amdProducts, productRows, type AmdProduct, type AmdTcb } from "./products.ts";

/** What the extensions of a VCEK or VLEK say. Source: AMD 57230 (VCEK certificate and KDS), table 8; reference C 1.7. */
export interface EndorsementKey {
  readonly certificate: Certificate;
  readonly kind: "VCEK" | "VLEK";
  readonly product: AmdProduct;
  /** `Milan-B0`, or without the stepping. */
  readonly productName: string;
  /** The TCB that the key was derived for. */
  readonly tcb: AmdTcb;
  /** 64 bytes, or 8 on Turin; VCEK only. */
  readonly hwid: Buffer | undefined;
  /** VLEK only. */
  readonly cspId: string | undefined;
}

const arc = "1.3.6.1.4.1.3704.1";
const splOids = { bl: `${arc}.3.1`, tee: `${arc}.3.2`, snp: `${arc}.3.3`, ucode: `${arc}.3.8`, fmc: `${arc}.3.9` } as const;
const reservedSplOids = [4, 5, 6, 7].map((n) => `${arc}.3.${n}`);
const knownOids: ReadonlySet<string> = new Set([
  `${arc}.1`,
  `${arc}.2`,
  `${arc}.4`,
  `${arc}.5`,
  ...Object.values(splOids),
  ...reservedSplOids,
]);
const subjects: ReadonlyMap<string, "VCEK" | "VLEK"> = new Map([
  ["SEV-VCEK", "VCEK"],
  ["SEV-VLEK", "VLEK"],
]);

/** Parses an endorsement key certificate. Its chain is checked elsewhere. */
export function parseEndorsementKey(der: Uint8Array, path: string): EndorsementKey {
  const certificate = parseCertificate(der, path);
  const kind = subjects.get(certificate.subjectCommonName);
  if (kind === undefined || certificate.isCa) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: "the certificate is not an endorsement key's",
      expected: "SEV-VCEK or SEV-VLEK",
      actual: certificate.subjectCommonName,
    });
  }
  const unknown = [...certificate.extensions.keys()].find((oid) => oid.startsWith(`${arc}.`) && !knownOids.has(oid));
  if (unknown !== undefined)
    throw refuse("EXTENSION_CRITICAL_UNKNOWN", { path, message: `the AMD extension ${unknown} is not understood` });
  const productName = readText(parseDer(value(certificate, `${arc}.2`), path), path);
  const product = amdProducts.find((candidate) => productName === candidate || productName.startsWith(`${candidate}-`));
  if (product === undefined) {
    throw refuse("SNP_PRODUCT_UNKNOWN", {
      path,
      message: "the endorsement key is of an unknown product",
      expected: amdProducts.join(", "),
      actual: productName.slice(0, 40),
    });
  }
  const structVersion = readSmallInteger(parseDer(value(certificate, `${arc}.1`), path), path, 255);
  if (structVersion > 1) throw malformed(path, `the endorsement key has the unknown structure version ${structVersion}`);
  for (const oid of reservedSplOids) {
    const reserved = certificate.extensions.get(oid);
    if (reserved !== undefined && readSmallInteger(parseDer(reserved.value, path), path, 255) !== 0)
      throw malformed(path, `the reserved security patch level ${oid} is not zero`);
  }
  const hwid = certificate.extensions.get(`${arc}.4`)?.value;
  const csp = certificate.extensions.get(`${arc}.5`)?.value;
  if ((kind === "VCEK") !== (hwid !== undefined) || (kind === "VLEK") !== (csp !== undefined)) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: `a ${kind} has ${kind === "VCEK" ? "a hardware id and no CSP id" : "a CSP id and no hardware id"}`,
    });
  }
  return {
    certificate,
    kind,
    product,
    productName,
    tcb: readTcb(certificate, product),
    hwid: hwid === undefined ? undefined : readHwid(hwid, product, path),
    cspId: csp === undefined ? undefined : readText(parseDer(csp, path), path),
  };
}

function readTcb(certificate: Certificate, product: AmdProduct): AmdTcb {
  const { path } = certificate;
  const read = (oid: string) => readSmallInteger(parseDer(value(certificate, oid), path), path, 255);
  const common = { bl: read(splOids.bl), tee: read(splOids.tee), snp: read(splOids.snp), ucode: read(splOids.ucode) };
  const hasFmc = productRows[product].tcb.fmc !== undefined;
  if (!hasFmc && certificate.extensions.has(splOids.fmc)) throw malformed(path, `a ${product} endorsement key has no FMC level`);
  return hasFmc ? { fmc: read(splOids.fmc), ...common } : common;
}

/** Raw bytes; some certificates wrap them in an OCTET STRING. Sizes cannot be mistaken: raw is 64 (8), wrapped 66 (10). */
function readHwid(bytes: Buffer, product: AmdProduct, path: string): Buffer {
  const size = productRows[product].hwidSize;
  if (bytes.length === size) return bytes;
  if (bytes.length === size + 2 && bytes[0] === tags.octetString && bytes[1] === size) return bytes.subarray(2);
  throw malformed(path, `the hardware id has ${bytes.length} bytes, not ${size}`);
}

function value(certificate: Certificate, oid: string): Buffer {
  const extension = certificate.extensions.get(oid);
  if (extension === undefined) throw malformed(certificate.path, `the endorsement key lacks the extension ${oid}`);
  return extension.value;
}
