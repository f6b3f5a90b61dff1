import { quote } from "../quote.ts";
import { Rejection } from "../report.ts";
import type { CertificateIdentity } from "./anchors.ts";
import type { Certificate } from "./certificate.ts";
import { describeRule, meets } from "./text-rule.ts";

/** Who a certificate says signed. */
export interface NamedIdentity {
  /** Subject alternative names that Fulcio issues: URI, e-mail, other name. */
  readonly subjects: readonly string[];
  readonly email: string | undefined;
  readonly issuer: string | undefined;
}

/** Source: sigstore/fulcio docs/oid-info.md. */
const oids = { issuer: "1.3.6.1.4.1.57264.1.1", issuerV2: "1.3.6.1.4.1.57264.1.8", otherName: "1.3.6.1.4.1.57264.1.7" } as const;

/** Reads the names of a certificate. Throws {@link Rejection} when it contradicts itself. */
export function identityOf({ sigstore: certificate }: Certificate): NamedIdentity {
  try {
    const names = certificate.extSubjectAltName;
    const email = names?.rfc822Name;
    const subjects = [names?.uri, email, names?.otherName(oids.otherName)].filter((name) => name !== undefined);
    const raw = certificate.extension(oids.issuer)?.value.toString("utf8");
    const encoded = certificate.extension(oids.issuerV2)?.valueObj.subs[0]?.value.toString("utf8");
    if (raw !== undefined && encoded !== undefined && raw !== encoded) {
      throw new Rejection("certificate", `its certificate names two issuers, ${quote(raw)} and ${quote(encoded)}`);
    }
    return { subjects, email, issuer: encoded ?? raw };
  } catch (cause) {
    if (cause instanceof Rejection) throw cause;
    throw new Rejection("certificate", "its certificate has malformed extensions", cause);
  }
}

/** Checks the verified names by the rule. Throws {@link Rejection}, naming what was found. */
export function checkIdentity(rule: CertificateIdentity, { subjects, email, issuer }: NamedIdentity, { node }: Certificate): void {
  switch (rule.kind) {
    case "sigstore": {
      const found = subjects.length === 0 ? "none" : subjects.map(quote).join(", ");
      if (!subjects.some((subject) => meets(rule.subject, subject)))
        throw new Rejection("identity", `its certificate is of ${found} (expected ${describeRule(rule.subject)})`);
      if (issuer === undefined || !meets(rule.issuer, issuer)) throw wrongIssuer(issuer, describeRule(rule.issuer));
      return;
    }
    case "email":
      if (email !== rule.email) throw wrongEmail(email, rule.email);
      if (issuer !== rule.issuer) throw wrongIssuer(issuer, quote(rule.issuer));
      return;
    case "pki":
      if (rule.email !== undefined && email !== rule.email) throw wrongEmail(email, rule.email);
      if (rule.hostname !== undefined && node.checkHost(rule.hostname, { subject: "never" }) === undefined) {
        throw new Rejection("identity", `its certificate is not of the host ${quote(rule.hostname)}`);
      }
  }
}

function wrongIssuer(found: string | undefined, expected: string): Rejection {
  return new Rejection(
    "identity",
    `its certificate names the issuer ${found === undefined ? "not at all" : quote(found)} (expected ${expected})`,
  );
}

function wrongEmail(found: string | undefined, expected: string): Rejection {
  return new Rejection(
    "identity",
    `its certificate is of ${found === undefined ? "no e-mail address" : quote(found)} (expected ${quote(expected)})`,
  );
}
