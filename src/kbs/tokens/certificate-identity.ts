import type { AdminIdentity } from "./admin-tokens.ts";
import { builtInRoles, type Grant } from "./grants.ts";

/** What a client certificate must say, exactly; at least one member. */
export interface CertificateRule {
  readonly commonName?: string | undefined;
  /** As Node prints it: `DNS:ci.example.com`, `URI:spiffe://example/ci`. */
  readonly alternativeName?: string | undefined;
  /** SHA-256, hex, colons allowed. */
  readonly fingerprint?: string | undefined;
  readonly roles: readonly string[];
}

/** The certificate of a client, verified against the configured authorities. */
export interface PresentedCertificate {
  readonly commonName: string;
  readonly alternativeNames: readonly string[];
  readonly fingerprint: string;
}

/** Gives roles to client certificates: the first rule all of whose members fit. */
export function certificateIdentities(
  rules: readonly CertificateRule[],
  roles: Readonly<Record<string, readonly Grant[]>>,
): (certificate: PresentedCertificate) => AdminIdentity | undefined {
  const table = { ...builtInRoles, ...roles };
  return (certificate) => {
    const rule = rules.find((candidate) => fits(candidate, certificate));
    if (rule === undefined) return undefined;
    return {
      subject: certificate.alternativeNames[0] ?? certificate.commonName,
      roles: rule.roles,
      grants: rule.roles.flatMap((role) => (Object.hasOwn(table, role) ? (table[role] ?? []) : [])),
      tokenId: undefined,
      issuer: "certificate",
    };
  };
}

function fits(rule: CertificateRule, certificate: PresentedCertificate): boolean {
  const { commonName, alternativeName, fingerprint } = rule;
  if (commonName === undefined && alternativeName === undefined && fingerprint === undefined) return false;
  return (
    (commonName === undefined || commonName === certificate.commonName) &&
    (alternativeName === undefined || certificate.alternativeNames.includes(alternativeName)) &&
    (fingerprint === undefined || fingerprint.replaceAll(":", "").toLowerCase() === certificate.fingerprint)
  );
}
