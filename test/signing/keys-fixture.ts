import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { loadSigner, type HashRule, type KeySigner } from "../../src/signing/index.ts";

export const keyTypes = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa", "ed25519"] as const;
export type KeyTypeName = (typeof keyTypes)[number];

export function newPrivateKey(type: KeyTypeName): KeyObject {
  switch (type) {
    case "ecdsa-p256":
      return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    case "ecdsa-p384":
      return generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey;
    case "ecdsa-p521":
      return generateKeyPairSync("ec", { namedCurve: "P-521" }).privateKey;
    case "rsa":
      return generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
    case "ed25519":
      return generateKeyPairSync("ed25519").privateKey;
  }
}

export async function newSigner(type: KeyTypeName = "ecdsa-p256", hash?: HashRule): Promise<KeySigner> {
  const pem = newPrivateKey(type).export({ format: "pem", type: "pkcs8" }).toString();
  return await loadSigner({ pem, source: `test key ${type}`, hash });
}
