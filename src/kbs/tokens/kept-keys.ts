import { parseJson } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import { isObject } from "../protocol/shape.ts";

/** A key in its record: the first one signs, the others signed before it, newest first. */
export interface KeptKey {
  readonly createdAt: string;
  /** The private key of the one that signs; the public key of the others. */
  readonly pem: string;
  /** PEM certificates, leaf first. */
  readonly chain: string;
  readonly retiredAt?: string | undefined;
  readonly revoked?: true | undefined;
}

const format = "ociseal-kbs-signing/1";
const maxBytes = 1 << 20;

/** The record of signing keys. */
export function serializeKeptKeys(keys: readonly KeptKey[]): Buffer {
  return Buffer.from(JSON.stringify({ format, keys }), "utf8");
}

/** Throws `ERR_KBS_RECORD_CORRUPT`. */
export function parseKeptKeys(bytes: Buffer, name: string): readonly KeptKey[] {
  const value = parseJson(bytes, { maxBytes, maxDepth: 5, subject: `the record ${name}` });
  if (!isObject(value) || value["format"] !== format || !Array.isArray(value["keys"])) throw corrupt(name);
  return value["keys"].map((key: unknown) => {
    if (!isObject(key)) throw corrupt(name);
    const { createdAt, pem, chain, retiredAt, revoked } = key;
    if (typeof createdAt !== "string" || typeof pem !== "string" || typeof chain !== "string") throw corrupt(name);
    if ((retiredAt !== undefined && typeof retiredAt !== "string") || (revoked !== undefined && revoked !== true)) throw corrupt(name);
    return { createdAt, pem, chain, retiredAt, revoked };
  });
}

function corrupt(name: string): KbsError {
  return new KbsError("ERR_KBS_RECORD_CORRUPT", { message: `the record ${name} is damaged`, hint: "restore it from a backup" });
}
