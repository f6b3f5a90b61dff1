import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { parse, stringify } from "smol-toml";
import { AttestationError } from "../errors.ts";

export const initDataAlgorithms = ["sha256", "sha384", "sha512"] as const;
export type InitDataAlgorithm = (typeof initDataAlgorithms)[number];

/** The document that a CoCo guest is started with, and that its evidence binds. Source: CoCo initdata specification; reference B 1.8, 5.5. */
export interface InitData {
  readonly algorithm: InitDataAlgorithm;
  /** File name to content: `aa.toml`, `cdh.toml`, `policy.rego` and others. */
  readonly data: Readonly<Record<string, string>>;
  /** Over the whole text as transmitted, with the algorithm that the text names. */
  readonly digest: Buffer;
}

const version = "0.1.0";
const maxSize = 1 << 20;

/** Reads a document. Throws `ERR_INIT_DATA_MALFORMED`. The text is hashed as it is: one space more is another digest. */
export function parseInitData(text: string): InitData {
  if (Buffer.byteLength(text) > maxSize) throw malformed(`has more than ${maxSize} bytes`);
  let document: Readonly<Record<string, unknown>>;
  try {
    document = parse(text);
  } catch (cause) {
    throw malformed("is not TOML", cause);
  }
  const algorithm = initDataAlgorithms.find((candidate) => candidate === document["algorithm"]);
  if (algorithm === undefined) throw malformed(`names no algorithm of ${initDataAlgorithms.join(", ")}`);
  if (typeof document["version"] !== "string") throw malformed("has no version");
  const data = document["data"];
  if (typeof data !== "object" || data === null || Array.isArray(data)) throw malformed("has no table [data]");
  const entries = Object.entries(data);
  const wrong = entries.find(([, content]) => typeof content !== "string");
  if (wrong !== undefined) throw malformed(`has an entry ${JSON.stringify(wrong[0].slice(0, 60))} that is not a text`);
  return {
    algorithm,
    data: Object.fromEntries(entries.map(([name, content]) => [name, String(content)])),
    digest: initDataDigest(text, algorithm),
  };
}

/** Writes a document for a TEE: SHA-256 fits SNP's HOST_DATA, SHA-384 TDX's MRCONFIGID exactly. */
export function formatInitData(
  data: Readonly<Record<string, string>>,
  algorithm: InitDataAlgorithm,
): { readonly text: string; readonly digest: Buffer } {
  const text = `${stringify({ version, algorithm, data: { ...data } })}\n`;
  return { text, digest: initDataDigest(text, algorithm) };
}

function initDataDigest(text: string, algorithm: InitDataAlgorithm): Buffer {
  return createHash(algorithm).update(text, "utf8").digest();
}

/** Sizes of the fields that hold the digest, in bytes. */
const fieldSizes = { tdx: 48, snp: 32, sgx: 64 } as const;

/** A digest as the TEE's field holds it: zero-padded or cut, which is the runtime's rule and not ours to change. */
export function initDataField(tee: keyof typeof fieldSizes, digest: Uint8Array): Buffer {
  const field = Buffer.alloc(fieldSizes[tee]);
  field.set(digest.subarray(0, field.length));
  return field;
}

const deviceMagic = Buffer.from("initdata", "latin1");

/** The document from the block device of a guest: magic, length u64le, gzip. */
export function readInitDataDevice(bytes: Uint8Array): string {
  const device = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (device.length < 16 || !device.subarray(0, 8).equals(deviceMagic)) throw malformed("does not stand on the device");
  const length = device.readBigUInt64LE(8);
  if (length > BigInt(device.length - 16)) throw malformed("is longer than its device");
  try {
    return gunzipSync(device.subarray(16, 16 + Number(length)), { maxOutputLength: maxSize }).toString("utf8");
  } catch (cause) {
    throw malformed("is not gzip of at most 1 MiB", cause);
  }
}

function malformed(what: string, cause?: unknown): AttestationError {
  return new AttestationError("ERR_INIT_DATA_MALFORMED", { message: `the init-data ${what}`, cause });
}
