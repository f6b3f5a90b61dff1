import { sign } from "node:crypto";
import { encodeBase64Url } from "../../bytes/index.ts";
import type { SigningKey } from "./signing-key.ts";

/** A compact JWS over JSON. Signed in place, not on the thread pool: it takes less time than the hand-over. Source: RFC 7515 section 7.1. */
export function signCompact(
  header: Readonly<Record<string, unknown>>,
  payload: Readonly<Record<string, unknown>>,
  key: SigningKey,
): string {
  const encode = (value: unknown) => encodeBase64Url(Buffer.from(JSON.stringify(value), "utf8"));
  const input = `${encode({ ...header, alg: key.algorithm })}.${encode(payload)}`;
  const signature =
    key.algorithm === "ES256"
      ? sign("sha256", Buffer.from(input), { key: key.privateKey, dsaEncoding: "ieee-p1363" })
      : sign(null, Buffer.from(input), key.privateKey);
  return `${input}.${encodeBase64Url(signature)}`;
}
