import { createPrivateKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from "node:crypto";
import { parsePrivateKey, parsePublicKey, type RecipientKey } from "../../src/keywrap/index.ts";
import { knownPrivateKeys } from "../layer/known-answers.ts";

/** A throw-away RSA key that stands in the vectors already: making one takes seconds. */
export const rsa: KeyObject = createPrivateKey({ key: JSON.parse(knownPrivateKeys.rsa) as JsonWebKey, format: "jwk" });

export function ec(namedCurve = "P-256"): KeyObject {
  return generateKeyPairSync("ec", { namedCurve }).privateKey;
}

export interface Holder {
  readonly publicKey: RecipientKey;
  readonly privateKey: RecipientKey;
}

/** Both parts, as the room reads them. */
export function holderOf(key: KeyObject): Holder {
  const privateKey = parsePrivateKey(Buffer.from(JSON.stringify(key.export({ format: "jwk" }))));
  const { d: _d, p: _p, q: _q, dp: _dp, dq: _dq, qi: _qi, ...rest } = key.export({ format: "jwk" });
  return { privateKey, publicKey: parsePublicKey(Buffer.from(JSON.stringify(rest))) };
}

/** What was thrown, as its code. */
export async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
    return "none";
  } catch (cause) {
    return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : `not ours: ${String(cause)}`;
  }
}
