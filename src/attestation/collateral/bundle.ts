import { parseJson } from "../../bytes/index.ts";
import { AttestationError } from "../errors.ts";
import type { AmdProduct } from "../amd/products.ts";
import { amdProducts } from "../amd/products.ts";

/** Where an item came from and when; both are hearsay, kept for people. */
export interface Provenance {
  /** RFC 3339. */
  readonly fetchedAt?: string | undefined;
  readonly from?: string | undefined;
}

/** Intel's `update` parameter: `early` shows new requirements at once, `standard` months later. */
export type UpdateChannel = "standard" | "early";

/** A signed JSON answer: the exact response body. */
export interface SignedItem extends Provenance {
  readonly body: Uint8Array;
  /** PEM, signer first. */
  readonly issuerChain: string;
  readonly update?: UpdateChannel | undefined;
}

export interface TcbInfoItem extends SignedItem {
  readonly tee: "sgx" | "tdx";
  /** 12 lower-case hex digits. */
  readonly fmspc: string;
}

export interface CrlItem extends Provenance {
  readonly der: Uint8Array;
  readonly issuerChain?: string | undefined;
}

/** The PCK list of one CA; `unknown` when an import did not say, which then serves every platform (and is checked like all). */
export interface PckCrlItem extends CrlItem {
  readonly ca: "platform" | "processor" | "unknown";
}

export interface PckCertItem {
  /** Hex; which platform and TCB the chain is for. */
  readonly ppid: string;
  readonly cpuSvn: string;
  readonly pceSvn: number;
  readonly chain: string;
}

export interface AmdProductItems {
  readonly vcekChain?: string | undefined;
  readonly vlekChain?: string | undefined;
  readonly vcekCrl?: CrlItem | undefined;
  readonly vlekCrl?: CrlItem | undefined;
}

export interface VcekItem extends Provenance {
  readonly product: AmdProduct;
  /** Hex: 128 digits, 16 on Turin. */
  readonly hwid: string;
  /** The eight bytes of REPORTED_TCB, hex. */
  readonly tcb: string;
  readonly der: Uint8Array;
}

/**
 * Collateral for offline use: raw vendor answers with their provenance. It needs no signature of its own, every item
 * carries the vendor's; how fresh it must be is for policy (`collateral.maxAge`, `minTcbEvaluationDataNumber`).
 */
export interface CollateralBundle {
  /** RFC 3339. */
  readonly createdAt: string;
  readonly rootCaCrl?: CrlItem | undefined;
  readonly pckCrls: readonly PckCrlItem[];
  readonly qeIdentity: Readonly<Partial<Record<"sgx" | "tdx", SignedItem>>>;
  readonly tcbInfos: readonly TcbInfoItem[];
  readonly pckCerts: readonly PckCertItem[];
  readonly amd: Readonly<Partial<Record<AmdProduct, AmdProductItems>>>;
  readonly vceks: readonly VcekItem[];
}

export const bundleFormat = "ociseal-collateral/1";

/** Largest bundle file that is read. */
export const maxBundleSize = 64 * 1024 * 1024;

/** A bundle with nothing in it. */
export function emptyBundle(createdAt: string): CollateralBundle {
  return { createdAt, pckCrls: [], qeIdentity: {}, tcbInfos: [], pckCerts: [], amd: {}, vceks: [] };
}

/** The bundle as its JSON file. */
export function formatBundle(bundle: CollateralBundle): string {
  const document = {
    format: bundleFormat,
    createdAt: bundle.createdAt,
    intel: {
      rootCaCrl: bundle.rootCaCrl === undefined ? undefined : crlJson(bundle.rootCaCrl),
      pckCrl: Object.fromEntries(bundle.pckCrls.map((item) => [item.ca, crlJson(item)])),
      qeIdentity: Object.fromEntries(Object.entries(bundle.qeIdentity).map(([tee, item]) => [tee, signedJson(item)])),
      tcbInfo: bundle.tcbInfos.map((item) => ({ tee: item.tee, fmspc: item.fmspc, ...signedJson(item) })),
      pckCerts: bundle.pckCerts,
    },
    amd: {
      ...Object.fromEntries(
        Object.entries(bundle.amd).map(([product, items]) => [
          product,
          {
            vcekChain: items.vcekChain,
            vlekChain: items.vlekChain,
            vcekCrl: items.vcekCrl === undefined ? undefined : crlJson(items.vcekCrl),
            vlekCrl: items.vlekCrl === undefined ? undefined : crlJson(items.vlekCrl),
          },
        ]),
      ),
      vceks: bundle.vceks.map((item) => ({
        product: item.product,
        hwid: item.hwid,
        tcb: item.tcb,
        der: base64(item.der),
        ...provenance(item),
      })),
    },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const provenance = ({ fetchedAt, from }: Provenance) => ({ fetchedAt, from });
const crlJson = (item: CrlItem) => ({ der: base64(item.der), issuerChain: item.issuerChain, ...provenance(item) });
const signedJson = (item: SignedItem) => ({
  body: base64(item.body),
  issuerChain: item.issuerChain,
  update: item.update,
  ...provenance(item),
});

/** Parses a bundle file. Strict: unknown members are refused. Throws `ERR_COLLATERAL_MALFORMED`. */
export function parseBundle(bytes: Uint8Array): CollateralBundle {
  return readBundle(parseJson(bytes, { maxBytes: maxBundleSize, subject: "collateral bundle" }));
}

/** Reads a bundle that has been parsed as JSON already. */
export function readBundle(value: unknown): CollateralBundle {
  const top = members(value, "bundle", ["format", "createdAt", "intel", "amd"]);
  if (top["format"] !== bundleFormat) throw malformed("bundle.format", `is not ${bundleFormat}`);
  const intel = members(top["intel"] ?? {}, "bundle.intel", ["rootCaCrl", "pckCrl", "qeIdentity", "tcbInfo", "pckCerts"]);
  const pckCrl = members(intel["pckCrl"] ?? {}, "bundle.intel.pckCrl", ["platform", "processor", "unknown"]);
  const qe = members(intel["qeIdentity"] ?? {}, "bundle.intel.qeIdentity", ["sgx", "tdx"]);
  const amd = members(top["amd"] ?? {}, "bundle.amd", [...amdProducts, "vceks"]);
  return {
    createdAt: text(top["createdAt"], "bundle.createdAt"),
    rootCaCrl: intel["rootCaCrl"] === undefined ? undefined : readCrl(intel["rootCaCrl"], "bundle.intel.rootCaCrl"),
    pckCrls: (["platform", "processor", "unknown"] as const).flatMap((ca) =>
      pckCrl[ca] === undefined ? [] : [{ ca, ...readCrl(pckCrl[ca], `bundle.intel.pckCrl.${ca}`) }],
    ),
    qeIdentity: {
      ...(qe["sgx"] === undefined ? {} : { sgx: readSigned(qe["sgx"], "bundle.intel.qeIdentity.sgx", []) }),
      ...(qe["tdx"] === undefined ? {} : { tdx: readSigned(qe["tdx"], "bundle.intel.qeIdentity.tdx", []) }),
    },
    tcbInfos: list(intel["tcbInfo"], "bundle.intel.tcbInfo").map((item, i) => readTcbInfo(item, `bundle.intel.tcbInfo[${i}]`)),
    pckCerts: list(intel["pckCerts"], "bundle.intel.pckCerts").map((item, i) => readPckCert(item, `bundle.intel.pckCerts[${i}]`)),
    amd: Object.fromEntries(
      amdProducts.flatMap((product) => (amd[product] === undefined ? [] : [[product, readProduct(amd[product], `bundle.amd.${product}`)]])),
    ),
    vceks: list(amd["vceks"], "bundle.amd.vceks").map((item, i) => readVcek(item, `bundle.amd.vceks[${i}]`)),
  };
}

type Members = Readonly<Record<string, unknown>>;

function members(value: unknown, path: string, known: readonly string[]): Members {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(path, "is not a JSON object");
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw malformed(path, `has the unknown member ${JSON.stringify(unknown.slice(0, 60))}`);
  return value as Members;
}

function readCrl(value: unknown, path: string): CrlItem {
  const item = members(value, path, ["der", "issuerChain", "fetchedAt", "from"]);
  return {
    der: bytesOf(item["der"], `${path}.der`),
    issuerChain: optionalText(item["issuerChain"], `${path}.issuerChain`),
    ...readProvenance(item, path),
  };
}

function readSigned(value: unknown, path: string, more: readonly string[]): SignedItem {
  const item = members(value, path, ["body", "issuerChain", "update", "fetchedAt", "from", ...more]);
  const update = item["update"];
  if (update !== undefined && update !== "standard" && update !== "early") throw malformed(`${path}.update`, "is not standard or early");
  return {
    body: bytesOf(item["body"], `${path}.body`),
    issuerChain: text(item["issuerChain"], `${path}.issuerChain`),
    update,
    ...readProvenance(item, path),
  };
}

function readTcbInfo(value: unknown, path: string): TcbInfoItem {
  const signed = readSigned(value, path, ["tee", "fmspc"]);
  const item = value as Members;
  const tee = item["tee"];
  if (tee !== "sgx" && tee !== "tdx") throw malformed(`${path}.tee`, "is not sgx or tdx");
  return { tee, fmspc: hexText(item["fmspc"], `${path}.fmspc`, 12), ...signed };
}

function readPckCert(value: unknown, path: string): PckCertItem {
  const item = members(value, path, ["ppid", "cpuSvn", "pceSvn", "chain"]);
  const pceSvn = item["pceSvn"];
  if (typeof pceSvn !== "number") throw malformed(`${path}.pceSvn`, "is not a number");
  return {
    ppid: hexText(item["ppid"], `${path}.ppid`, 32),
    cpuSvn: hexText(item["cpuSvn"], `${path}.cpuSvn`, 32),
    pceSvn,
    chain: text(item["chain"], `${path}.chain`),
  };
}

function readProduct(value: unknown, path: string): AmdProductItems {
  const item = members(value, path, ["vcekChain", "vlekChain", "vcekCrl", "vlekCrl"]);
  return {
    vcekChain: optionalText(item["vcekChain"], `${path}.vcekChain`),
    vlekChain: optionalText(item["vlekChain"], `${path}.vlekChain`),
    vcekCrl: item["vcekCrl"] === undefined ? undefined : readCrl(item["vcekCrl"], `${path}.vcekCrl`),
    vlekCrl: item["vlekCrl"] === undefined ? undefined : readCrl(item["vlekCrl"], `${path}.vlekCrl`),
  };
}

function readVcek(value: unknown, path: string): VcekItem {
  const item = members(value, path, ["product", "hwid", "tcb", "der", "fetchedAt", "from"]);
  const product = amdProducts.find((candidate) => candidate === item["product"]);
  if (product === undefined) throw malformed(`${path}.product`, `is not one of ${amdProducts.join(", ")}`);
  return {
    product,
    hwid: hexText(item["hwid"], `${path}.hwid`, product === "Turin" ? 16 : 128),
    tcb: hexText(item["tcb"], `${path}.tcb`, 16),
    der: bytesOf(item["der"], `${path}.der`),
    ...readProvenance(item, path),
  };
}

function readProvenance(item: Members, path: string): Provenance {
  return { fetchedAt: optionalText(item["fetchedAt"], `${path}.fetchedAt`), from: optionalText(item["from"], `${path}.from`) };
}

function list(value: unknown, path: string): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > 100_000) throw malformed(path, "is not a list");
  return value as readonly unknown[];
}

function text(value: unknown, path: string): string {
  if (typeof value !== "string") throw malformed(path, "is not a text");
  return value;
}

function optionalText(value: unknown, path: string): string | undefined {
  return value === undefined ? undefined : text(value, path);
}

function hexText(value: unknown, path: string, digits: number): string {
  const found = text(value, path).toLowerCase();
  if (found.length !== digits || !/^[0-9a-f]*$/.test(found)) throw malformed(path, `is not ${digits} hex digits`);
  return found;
}

function bytesOf(value: unknown, path: string): Buffer {
  const found = text(value, path);
  const bytes = Buffer.from(found, "base64");
  if (bytes.toString("base64") !== found) throw malformed(path, "is not base64");
  return bytes;
}

function malformed(path: string, what: string): AttestationError {
  return new AttestationError("ERR_COLLATERAL_MALFORMED", {
    message: `${path} ${what}`,
    hint: "make the bundle with `ociseal attest collateral fetch` or `import`",
  });
}
