import { amdRoots, type AmdIssuer } from "./amd/known-issuers.ts";
import { AttestationError, Refusal } from "./errors.ts";
import { derOf } from "./der/pem.ts";
import { checkSignature, ecdsaP256Sha256, rsaPssSha384 } from "./der/signatures.ts";
import { parseCertificate, type Certificate } from "./der/x509.ts";
import { productOfCommonName } from "./amd/products.ts";

/** Where chains may end. Made by {@link builtInRoots} or {@link parseTrustRoots}; never both at once. */
export interface TrustRoots {
  readonly source: "built-in" | "supplied";
  /** SHA-256 of the root certificates that Intel chains may end at, lower-case hex. */
  readonly intel: ReadonlySet<string>;
  readonly amd: readonly AmdIssuer[];
}

/** SHA-256 of the Intel SGX Root CA certificate, valid until 2049-12-31. Source: reference C 2.5, computed from the certificate. */
const intelSgxRootCa = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3";

/** The vendors' own roots: one of Intel, three of AMD. */
export function builtInRoots(): TrustRoots {
  return { source: "built-in", intel: new Set([intelSgxRootCa]), amd: amdRoots() };
}

/**
 * Roots that the caller supplies instead of the built-in ones: self-signed certificates, PEM or DER, of the kinds that
 * the vendors use (P-256 for Intel's PKI, RSA-4096-PSS named `ARK-…` for AMD's). Every result that rests on them says so.
 * Throws `ERR_TRUST_ROOT_MALFORMED`.
 */
export function parseTrustRoots(files: readonly Uint8Array[]): TrustRoots {
  const intel = new Set<string>();
  const amd: AmdIssuer[] = [];
  for (const [i, file] of files.entries()) {
    try {
      for (const der of derOf(file, `trustRoots[${i}]`)) addRoot(parseCertificate(der, `trustRoots[${i}]`), intel, amd);
    } catch (cause) {
      if (!(cause instanceof Refusal)) throw cause;
      throw malformed(`trust root ${i + 1} cannot be used: ${cause.message}`, cause);
    }
  }
  if (intel.size + amd.length === 0) throw malformed("no trust root was given");
  return { source: "supplied", intel, amd };
}

function addRoot(certificate: Certificate, intel: Set<string>, amd: AmdIssuer[]): void {
  const isAmd = certificate.publicKey.asymmetricKeyType === "rsa";
  const name = certificate.subjectCommonName;
  if (!certificate.isCa) throw malformed(`the certificate of ${name} is not a certificate authority`);
  if (!certificate.subject.equals(certificate.issuer)) throw malformed(`the certificate of ${name} is not self-signed`);
  checkSignature(certificate, isAmd ? rsaPssSha384 : ecdsaP256Sha256, { publicKey: certificate.publicKey, name });
  if (!isAmd) {
    intel.add(certificate.fingerprint);
    return;
  }
  const role = productOfCommonName(name);
  if (role?.role !== "ark") throw malformed(`an AMD root is named ARK- and its product, this one ${name}`);
  amd.push({ ...role, ...certificate, publicKey: certificate.publicKey, commonName: name });
}

function malformed(message: string, cause?: unknown): AttestationError {
  return new AttestationError("ERR_TRUST_ROOT_MALFORMED", {
    message,
    cause,
    hint: "give the self-signed root certificate of the PKI (Intel SGX Root CA, or an AMD ARK), PEM or DER",
  });
}
