import { createECDH, generateKeyPairSync } from "node:crypto";
import { encodeBase64Url } from "../../bytes/index.ts";
import { InternalError } from "../../errors/index.ts";
import type { TeePrivateKey } from "../protocol/response-jwe.ts";
import { isObject } from "../protocol/shape.ts";
import { ecCurves, type EcCurve } from "../protocol/tee-key.ts";

/** What a guest can offer as `tee-pubkey`. */
export type TeeKeyAlgorithm = EcCurve | "RSA-OAEP-256";

/** Makes the ephemeral key pair of one guest process; it never leaves memory. */
export function generateTeeKeyPair(algorithm: TeeKeyAlgorithm): TeePrivateKey {
  if (algorithm === "RSA-OAEP-256") return generateRsa();
  const { openssl, size } = ecCurves[algorithm];
  const ecdh = createECDH(openssl);
  const point = ecdh.generateKeys();
  // OpenSSL gives the scalar without leading zeros.
  const scalar = Buffer.alloc(size);
  const bytes = ecdh.getPrivateKey();
  scalar.set(bytes, size - bytes.length);
  return {
    kty: "EC",
    crv: algorithm,
    scalar,
    public: {
      kty: "EC",
      crv: algorithm,
      alg: "ECDH-ES+A256KW",
      x: encodeBase64Url(point.subarray(1, 1 + size)),
      y: encodeBase64Url(point.subarray(1 + size)),
    },
  };
}

function generateRsa(): TeePrivateKey {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 3072 });
  const jwk: unknown = publicKey.export({ format: "jwk" });
  if (!isObject(jwk) || typeof jwk["n"] !== "string" || typeof jwk["e"] !== "string")
    throw new InternalError({ message: "an RSA key has no JWK form" });
  return { kty: "RSA", key: privateKey, public: { kty: "RSA", alg: "RSA-OAEP-256", n: jwk["n"], e: jwk["e"] } };
}
