import type { ContentReader } from "../store/index.ts";
import { SigningError } from "./errors.ts";
import { signaturePredicate } from "./formats.ts";
import type { Finding, SignatureReport } from "./report.ts";

const reasonsInMessage = 3;

/** The first reasons why signatures did not count, for a message. */
export function reasonsOf(findings: readonly Finding[]): string {
  const rejected = findings.filter((finding) => finding.verdict === "rejected");
  const reasons = rejected.slice(0, reasonsInMessage).map(({ location, reason }) => `${location}: ${reason}`);
  const others = rejected.length - reasons.length;
  return `${reasons.join("; ")}${others > 0 ? `; and ${others} more` : ""}`;
}

/** Why an image is refused when no signature counts; the report stands in `details`. */
export function refusal(store: ContentReader, report: SignatureReport, predicateType: string): SigningError {
  const { findings, leftOut, target } = report;
  const what = predicateType === signaturePredicate ? "signature" : `attestation of type ${predicateType}`;
  if (findings.length === 0 && leftOut === 0) {
    return new SigningError("ERR_SIGNATURE_MISSING", {
      message: `${target.digest} in ${store.name} has no ${what}`,
      hint: "sign it (ociseal sign), or copy its signatures with it (ociseal copy --referrers)",
      details: { report },
    });
  }
  if (leftOut > 0) {
    return new SigningError("ERR_SIGNATURE_LIMIT", {
      message: `none of the ${findings.length} examined signatures of ${target.digest} in ${store.name} counts, and ${leftOut} more were not examined (${reasonsOf(findings)})`,
      hint: "somebody floods the image with signatures; look at the registry, remove them, and verify again",
      details: { report },
    });
  }
  return new SigningError("ERR_SIGNATURE_REJECTED", {
    message: `no ${what} of ${target.digest} in ${store.name} counts (${reasonsOf(findings)})`,
    hint: "check that the key or identity is the signer's; --json lists every signature with the check that it failed",
    details: { report },
  });
}
