import { Rejection } from "../report.ts";
import type { CertificateAuthorities } from "./anchors.ts";
import { parseCertificate, type Certificate } from "./certificate.ts";
import { certificatesOf } from "./pem.ts";

const maxDepth = 6;
const codeSigning = "1.3.6.1.5.5.7.3.3";
const anyUsage = "2.5.29.37.0";

/** Critical extensions whose meaning is checked here. A certificate with another one is refused: RFC 5280 section 4.2. */
const understood: ReadonlySet<string> = new Set(["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"]);

/**
 * Checks that a leaf certificate for code signing chains to one of the given roots at a time.
 *
 * This is for authorities that a containers-policy.json names without more; everything with a trusted root goes through
 * `@sigstore/verify`. Names, signatures, validity, CA and path length are checked, extended key usage must allow code
 * signing on every certificate below the root that restricts it; name constraints are not understood, hence refused when
 * critical (RFC 5280 demands that they are). Throws {@link Rejection}.
 *
 * @param chainPem - what the signer sent along: untrusted intermediates, and a root last, which is ignored.
 */
export function checkChain(
  leaf: Certificate,
  chainPem: string,
  { roots, intermediates, source }: CertificateAuthorities,
  time: Date,
): void {
  const trusted = parsed(certificatesOf(roots.toString("latin1")));
  if (trusted.length === 0) throw new Rejection("certificate", `${source} holds no certificate`);
  const sent = certificatesOf(chainPem);
  const between = parsed([...certificatesOf(intermediates?.toString("latin1") ?? ""), ...sent.slice(0, Math.max(0, sent.length - 1))]);
  if (!isUsable(leaf, time, "leaf"))
    throw new Rejection("certificate", `its certificate was not valid at ${time.toISOString()}, or is not for code signing`);
  if (!climb(leaf, between, trusted, time, 0))
    throw new Rejection("certificate", `its certificate does not chain to ${source} at ${time.toISOString()}`);
}

function parsed(ders: readonly Buffer[]): readonly Certificate[] {
  return ders.map(parseCertificate);
}

/** @param below - CA certificates between this one and the leaf. */
function climb(child: Certificate, between: readonly Certificate[], trusted: readonly Certificate[], time: Date, below: number): boolean {
  if (below > maxDepth) return false;
  if (trusted.some((root) => isIssuer(root, child, below) && isUsable(root, time, "root"))) return true;
  return between.some(
    (node) =>
      node !== child &&
      isIssuer(node, child, below) &&
      isUsable(node, time, "intermediate") &&
      climb(
        node,
        between.filter((other) => other !== node),
        trusted,
        time,
        below + 1,
      ),
  );
}

function isIssuer(issuer: Certificate, child: Certificate, below: number): boolean {
  const limit = issuer.sigstore.extBasicConstraints?.pathLenConstraint;
  return (
    issuer.sigstore.isCA &&
    (limit === undefined || limit >= BigInt(below)) &&
    child.node.checkIssued(issuer.node) &&
    child.node.verify(issuer.key)
  );
}

function isUsable({ node, sigstore }: Certificate, time: Date, role: "leaf" | "intermediate" | "root"): boolean {
  if (!sigstore.validForDate(time)) return false;
  if (!sigstore.extensions.every((extension) => isUnderstood(extension.subs))) return false;
  // Node's `keyUsage` is the extended key usage.
  const usages: readonly string[] | undefined = node.keyUsage;
  if (usages === undefined) return true;
  return role === "root" || usages.includes(codeSigning) || usages.includes(anyUsage);
}

function isUnderstood(parts: Certificate["sigstore"]["extensions"][number]["subs"]): boolean {
  const isCritical = parts.length === 3 && parts[1]?.value[0] === 0xff;
  return !isCritical || understood.has(parts[0]?.toOID() ?? "");
}
