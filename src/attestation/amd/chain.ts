import { checkCurrent, parseRevocationList, type RevocationList } from "../der/crl.ts";
import { keyUsageBits } from "../der/extensions.ts";
import { crlDerOf, derOf } from "../der/pem.ts";
import { checkSignature, rsaPssSha384 } from "../der/signatures.ts";
import { checkValidity, parseCertificate } from "../der/x509.ts";
import { refuse, type FindingSink } from "../refuse.ts";
import type { TrustRoots } from "../trust-roots.ts";
import { knownIntermediate, type AmdIssuer } from "./known-issuers.ts";
import { productOfCommonName } from "./products.ts";
import { parseEndorsementKey, type EndorsementKey } from "./vek.ts";

/** Everything besides the report that SNP verification takes: DER, or PEM as users keep files. */
export interface AmdEndorsements {
  /** VCEK or VLEK. */
  readonly vek?: Uint8Array | undefined;
  /** ASK or ASVK, alone or with the ARK behind it as AMD's `cert_chain` has it; with the built-in roots AMD's own is known. */
  readonly ask?: Uint8Array | undefined;
  /** Checked against the trusted roots, never trusted; only needed when a list or chain is to be shown whole. */
  readonly ark?: Uint8Array | undefined;
  readonly crl?: Uint8Array | undefined;
}

/** An endorsement key whose chain holds at one moment. Only {@link verifyEndorsements} makes one. */
export interface VerifiedEndorsements {
  readonly at: number;
  readonly key: EndorsementKey;
  readonly intermediate: AmdIssuer;
  readonly root: AmdIssuer;
  /** `undefined`: no list was given, so nothing is known about revocation. */
  readonly crl: RevocationList | undefined;
  readonly expiresAt: number;
  readonly roots: TrustRoots;
}

/** Verifies VEK, ASK or ASVK, ARK and the list. Reference C 2.2 steps 3 and 4; all independent reasons land in the sink. */
export function verifyEndorsements(
  raw: AmdEndorsements,
  context: { readonly roots: TrustRoots; readonly at: Date },
  sink: FindingSink,
): VerifiedEndorsements | undefined {
  const at = context.at.getTime();
  const key = sink.attempt(() => {
    if (raw.vek === undefined) {
      throw refuse("VEK_MISSING", {
        path: "endorsements.vek",
        message: "the endorsement key certificate (VCEK or VLEK) is missing",
        hint: "give it with --vek, or fetch it: ociseal attest collateral fetch",
      });
    }
    return parseEndorsementKey(onlyCertificate(raw.vek, "endorsements.vek"), "endorsements.vek");
  });
  if (key === undefined) return undefined;
  const root = sink.attempt(() => findRoot(key, raw.ark, context.roots, at));
  if (root === undefined) return undefined;
  const intermediate = sink.attempt(() => findIntermediate(key, raw.ask, root, context.roots, at));
  if (intermediate !== undefined) sink.attempt(() => checkKey(key, intermediate, at));
  const crl = sink.attempt(() => (raw.crl === undefined ? undefined : checkList(raw.crl, root, intermediate, at)));
  if (raw.crl === undefined) {
    sink.add({
      code: "CRL_MISSING",
      severity: "warning",
      path: "endorsements.crl",
      message: "no AMD revocation list was given, so a revoked ASK or ASVK would not be noticed",
      hint: "give it with --crl, or fetch it: ociseal attest collateral fetch",
    });
  }
  if (intermediate === undefined || sink.refused()) return undefined;
  const ends = [key.certificate.notAfter, intermediate.notAfter, root.notAfter, crl?.nextUpdate ?? Number.POSITIVE_INFINITY];
  return { at, key, intermediate, root, crl, expiresAt: Math.min(...ends), roots: context.roots };
}

function findRoot(key: EndorsementKey, ark: Uint8Array | undefined, roots: TrustRoots, at: number): AmdIssuer {
  const root = roots.amd.find(({ product }) => product === key.product);
  const given = ark === undefined ? undefined : parseCertificate(onlyCertificate(ark, "endorsements.ark"), "endorsements.ark");
  if (root === undefined || (given !== undefined && given.fingerprint !== root.fingerprint)) {
    throw refuse("TRUST_ROOT_UNKNOWN", {
      path: "endorsements.ark",
      message:
        roots.source === "built-in" ? "the chain does not end at AMD's root for this product" : "the chain does not end at a supplied root",
      expected: root?.fingerprint ?? `an ARK for ${key.product}`,
      actual: given?.fingerprint ?? "none",
      hint: roots.source === "built-in" ? "for a private PKI give its ARK with --trust-root" : undefined,
    });
  }
  checkValidity({ ...root, path: "endorsements.ark", subjectCommonName: root.commonName }, at);
  return root;
}

function findIntermediate(key: EndorsementKey, ask: Uint8Array | undefined, root: AmdIssuer, roots: TrustRoots, at: number): AmdIssuer {
  const role = key.kind === "VCEK" ? "ask" : "asvk";
  const path = "endorsements.ask";
  if (ask === undefined) {
    const known = roots.source === "built-in" ? knownIntermediate(key.product, role) : undefined;
    if (known === undefined)
      throw refuse("CERTIFICATE_MISSING", {
        path,
        message: `the ${role.toUpperCase()} certificate between ${key.kind} and root is missing`,
        hint: "give it with --ask",
      });
    checkValidity({ ...known, path, subjectCommonName: known.commonName }, at);
    return known;
  }
  const certificate = parseCertificate(firstOfChain(ask, path), path);
  const named = productOfCommonName(certificate.subjectCommonName);
  if (named?.role !== role || named.product !== key.product) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: `the certificate is not the ${role.toUpperCase()} of ${key.product}`,
      expected: role === "ask" ? `SEV-${key.product}` : `SEV-VLEK-${key.product}`,
      actual: certificate.subjectCommonName,
    });
  }
  if (!certificate.isCa || certificate.keyUsage?.has(keyUsageBits.keyCertSign) !== true) {
    throw refuse("CERTIFICATE_ROLE_WRONG", { path, message: `${certificate.subjectCommonName} is not a certificate authority` });
  }
  if (certificate.issuerCommonName !== root.commonName) {
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", {
      path,
      message: "the intermediate is not issued by the root",
      expected: root.commonName,
      actual: certificate.issuerCommonName,
    });
  }
  checkSignature(certificate, rsaPssSha384, { publicKey: root.publicKey, name: root.commonName });
  checkValidity(certificate, at);
  return {
    ...named,
    commonName: certificate.subjectCommonName,
    serial: certificate.serial,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    fingerprint: certificate.fingerprint,
    publicKey: certificate.publicKey,
  };
}

function checkKey(key: EndorsementKey, intermediate: AmdIssuer, at: number): void {
  const { certificate } = key;
  const { path } = certificate;
  if (certificate.issuerCommonName !== intermediate.commonName) {
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", {
      path,
      message: `the ${key.kind} is not issued by the intermediate`,
      expected: intermediate.commonName,
      actual: certificate.issuerCommonName,
    });
  }
  checkSignature(certificate, rsaPssSha384, { publicKey: intermediate.publicKey, name: intermediate.commonName });
  const { publicKey } = certificate;
  if (publicKey.asymmetricKeyType !== "ec" || publicKey.asymmetricKeyDetails?.namedCurve !== "secp384r1") {
    throw refuse("KEY_UNUSABLE", { path, message: `the ${key.kind} is not a P-384 key` });
  }
  checkValidity(certificate, at);
}

function checkList(bytes: Uint8Array, root: AmdIssuer, intermediate: AmdIssuer | undefined, at: number): RevocationList {
  const list = parseRevocationList(crlDerOf(bytes, "endorsements.crl"), "endorsements.crl");
  if (list.issuerCommonName !== root.commonName) {
    throw refuse("CRL_WRONG_ISSUER", {
      path: list.path,
      message: "the revocation list is not the root's",
      expected: root.commonName,
      actual: list.issuerCommonName,
    });
  }
  checkSignature(list, rsaPssSha384, { publicKey: root.publicKey, name: root.commonName });
  checkCurrent(list, at);
  if (intermediate !== undefined && list.revoked.has(intermediate.serial)) {
    throw refuse("CERTIFICATE_REVOKED", {
      path: "endorsements.ask",
      message: `AMD has revoked ${intermediate.commonName}`,
      actual: intermediate.serial,
    });
  }
  return list;
}

function onlyCertificate(bytes: Uint8Array, path: string): Buffer {
  const [der, more] = derOf(bytes, path);
  if (der === undefined || more !== undefined)
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", { path, message: "the file holds more than the one certificate that belongs here" });
  return der;
}

/** ASK first, then at most the ARK; a trailing root is not needed and not believed. */
function firstOfChain(bytes: Uint8Array, path: string): Buffer {
  const [der, , more] = derOf(bytes, path);
  if (der === undefined || more !== undefined)
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", { path, message: "the file holds more than an intermediate and its root" });
  return der;
}
