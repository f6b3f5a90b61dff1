import { createHash, randomBytes, sign } from "node:crypto";
import type { SigningKey } from "./signing-key.ts";

/** Source: RFC 5480 appendix A, RFC 5758 section 3.2, RFC 5280 sections 4.2.1.2, 4.2.1.3, 4.2.1.9 and appendix A.1. */
const oids = {
  ecdsaWithSha256: "2a8648ce3d040302",
  commonName: "550403",
  subjectKeyIdentifier: "551d0e",
  keyUsage: "551d0f",
  basicConstraints: "551d13",
};
const validityYears = 10;

/**
 * A certificate of a P-256 signing key by itself, PEM: `x5c` of tokens must carry one, and a relying party that pins it
 * needs nothing else. Operators with a PKI configure their own chain instead. Source: RFC 5280 section 4.1.
 */
export function selfSignedCertificate(key: SigningKey, now: Date): string {
  const until = new Date(now);
  until.setUTCFullYear(until.getUTCFullYear() + validityYears);
  const spki = key.publicKey.export({ format: "der", type: "spki" });
  const algorithm = sequence(oid(oids.ecdsaWithSha256));
  const name = sequence(set(sequence(oid(oids.commonName), der(0x0c, Buffer.from("ociseal KBS attestation token", "utf8")))));
  const serial = randomBytes(16);
  // Positive, and no leading zero byte that DER would forbid. Source: RFC 5280 section 4.1.2.2.
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  const keyId = createHash("sha1").update(spki.subarray(-65)).digest();
  const extensions = sequence(
    // Its own authority, as `openssl req -x509` makes them: verifiers put it among their trusted roots.
    extension(oids.basicConstraints, "critical", sequence(der(0x01, Buffer.of(0xff)))),
    extension(oids.keyUsage, "critical", der(0x03, Buffer.of(2, 0x84))),
    extension(oids.subjectKeyIdentifier, "informative", der(0x04, keyId)),
  );
  const tbs = sequence(
    der(0xa0, der(0x02, Buffer.of(2))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(time(now), time(until)),
    name,
    spki,
    der(0xa3, extensions),
  );
  const signature = sign("sha256", tbs, key.privateKey);
  const certificate = sequence(tbs, algorithm, der(0x03, Buffer.concat([Buffer.of(0), signature])));
  const base64 = certificate.toString("base64").replaceAll(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
}

function extension(id: string, weight: "critical" | "informative", value: Buffer): Buffer {
  return sequence(oid(id), ...(weight === "critical" ? [der(0x01, Buffer.of(0xff))] : []), der(0x04, value));
}

/** GeneralizedTime from 2050 on, UTCTime before. Source: RFC 5280 section 4.1.2.5. */
function time(date: Date): Buffer {
  const text = `${date.toISOString().replaceAll(/[-:T]/g, "").slice(0, 14)}Z`;
  return date.getUTCFullYear() >= 2050 ? der(0x18, Buffer.from(text, "ascii")) : der(0x17, Buffer.from(text.slice(2), "ascii"));
}

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, "hex"));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts));
}

/** Tag, length, value. Source: X.690 section 8.1.3. */
function der(tag: number, value: Buffer): Buffer {
  const { length } = value;
  const head =
    length < 0x80
      ? Buffer.of(tag, length)
      : length < 0x100
        ? Buffer.of(tag, 0x81, length)
        : Buffer.of(tag, 0x82, length >> 8, length & 0xff);
  return Buffer.concat([head, value]);
}
