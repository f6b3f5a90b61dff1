import { constants, createHash, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { bits, boolean, explicit, integer, name, octets, oid, sequence, time } from "./der.ts";

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export const ecKey = (curve: "P-256" | "P-384" = "P-256"): KeyPair => generateKeyPairSync("ec", { namedCurve: curve });

/** A signing algorithm with its AlgorithmIdentifier. */
export interface Algorithm {
  readonly identifier: Buffer;
  sign(data: Uint8Array, key: KeyObject): Buffer;
}

export const ecdsaSha256: Algorithm = {
  identifier: Buffer.from("300a06082a8648ce3d040302", "hex"),
  sign: (data, key) => sign("sha256", data, { key, dsaEncoding: "der" }),
};

const pssIdentifier =
  "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130";

export const pssSha384: Algorithm = {
  identifier: Buffer.from(pssIdentifier, "hex"),
  sign: (data, key) => sign("sha384", data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }),
};

/** PKCS#1 v1.5 under its own, honest identifier: a valid signature of a kind that AMD does not use. */
export const pkcs1Sha384: Algorithm = {
  identifier: Buffer.from("300d06092a864886f70d01010c0500", "hex"),
  sign: (data, key) => sign("sha384", data, { key, padding: constants.RSA_PKCS1_PADDING }),
};

/** PSS with SHA-256 throughout: weaker than AMD's, and honest about it. */
export const pssSha256: Algorithm = {
  identifier: Buffer.from(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
    "hex",
  ),
  sign: (data, key) => sign("sha256", data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
};

export interface ExtensionSpec {
  readonly oid: string;
  readonly value: Buffer;
  readonly critical?: boolean;
}

export interface CertificateSpec {
  readonly subject: string;
  readonly key: KeyPair;
  readonly issuer?: { readonly subject: string; readonly key: KeyPair };
  readonly serial?: bigint;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly ca?: boolean;
  readonly keyUsage?: "ca" | "signer" | "none";
  readonly extensions?: readonly ExtensionSpec[];
  readonly algorithm?: Algorithm;
}

export const defaultNotBefore = new Date("2026-01-01T00:00:00Z");
export const defaultNotAfter = new Date("2036-01-01T00:00:00Z");

const keyUsages = { ca: bits(Buffer.from([0x06]), 1), signer: bits(Buffer.from([0xc0]), 6), none: undefined } as const;

function extension({ oid: id, value, critical = false }: ExtensionSpec): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value));
}

/** A certificate in DER, self-signed unless an issuer is given. */
export function certificate(spec: CertificateSpec): Buffer {
  const { subject, key, serial = 1n, ca = false, algorithm = ecdsaSha256 } = spec;
  const issuer = spec.issuer ?? { subject, key };
  const usage = keyUsages[spec.keyUsage ?? (ca ? "ca" : "signer")];
  const extensions: ExtensionSpec[] = [
    { oid: "2.5.29.19", critical: true, value: ca ? sequence(boolean(true)) : sequence() },
    ...(usage === undefined ? [] : [{ oid: "2.5.29.15", critical: true, value: usage }]),
    ...(spec.extensions ?? []),
  ];
  const tbs = sequence(
    explicit(0, integer(2)),
    integer(serial),
    algorithm.identifier,
    name(issuer.subject),
    sequence(time(spec.notBefore ?? defaultNotBefore), time(spec.notAfter ?? defaultNotAfter)),
    name(subject),
    key.publicKey.export({ type: "spki", format: "der" }),
    explicit(3, sequence(...extensions.map(extension))),
  );
  return sequence(tbs, algorithm.identifier, bits(algorithm.sign(tbs, issuer.key.privateKey)));
}

export interface CrlSpec {
  readonly issuer: { readonly subject: string; readonly key: KeyPair };
  readonly thisUpdate?: Date;
  readonly nextUpdate?: Date;
  readonly revoked?: readonly bigint[];
  readonly extensions?: readonly ExtensionSpec[];
  readonly algorithm?: Algorithm;
}

/** A revocation list in DER. */
export function revocationList(spec: CrlSpec): Buffer {
  const { issuer, revoked = [], algorithm = ecdsaSha256 } = spec;
  const thisUpdate = spec.thisUpdate ?? new Date("2027-05-15T00:00:00Z");
  const keyId = createHash("sha1")
    .update(issuer.key.publicKey.export({ type: "spki", format: "der" }))
    .digest();
  const extensions = spec.extensions ?? [
    { oid: "2.5.29.20", value: integer(1) },
    { oid: "2.5.29.35", value: sequence(Buffer.concat([Buffer.from([0x80, 20]), keyId])) },
  ];
  const tbs = sequence(
    integer(1),
    algorithm.identifier,
    name(issuer.subject),
    time(thisUpdate),
    time(spec.nextUpdate ?? new Date("2027-06-15T00:00:00Z")),
    ...(revoked.length === 0 ? [] : [sequence(...revoked.map((serial) => sequence(integer(serial), time(thisUpdate))))]),
    explicit(0, sequence(...extensions.map(extension))),
  );
  return sequence(tbs, algorithm.identifier, bits(algorithm.sign(tbs, issuer.key.privateKey)));
}

export function pem(...ders: readonly Uint8Array[]): string {
  return ders
    .map(
      (der) =>
        `-----BEGIN CERTIFICATE-----\n${Buffer.from(der)
          .toString("base64")
          .replaceAll(/(.{64})/g, "$1\n")}\n-----END CERTIFICATE-----\n`,
    )
    .join("");
}
