import { keyUsageBits } from "../der/extensions.ts";
import { parsePemChain } from "../der/pem.ts";
import { checkSignature, ecdsaP256Sha256 } from "../der/signatures.ts";
import { checkValidity, parseCertificate, type Certificate } from "../der/x509.ts";
import { refuse } from "../refuse.ts";
import type { TrustRoots } from "../trust-roots.ts";
import { checkListOf, unknownRoot, type VerifiedIntelCollateral } from "./collateral.ts";
import { parsePckExtension, type VerifiedPck } from "./pck.ts";

const pckName = "Intel SGX PCK Certificate";

/**
 * Verifies leaf, intermediate and root against the collateral's root and lists. The chain comes from the attacker:
 * exactly three certificates in this order, the last byte for byte the pinned root. Reference C 2.1 steps 1 to 5.
 */
export function verifyPckChain(pem: Uint8Array | string, collateral: VerifiedIntelCollateral, path: string): VerifiedPck {
  const { verifiedChains } = collateral;
  const bytes = typeof pem === "string" ? Buffer.from(pem, "utf8") : pem;
  const known = verifiedChains.get(bytes);
  if (known !== undefined) {
    // The collateral may be used at another moment than when the chain was verified; the root's window is the collateral's.
    checkValidity(known.intermediate, collateral.at);
    checkValidity(known.leaf, collateral.at);
    return known;
  }
  const verified = verifyChain(bytes, collateral, path);
  verifiedChains.set(bytes, verified);
  return verified;
}

function verifyChain(pem: Uint8Array, collateral: VerifiedIntelCollateral, path: string): VerifiedPck {
  const { root, rootCrl, pckCrl, at, roots } = collateral;
  const { leaf, intermediate, last, extension } = verifyLinks(pem, { at, roots }, path);
  if (last.fingerprint !== root.fingerprint) throw unknownRoot(path, roots, [last.fingerprint]);
  if (rootCrl.revoked.has(intermediate.serial)) {
    throw refuse("CERTIFICATE_REVOKED", { path: intermediate.path, message: `the root revoked ${intermediate.subjectCommonName}` });
  }
  checkListOf(pckCrl, intermediate);
  if (pckCrl.revoked.has(leaf.serial)) {
    throw refuse("PCK_REVOKED", { path: leaf.path, message: "the platform's PCK certificate is revoked", actual: leaf.serial });
  }
  return { leaf, intermediate, extension };
}

/** Leaf, intermediate and a root that is trusted, without any list: whether Intel issued the chain, not whether it is still good. */
export function verifyLinks(
  pem: Uint8Array | string,
  { at, roots }: { readonly at: number; readonly roots: TrustRoots },
  path: string,
): VerifiedPck & { readonly last: Certificate } {
  const ders = parsePemChain(pem, path);
  if (ders.length !== 3)
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", {
      path,
      message: `the PCK chain has ${ders.length} certificates, not leaf, intermediate and root`,
    });
  const [leaf, intermediate, last] = ders.map((der, i) => parseCertificate(der, `${path}[${i}]`));
  if (leaf === undefined || intermediate === undefined || last === undefined) throw unknownRoot(path, roots, []);
  if (!roots.intel.has(last.fingerprint)) throw unknownRoot(path, roots, [last.fingerprint]);
  checkIntermediate(intermediate, last);
  checkLeaf(leaf, intermediate);
  checkValidity(last, at);
  checkValidity(intermediate, at);
  checkValidity(leaf, at);
  return { leaf, intermediate, last, extension: parsePckExtension(leaf) };
}

function checkIntermediate(intermediate: Certificate, root: Certificate): void {
  const { path } = intermediate;
  if (!intermediate.issuer.equals(root.subject))
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", { path, message: "the intermediate certificate is not issued by the root" });
  if (!intermediate.isCa || intermediate.keyUsage?.has(keyUsageBits.keyCertSign) !== true) {
    throw refuse("CERTIFICATE_ROLE_WRONG", { path, message: `${intermediate.subjectCommonName} is not a certificate authority` });
  }
  if (!/\bCA\b/.test(intermediate.subjectCommonName)) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: "the intermediate is not named as a PCK CA",
      actual: intermediate.subjectCommonName,
    });
  }
  checkSignature(intermediate, ecdsaP256Sha256, { publicKey: root.publicKey, name: root.subjectCommonName });
}

function checkLeaf(leaf: Certificate, intermediate: Certificate): void {
  const { path } = leaf;
  if (!leaf.issuer.equals(intermediate.subject))
    throw refuse("CERTIFICATE_CHAIN_MALFORMED", { path, message: "the PCK certificate is not issued by the intermediate" });
  if (leaf.isCa || leaf.keyUsage?.has(keyUsageBits.digitalSignature) !== true) {
    throw refuse("CERTIFICATE_ROLE_WRONG", { path, message: "the PCK certificate is a certificate authority, or may not sign" });
  }
  if (leaf.subjectCommonName !== pckName) {
    throw refuse("CERTIFICATE_ROLE_WRONG", {
      path,
      message: "the leaf is not a PCK certificate",
      expected: pckName,
      actual: leaf.subjectCommonName,
    });
  }
  checkSignature(leaf, ecdsaP256Sha256, { publicKey: intermediate.publicKey, name: intermediate.subjectCommonName });
}
